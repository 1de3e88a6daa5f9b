"""What is left of all stages, told beside each stage's own bar."""

from __future__ import annotations

import pytest

from scballast import progress
from scballast.progress import TimeLeft, expected_to_take, is_progress_line, progress_bar


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_what_is_left_is_this_stage_and_those_to_come(clock: list[float]) -> None:
    left = TimeLeft((10.0, 100.0, 30.0))
    assert left.seconds() == 140.0
    clock[0] = 4.0
    assert left.seconds() == 136.0
    # The baselines came from the cache: training begins early.
    left.begin("training ldvae (global)")
    assert left.seconds() == 130.0
    clock[0] = 54.0
    left.begin("training ldvae per population")
    assert left.seconds() == 80.0
    # It takes longer than it did: nothing is left of it, and the rest is still to come.
    clock[0] = 204.0
    assert left.seconds() == 30.0
    left.begin("held-out fit")
    clock[0] = 214.0
    left.begin("scoring models")
    assert left.seconds() == 20.0
    # A stage is not begun again.
    left.begin("scoring baselines")
    assert left.seconds() == 20.0


def test_the_line_of_a_bar_says_it_where_it_is_known(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    with expected_to_take((10.0, 200.0, 90.0)), progress_bar("training ldvae (global)", 10, unit="models"):
        pass
    with expected_to_take(None), progress_bar("training ldvae (global)", 10, unit="models"):
        pass
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "training ldvae (global): 10 models, about 5 min left in all",
        "training ldvae (global): 10 models",
    ]
    assert all(map(is_progress_line, lines))
