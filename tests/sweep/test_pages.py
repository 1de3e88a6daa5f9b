"""The pages of a sweep's trials: drawn for its front when it ends, and for another trial when asked."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from tests.helpers.sweep_helpers import TINY, children, kill, run, start, trial_states, wait_for

from scballast.commands.report_command import main as report_command

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


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep that was killed while it drew, and given again."""
    runs = tmp_path_factory.mktemp("pages") / "runs"
    log = runs.parent / "log.txt"
    first = start(runs, *SWEEP, OBJECTIVES)
    wait_for(lambda: "drawing reports of the Pareto front: 1 trial" in log.read_text(), "the drawing")
    kill(first)
    assert not list(runs.glob("results/*/report.html"))
    assert "drawing reports of the Pareto front: 1 trial" in run(runs, *SWEEP, OBJECTIVES)
    assert trial_states(runs) == {"COMPLETE": 3}
    return runs


def test_the_front_has_pages_and_the_others_say_how_to_get_one(swept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trials = pd.read_csv(swept / "sweeps" / "drawn" / "trials.csv")
    assert trials["pareto"].sum() == 1
    for trial, on_front in zip(trials["trial"], trials["pareto"], strict=True):
        artifacts = pages(swept)[trial]
        (folder,) = (swept / "results").glob(f"trial{trial}-*")
        assert (artifacts / "tables" / "stability.csv").is_file()
        for place in (artifacts, folder):
            assert (place / "report.html").is_file() == on_front
            assert (place / "figures").is_dir() == on_front
        note = children(swept)[artifacts.parent.name]["mlflow.note.content"]
        assert ("Details: `report.html`." in note) == on_front
        assert (f"Details: the report that `scballast report {folder.name}` draws." in note) != on_front
    dominated = int(trials.loc[~trials["pareto"], "trial"].iloc[0])
    artifacts = pages(swept)[dominated]
    (folder,) = (swept / "results").glob(f"trial{dominated}-*")
    assert report_command([artifacts.parent.name, "--runs-dir", str(swept), "--no-browser"]) == 0
    assert capsys.readouterr().out == f"{folder / 'report.html'}\n"
    assert (artifacts / "report.html").read_bytes() == (folder / "report.html").read_bytes()
    note = children(swept)[artifacts.parent.name]["mlflow.note.content"]
    assert "Details: `report.html`." in note
