"""A launcher that waits for workers which are gone is not waited for; one whose workers are at work or queue is."""

from __future__ import annotations

import dataclasses
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scballast.config import keys
from scballast.config.schema import build_config
from scballast.sweep import watch
from scballast.sweep.identity import Identity
from scballast.sweep.space import split_words
from scballast.sweep.storage import storage_address
from scballast.sweep.study import SweepStudy
from scballast.sweep.watch import released_when_over
from scballast.tracking.liveness import current_process

_, SPACE = split_words(["model.n_latent=5,10"], {})
FOR_EVER = 8.0


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepStudy:
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(watch, "ENDING_SECONDS", 0.2)
    monkeypatch.setattr(watch, "SILENT_SECONDS", 0.2)
    config = build_config({"objectives": [{"metric": "stability/contrast", "direction": "maximize"}]})
    points = [{"model.n_latent": n} for n in (5, 10)]
    identity = Identity("grid", "pbmc", "d" * 40, {}, [])
    return SweepStudy.create_or_resume("s", storage_address(None, tmp_path), config, SPACE, identity, points)


def never(_: int) -> None:
    return None


def waited(study: SweepStudy, work: Callable[[], None], seconds: float = FOR_EVER) -> float:
    """Return how long a launcher was waited for, whose workers do the work at once."""
    begin = time.monotonic()
    with released_when_over(study, never):
        work()
        time.sleep(seconds)  # in one piece, as launchers do
    return time.monotonic() - begin


def take(study: SweepStudy, *, finish: bool) -> None:
    claim = study.claim(never)
    assert claim is not None
    if finish:
        study.complete(claim.number, {"stability/contrast": 0.5}, {})


def test_a_launcher_that_does_not_see_that_all_is_done_is_released(
    study: SweepStudy, caplog: pytest.LogCaptureFixture
) -> None:
    assert waited(study, lambda: [take(study, finish=True) for _ in range(2)] and None) < FOR_EVER / 2
    assert "All trials have ended; the launcher is not waited for any longer." in caplog.text


def test_it_is_released_in_the_background_of_a_script_too(study: SweepStudy) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell has it there
    try:
        assert waited(study, lambda: [take(study, finish=True) for _ in range(2)] and None) < FOR_EVER / 2
    finally:
        signal.signal(signal.SIGINT, before)


def test_one_whose_workers_died_is_released_so_that_others_can_be_sent(study: SweepStudy) -> None:
    def die() -> None:
        claim = study.claim(never)
        assert claim is not None
        # No process has this number on this machine.
        claim.trial.set_user_attr(keys.PROCESS, dataclasses.replace(current_process(), pid=2**22 + 1).to_json())

    assert waited(study, die) < FOR_EVER / 2
    # The trial of the dead worker waits again.
    assert study.progress().waiting == 2


def test_one_whose_worker_is_at_a_trial_is_waited_for(study: SweepStudy) -> None:
    assert waited(study, lambda: take(study, finish=False), seconds=1.0) >= 1.0


def test_one_whose_workers_stand_in_a_queue_is_waited_for(study: SweepStudy) -> None:
    assert waited(study, lambda: None, seconds=1.0) >= 1.0


def test_ctrl_c_stays_what_it_is(study: SweepStudy) -> None:
    with pytest.raises(KeyboardInterrupt), released_when_over(study, never):
        raise KeyboardInterrupt
