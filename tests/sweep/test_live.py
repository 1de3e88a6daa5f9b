"""The table of a sweep on the terminal: what it says of each trial, and that processes share the terminal with it."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from scballast.config import keys
from scballast.config.schema import build_config
from scballast.progress import is_progress_line, progress_line
from scballast.sweep.identity import Identity
from scballast.sweep.live import LiveSweep
from scballast.sweep.space import split_words
from scballast.sweep.standing import seconds_left, standing, standing_description
from scballast.sweep.storage import storage_address
from scballast.sweep.study import SweepStudy

_, SPACE = split_words(["model.n_latent=5,10,20,30", "seed=1"], {})
METRICS = ("fit/heldout_nll", "stability/contrast")


@pytest.fixture
def study(tmp_path: Path) -> SweepStudy:
    """A raced grid of four: one whole, one stopped after two pairs, one after its second pair, one waiting."""
    directions = ("minimize", "maximize")
    config = build_config(
        {
            "resample": {"n_replicates": 6},
            "objectives": [{"metric": m, "direction": d} for m, d in zip(METRICS, directions, strict=True)],
        }
    )
    identity = Identity("grid", "pbmc", "d" * 40, {}, [])
    points = [{"model.n_latent": n} for n in (5, 10, 20, 30)]
    study = SweepStudy.create_or_resume("s", storage_address(None, tmp_path), config, SPACE, identity, points)
    pairs = ([[710.0, 700.0, 720.0], [0.8, 0.9, 0.7]], [[800.0, 810.0], [0.3, 0.4]], [[705.0, 695.0], [0.5, 0.5]])
    for own in pairs:
        claim = study.claim(lambda _: None)
        assert claim is not None
        study.note(claim.number, {keys.PAIRS: json.dumps(dict(zip(METRICS, own, strict=True)))})
    study.complete(0, {"fit/heldout_nll": 710.5, "stability/contrast": 0.81}, {})
    study.note(1, {keys.RUNG: "4"})
    study.stop(1, {})
    return study


def drawn(study: SweepStudy, *, width: int = 100) -> list[str]:
    console = Console(width=width, height=24, no_color=True, highlight=False)
    with console.capture() as capture:
        console.print(LiveSweep(study).render(console))
    return capture.get().splitlines()


def test_the_table_says_replicates_values_with_their_error_and_the_front(study: SweepStudy) -> None:
    lines = drawn(study)
    head, rows = lines[1], [" ".join(line.split()) for line in lines[3:6]]
    assert "fit/heldout_nll ↓" in head
    assert "stability/contrast ↑" in head
    # Means and standard errors over pairs by hand: sd 10 and 0.1 of three pairs, over the root of 3.
    assert rows[0] == "★★ 0 n_latent=5 6 710.5 ±5.8 0.81 ±0.058"
    assert rows[1] == "1 n_latent=10 stopped at 4 of 6 805 ±5 0.35 ±0.05"
    assert rows[2] == "2 n_latent=20 4 of 6 700 ±5 0.5 ±0"
    assert len([line for line in lines if "n_latent" in line]) == 3  # what waits is counted, not listed


def test_of_many_trials_those_under_way_and_the_front_stay(study: SweepStudy) -> None:
    now = standing(study, study.trials(), most_rows=2, with_errors=False)
    assert [row.cells[:2] for row in now.rows] == [("★★ 0", "n_latent=5"), ("2", "n_latent=20")]
    assert now.legend.startswith("1 more that have ended; ")


@pytest.mark.parametrize("width", [40, 60, 80])
def test_the_table_fits_the_terminal(study: SweepStudy, width: int) -> None:
    lines = drawn(study, width=width)
    assert max(map(len, lines)) <= width
    assert ("±" in "".join(lines)) == (width >= 70)


def test_the_run_in_mlflow_says_the_same_while_the_sweep_is_under_way(study: SweepStudy) -> None:
    lines = standing_description(study).splitlines()
    assert lines[0].startswith("**Under way: 1 done, 0 failed, 1 stopped early, 4 in all.** Best so far: ")
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 5
    assert {line.count("|") for line in table} == {6}
    assert "stopped at 4 of 6" in table[3]


def test_the_time_left_follows_from_the_trials_that_have_ended(study: SweepStudy) -> None:
    assert seconds_left([], 3) is None
    trials = study.trials()
    ended = [trial for trial in trials if trial.datetime_complete is not None]
    mean = sum((t.datetime_complete - t.datetime_start).total_seconds() for t in ended) / len(ended)  # type: ignore[operator]
    assert seconds_left(ended, 4) == pytest.approx(4 * mean)


def test_a_line_in_place_of_a_bar_is_known_as_one() -> None:
    assert is_progress_line(progress_line("training LDVAE per population", 40, "models"))
    assert is_progress_line(progress_line("reading", 5))
    assert is_progress_line("training ldvae (global): 3 of 10 models are taken from the cache")
    assert not is_progress_line("Warning: 3 cells have no counts.")
    assert not is_progress_line("Trial 3 (model.n_latent=10) done, 12 s. 4 done, 0 failed, 6 in all.")


SCRIPT = """
import subprocess, sys
from scballast.commands.output import forgive_characters
from scballast.sweep.live import live_sweep
forgive_characters()
try:
    with live_sweep() as terminal:
        subprocess.run(["sh", "-c", "(echo from a process; echo training LDVAE: 40 models; sleep 0.3) >&2"], check=True)
        print("from here", file=sys.stderr)
        assert sys.stderr.isatty() is (sys.argv[1] == "plain")
        raise ValueError
except ValueError:
    assert sys.stderr.isatty()
    print("after it", file=sys.stderr)
"""


@pytest.mark.parametrize("kind", ["live", "plain"])
def test_processes_write_above_the_table_and_the_terminal_is_given_back(kind: str) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm" if kind == "live" else "dumb"}
    command = [sys.executable, "-c", SCRIPT, kind]
    process = subprocess.Popen(command, stderr=theirs, stdin=theirs, stdout=theirs, env=environment)
    os.close(theirs)
    said = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the terminal's other end is closed
            break
        if not part:
            break
        said += part
    os.close(ours)
    assert process.wait(60) == 0, said.decode()
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).strip() for line in said.decode().splitlines()]
    assert [line for line in lines if line in ("from a process", "from here", "after it")] == [
        "from a process",
        "from here",
        "after it",
    ]
    # What a process is at is no line of its own where there is a table.
    assert ("training LDVAE: 40 models" in lines) is (kind == "plain")
    assert any(line.endswith("training LDVAE: 40 models") for line in lines)
