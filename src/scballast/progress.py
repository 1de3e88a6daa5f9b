"""Progress bars: what is running, how many are left, the time left."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

Advance = Callable[[int], None]

_FOUND = "are taken from the cache"
_LINE = re.compile(rf"[^:]+: \d+( \w+| of \d+ \w+ {_FOUND})?")


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
        Name of a unit, plural, for example ``"epochs"``.
    """
    if total == 0:
        yield _ignore
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        sys.stderr.write(progress_line(description, total, unit) + "\n")
        sys.stderr.flush()
        yield _ignore
        return
    columns: tuple[Any, ...] = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda n: bar.advance(task, n)


@contextmanager
def progress_of_rest(description: str, total: int, *, unit: str) -> Iterator[tuple[Advance, Advance]]:
    """Show a bar for what is left of work of which a cache may hold a part, and hand out two functions.

    Parameters
    ----------
    description, total, unit
        As for :func:`progress_bar`; the total is that of all units, in the cache or not.

    Yields
    ------
    found
        To be called once, before the work, with the number of units that the cache holds: they are no work, take no
        time, and are said to be there. Nothing is shown before.
    advance
        Advances the bar.
    """
    with ExitStack() as shown:
        running: list[Advance] = []

        def found(n: int) -> None:
            if n:
                sys.stderr.write(f"{description}: {n} of {total} {unit} {_FOUND}\n")
                sys.stderr.flush()
            running.append(shown.enter_context(progress_bar(description, total - n, unit=unit)))

        yield found, lambda n: running[-1](n)


def progress_line(description: str, total: int, unit: str = "") -> str:
    """Return the line that takes a bar's place."""
    return f"{description}: {total} {unit}".rstrip()


def is_progress_line(line: str) -> bool:
    """Return whether a line is one that takes a bar's place, or that of a bar's part which the cache holds."""
    return _LINE.fullmatch(line) is not None


def _ignore(_: int) -> None:
    return
