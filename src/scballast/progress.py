"""Progress bars: what is running, how many are left, the time left."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

Advance = Callable[[int], None]

_FOUND = "are taken from the cache"
_LEFT = "left in all"
_LINE = re.compile(rf"[^:]+: \d+( \w+| of \d+ \w+ {_FOUND})?(, about [\w. ]+ {_LEFT})?")
# Stages by how their bars are called; what is called otherwise is the rest.
_STAGES = ("scoring baselines", "training", "")


class TimeLeft:
    """What all stages of an experiment will still take, from what each took in earlier runs.

    Parameters
    ----------
    seconds
        Expected of the baselines, of training and of the rest, in this order.
    """

    def __init__(self, seconds: Sequence[float]) -> None:
        self._expected = tuple(seconds)
        self._stage, self._since = 0, time.monotonic()

    def begin(self, description: str) -> None:
        """Note that a bar of this name begins."""
        stage = next(i for i, name in enumerate(_STAGES) if description.startswith(name))
        if stage > self._stage:
            self._stage, self._since = stage, time.monotonic()

    def seconds(self) -> float:
        """Return what is left: of the stage under way at least nothing, and all of those to come."""
        rest_of_stage = self._expected[self._stage] - (time.monotonic() - self._since)
        return max(0.0, rest_of_stage) + sum(self._expected[self._stage + 1 :])


_time_left: ContextVar[TimeLeft | None] = ContextVar("time_left", default=None)


@contextmanager
def expected_to_take(seconds: Sequence[float] | None) -> Iterator[None]:
    """Have all bars within the block say what is left of all stages too; ``None``: that is not known."""
    token = _time_left.set(None if seconds is None else TimeLeft(seconds))
    try:
        yield
    finally:
        _time_left.reset(token)


@contextmanager
def progress_bar(description: str, total: int, *, unit: str = "") -> Iterator[Advance]:
    """Show a bar on standard error while the block runs, and hand out what advances it.

    Where standard error is no terminal, a line at the start takes the bar's place, so that log files stay readable.
    Nothing is shown where there is nothing to do.

    Parameters
    ----------
    description
        What is running, for example ``"training LDVAE"``.
    total
        Number of units of work.
    unit
        Name of a unit, a plural in s, for example ``"epochs"``.
    """
    if total == 0:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    time_left = _time_left.get()
    if time_left is not None:
        time_left.begin(description)
    console = Console(stderr=True)
    if not console.is_terminal:
        in_all = "" if time_left is None else f", {_in_all(time_left)}"
        sys.stderr.write(f"{progress_line(description, total, unit)}{in_all}\n")
        sys.stderr.flush()
        yield lambda _: None
        return
    columns: tuple[Any, ...] = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(compact=True),
        *([] if time_left is None else [TextColumn("{task.fields[in_all]}")]),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(description, total=total, in_all="" if time_left is None else _in_all(time_left))

        def advance(n: int) -> None:
            in_all = "" if time_left is None else _in_all(time_left)
            bar.update(task, advance=n, in_all=in_all)

        yield advance


@contextmanager
def progress_of_rest(description: str, total: int, *, unit: str) -> Iterator[tuple[Advance, Advance]]:
    """Show a bar for what is left of work of which a cache may hold a part, and hand out two functions.

    Parameters
    ----------
    description, total, unit
        As for :func:`progress_bar`; the total is that of all units, in the cache or not.

    Yields
    ------
    begin
        To be called once, before the work, with the number of units that the cache holds: they are no work, take no
        time, and are said to be there. Nothing is shown before.
    advance
        Advances the bar.
    """
    with ExitStack() as shown:
        running: list[Advance] = []

        def begin(n: int) -> None:
            if n:
                sys.stderr.write(f"{description}: {n} of {total} {unit} {_FOUND}\n")
                sys.stderr.flush()
            running.append(shown.enter_context(progress_bar(description, total - n, unit=unit)))

        yield begin, lambda n: running[-1](n)


def progress_line(description: str, total: int, unit: str = "") -> str:
    """Return the line that takes a bar's place."""
    counted = unit.removesuffix("s") if total == 1 else unit
    return f"{description}: {total} {counted}".rstrip()


def is_progress_line(line: str) -> bool:
    """Return whether a line is one that takes a bar's place, or that of a bar's part which the cache holds."""
    return _LINE.fullmatch(line) is not None


def duration(seconds: float) -> str:
    """Return a span of time as one reads it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _in_all(time_left: TimeLeft) -> str:
    return f"about {duration(time_left.seconds())} {_LEFT}"
