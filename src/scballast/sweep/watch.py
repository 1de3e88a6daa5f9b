"""Workers that a launcher has sent elsewhere, watched by what the study says of them.

A launcher waits for its jobs, and some never learn that a job died: submitit asks ``sacct``, which a Slurm without
accounting does not have. It would then be waited for for ever, though other workers had long done the work.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from scballast.sweep.study import Recover, SweepStudy

logger = logging.getLogger(__name__)

POLL_SECONDS = 5.0
# After the last trial a worker takes a moment to end, and its launcher to see it.
ENDING_SECONDS = 20.0
# Between two trials of a worker there is less than a second; so long without one, and it is gone.
SILENT_SECONDS = 300.0
_RELEASE = signal.SIGUSR1


@contextlib.contextmanager
def released_when_over(study: SweepStudy, recover: Recover) -> Iterator[None]:
    """End the block, where a launcher waits, when its workers have nothing left to do or are all gone.

    Workers that still wait in a queue are no sign of that: only after one of them has taken a trial are they held to
    be gone when none is under way. Those that come later find what is left to do.

    Parameters
    ----------
    study
        Whose trials the workers take.
    recover
        As in `SweepStudy.claim`, for trials whose process is gone.
    """
    watch = _Watch(study, recover)
    before = signal.signal(_RELEASE, _raise)
    thread = threading.Thread(target=watch.run, name="scballast-sweep-watch", daemon=True)
    thread.start()
    try:
        yield
        watch.end()
    except _ReleasedError:
        logger.warning("%s; the launcher is not waited for any longer.", watch.reason)
    finally:
        watch.end()
        thread.join()
        signal.signal(_RELEASE, before)


class _ReleasedError(BaseException):
    """Ends what a launcher waits for; no `Exception`, which a launcher may take for a job's."""


def _raise(number: int, frame: FrameType | None) -> None:
    raise _ReleasedError


class _Watch:
    def __init__(self, study: SweepStudy, recover: Recover) -> None:
        self.reason = ""
        self._study = study
        self._recover = recover
        self._begun = study.n_begun()
        self._over = threading.Event()
        self._lock = threading.Lock()

    def end(self) -> None:
        """After this the block is left alone."""
        with self._lock:
            self._over.set()

    def run(self) -> None:
        ended: float | None = None
        silent: float | None = None
        while not self._over.wait(POLL_SECONDS):
            try:
                with self._study.lock():
                    self._study.give_up_dead(self._recover)
                progress, n_begun = self._study.progress(), self._study.n_begun()
            except Exception as error:  # a storage that cannot be reached for a moment
                logger.debug("the sweep cannot be looked at: %s", error)
                continue
            now = time.monotonic()
            idle = not progress.running and n_begun > self._begun
            ended = (ended or now) if progress.is_over else None
            silent = (silent or now) if idle and not progress.is_over else None
            if ended is not None and now - ended >= ENDING_SECONDS:
                self._release("All trials have ended")
            elif silent is not None and now - silent >= SILENT_SECONDS:
                self._release(f"No worker has been at a trial for {SILENT_SECONDS / 60:.0f} min")

    def _release(self, reason: str) -> None:
        with self._lock:
            if self._over.is_set():
                return
            self._over.set()
            self.reason = reason
            # A real signal ends a launcher's sleep; Ctrl-C's would be ignored in the background of a script.
            signal.pthread_kill(threading.main_thread().ident or 0, _RELEASE)
