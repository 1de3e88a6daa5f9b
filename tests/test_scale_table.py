"""The table of seconds and memory by stage: from the events of runs that were killed and went on, by hand."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
from tests.benchmarks.scale_experiment import costs, exponent, has_ended, of_all_runs, table
from tests.benchmarks.staged_command import Gauge


def written(path: Path, *events: tuple[str, bool, float, float, float]) -> Path:
    keys = ("stage", "begins", "wall", "processor", "peak")
    path.write_text(
        "".join(json.dumps(dict(zip(keys, event, strict=True))) + "\n" for event in events), encoding="utf-8"
    )
    return path


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    killed = written(
        tmp_path / "events-100-000.jsonl",
        ("command", True, 0, 0, 1e8),
        ("load", True, 1, 1, 1e8),
        ("load", False, 5, 3, 7e8),
        ("baselines", True, 5, 3, 2e8),
        ("method: wilcoxon", True, 5, 3, 2e8),
        ("method: wilcoxon", False, 9, 6, 9e8),
        ("method: wilcoxon", True, 9, 6, 3e8),
    )
    ended = written(
        tmp_path / "events-100-001.jsonl",
        ("command", True, 0, 0, 1e8),
        ("load", True, 1, 1, 1e8),
        ("load", False, 2, 1.5, 4e8),
        ("baselines", True, 2, 1.5, 2e8),
        ("method: wilcoxon", True, 2, 1.5, 2e8),
        ("method: wilcoxon", False, 6, 4.5, 8e8),
        ("baselines", False, 6, 4.5, 3e8),
        ("command", False, 7, 5, 3e8),
    )
    return [killed, ended]


def test_a_killed_run_has_not_ended_and_its_parts_count(runs: list[Path]) -> None:
    assert [has_ended(path) for path in runs] == [False, True]
    first = costs(runs[0])
    assert (first["method: wilcoxon"].ended, first["method: wilcoxon"].processor) == (1, 3)
    assert first["baselines"].ended == 0
    assert first["baselines"].peak == 9e8  # of what ran within


def test_parts_that_are_kept_add_up_and_stages_are_those_of_the_last_run(runs: list[Path]) -> None:
    whole = of_all_runs(runs)
    assert (whole["method: wilcoxon"].ended, whole["method: wilcoxon"].processor) == (2, 6)
    assert whole["baselines"].processor == 3
    assert whole["load"].wall == 1
    assert whole["load"].peak == 7e8


def test_the_exponent_is_that_of_the_two_largest(runs: list[Path]) -> None:
    assert exponent([(10, 5.0), (100, 10.0), (1000, 100.0)]) == "1.00"
    assert exponent([(100, 10.0)]) == exponent([(10, 0.01), (100, 1.0)]) == ""
    lines = table({100: of_all_runs(runs), 1000: costs(runs[0])}).splitlines()
    (baselines,) = (line for line in lines if line.startswith("| baselines |"))
    assert "3.0 (4) | 0.90 | not ended | 0.90 |" in baselines


@pytest.mark.parametrize(("error", "ended"), [(None, True), (SystemExit(0), True), (SystemExit(1), False)])
def test_a_command_that_fails_has_not_ended(error: SystemExit | None, ended: bool, tmp_path: Path) -> None:
    gauge = Gauge(tmp_path / "events.jsonl", None)
    with pytest.raises(SystemExit) if error else nullcontext(), gauge.stage("command"):
        if error:
            raise error
    assert has_ended(tmp_path / "events.jsonl") is ended
