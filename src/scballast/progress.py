"""Progress bars: what is running, how many are left, the time left."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Advance = Callable[[int], None]

_LINE = re.compile(r"[^:]+: \d+( \w+)?")


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


def progress_line(description: str, total: int, unit: str = "") -> str:
    """Return the line that takes a bar's place."""
    return f"{description}: {total} {unit}".rstrip()


def is_progress_line(line: str) -> bool:
    """Return whether a line is one that takes a bar's place."""
    return _LINE.fullmatch(line) is not None


def _ignore(_: int) -> None:
    return
