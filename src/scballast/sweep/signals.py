"""How others end a program: schedulers and closed terminals by signals, readers of its output by leaving."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class StoppedError(KeyboardInterrupt):
    """The program was asked to end; the message says by which signal."""


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
    """Let SIGTERM (a scheduler's time limit) and SIGHUP (a closed terminal) end the block as Ctrl-C does.

    A signal that is ignored, as ``nohup`` has it, stays ignored; outside the main thread nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        for number, handler in before.items():
            if handler != signal.SIG_IGN:
                signal.signal(number, _stop)
        yield
    finally:
        for number, handler in before.items():
            # None: a handler that was not set from Python, and cannot be set again.
            if handler is not None:
                signal.signal(number, handler)


@contextlib.contextmanager
def reader_may_leave() -> Iterator[None]:
    """End the program without a word where nobody reads its output any more, as ``scballast … | head`` has it."""
    try:
        yield
    except BrokenPipeError:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        if not any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0)):
            raise  # another pipe
        # What is still to be flushed at the end goes nowhere either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def how_stopped(error: KeyboardInterrupt) -> str:
    """Return how a run was interrupted, for its reason."""
    return f"stopped by {error}" if isinstance(error, StoppedError) else "interrupted by the user"


def _stop(number: int, frame: FrameType | None) -> None:
    raise StoppedError(signal.Signals(number).name)
