"""The pages of a sweep's trials: drawn for its front when it ends, and for another trial when asked."""

from __future__ import annotations

import signal
from pathlib import Path

import pandas as pd
import pytest
from tests.helpers.sweep_helpers import TINY, children, kill, parent, run, start, trial_states, wait_for

from scballast.commands.report_command import main as report_command
from scballast.sweep.pages import add_page
from scballast.tracking import Tracking, TrackingSettings

SWEEP = (
    *TINY,
    "-m",
    "sweep.name=drawn",
    "methods=[t_test,within_pca]",
    "programs.find=false",
    "rank.n_components=1,2,3",
)
OBJECTIVES = "objectives=[{metric: stability/within_pca, direction: maximize}]"


def pages(runs: Path) -> dict[int, Path]:
    """Return the artifacts of every trial's run by its number."""
    found = children(runs).items()
    return {int(tags["scballast.trial"]): runs / "artifacts" / run_id / "artifacts" for run_id, tags in found}


def folder_of(runs: Path, trial: int) -> Path:
    (folder,) = (runs / "results").glob(f"trial{trial}-*")
    return folder


def dominated(runs: Path) -> list[int]:
    """Return the trials that are not on the front."""
    trials = pd.read_csv(runs / "sweeps" / "drawn" / "trials.csv")
    return [int(trial) for trial in trials.loc[~trials["pareto"], "trial"]]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep that was interrupted while it drew, killed there when it was given again, and given once more."""
    runs = tmp_path_factory.mktemp("pages") / "runs"
    log = runs.parent / "log.txt"
    drawing = "drawing reports of the Pareto front: 1 trial"
    first = start(runs, *SWEEP, OBJECTIVES)
    wait_for(lambda: log.read_text().count(drawing) == 1, "the drawing")
    first.send_signal(signal.SIGINT)
    assert first.wait(60) == 0
    assert "Stopped. Reports of trials are left out; the same command draws them." in log.read_text()
    assert "Sweep drawn: 3 done, 0 failed, 3 in all." in log.read_text()
    second = start(runs, *SWEEP, OBJECTIVES)
    wait_for(lambda: log.read_text().count(drawing) == 2, "the drawing")
    kill(second)
    assert not list(runs.glob("results/*/report.html"))
    assert parent(runs)["status"] == "FINISHED"  # what the sweep found does not wait for pages
    assert drawing in run(runs, *SWEEP, OBJECTIVES)
    assert trial_states(runs) == {"COMPLETE": 3}
    return runs


def test_the_front_has_pages_and_the_others_say_how_to_get_one(swept: Path) -> None:
    trials = pd.read_csv(swept / "sweeps" / "drawn" / "trials.csv")
    assert trials["pareto"].sum() == 1
    for trial, on_front in zip(trials["trial"], trials["pareto"], strict=True):
        artifacts, folder = pages(swept)[trial], folder_of(swept, trial)
        assert (artifacts / "tables" / "stability.csv").is_file()
        for place in (artifacts, folder):
            assert (place / "report.html").is_file() == on_front
            assert (place / "figures").is_dir() == on_front
        note = children(swept)[artifacts.parent.name]["mlflow.note.content"]
        assert ("Details: `report.html`." in note) == on_front
        words = f"`scballast report {folder.name} --runs-dir {swept}`"
        assert (f"Details: the report that {words} draws." in note) != on_front
    assert not list((swept / "results").glob(".*"))


def test_another_page_is_drawn_when_asked_for_wherever_and_sent(
    swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = dominated(swept)
    monkeypatch.chdir(tmp_path)
    assert report_command([str(folder_of(swept, first)), "--no-browser"]) == 0
    assert capsys.readouterr() == (f"{folder_of(swept, first) / 'report.html'}\n", "")
    assert not list(tmp_path.iterdir())
    assert report_command([pages(swept)[second].parent.name, "--runs-dir", str(swept), "--no-browser"]) == 0
    for trial in (first, second):
        artifacts = pages(swept)[trial]
        assert (artifacts / "report.html").read_bytes() == (folder_of(swept, trial) / "report.html").read_bytes()
        assert "Details: `report.html`." in children(swept)[artifacts.parent.name]["mlflow.note.content"]


def test_a_page_whose_command_was_killed_before_it_was_sent_is_sent_by_the_next(swept: Path) -> None:
    trial = dominated(swept)[0]
    folder, artifacts = folder_of(swept, trial), pages(swept)[trial]
    for place in (folder, artifacts):
        (place / "report.html").unlink(missing_ok=True)
    add_page(folder)
    assert not (artifacts / "report.html").exists()
    Tracking(TrackingSettings(uri=None, experiment="scballast", runs_dir=swept)).sync()
    assert (artifacts / "report.html").read_bytes() == (folder / "report.html").read_bytes()
    assert len(children(swept)) == 3


def test_a_failed_run_stays_failed(swept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trial = dominated(swept)[0]
    folder, run_id = folder_of(swept, trial), pages(swept)[trial].parent.name
    (folder / "report.html").unlink(missing_ok=True)
    tracking = Tracking(TrackingSettings(uri=None, experiment="scballast", runs_dir=swept))
    tracking.fail_run(run_id, "an objective was not measured")
    assert report_command([folder.name, "--runs-dir", str(swept), "--no-browser"]) == 0
    assert capsys.readouterr().err == "The report stays out of MLflow: the run ended as FAILED.\n"
    assert (folder / "report.html").is_file()
    tracking.sync()
    assert children(swept)[run_id]["status"] == "FAILED"
    assert children(swept)[run_id]["scballast.failure"] == "an objective was not measured"
