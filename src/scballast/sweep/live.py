"""The sweep as it runs: one table on the terminal, and above it the lines that its processes say.

Where standard error is a terminal, the sweep's processes write into a pipe instead: what they say is printed above
the table, and what they are at stands below it. Elsewhere nothing changes: each trial's end is a plain line.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from scballast.progress import duration, is_progress_line
from scballast.sweep.standing import Standing, seconds_left, standing
from scballast.sweep.study import SweepStudy

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.table import Table


_STANDARD_ERROR = 2
_POLL_SECONDS = 0.2
_REFRESH_SECONDS = 2.0
# Lines beside the rows: head, rules, what is under way, the shell's prompt.
_OTHER_LINES = 8
_FEWEST_ROWS = 4
# Below so many columns there is room for values, not for their errors.
_WIDE = 70
_STYLES = {"RUNNING": "bold", "FAIL": "red", "PRUNED": "dim"}


@dataclass
class LiveSweep:
    """What the terminal shows of a sweep; shows nothing before it knows the ``study``."""

    study: SweepStudy | None = None
    now: str = ""

    def render(self, console: Console) -> RenderableType:
        """Return the table of trials with what is under way below it."""
        from rich.console import Group
        from rich.spinner import Spinner
        from rich.text import Text

        under_way = Spinner("line", Text(self.now or "starting", overflow="ellipsis", no_wrap=True))
        if self.study is None:
            return under_way
        trials, progress = self.study.trials(), self.study.progress()
        rows = max(_FEWEST_ROWS, console.height - _OTHER_LINES)
        left = seconds_left(trials, progress.running + progress.waiting)
        ending = "" if left is None or progress.is_over else f", about {duration(left)} left"
        says = Text(f"{progress}{ending}")
        table = _table(standing(self.study, trials, most_rows=rows, with_errors=console.width >= _WIDE), console.width)
        return Group(table, says) if progress.is_over else Group(table, says, under_way)


@contextlib.contextmanager
def live_sweep() -> Iterator[LiveSweep]:
    """Keep the terminal for the table of a sweep while the block runs; processes started in it share it.

    Give the study to what is handed out as soon as it is there.
    """
    shown = LiveSweep()
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield shown
        return
    from rich.console import Console
    from rich.live import Live

    sys.stderr.flush()
    terminal = os.dup(_STANDARD_ERROR)
    reading, writing = os.pipe()
    os.dup2(writing, _STANDARD_ERROR)
    os.close(writing)
    with os.fdopen(terminal, "w", encoding=sys.stderr.encoding, errors=sys.stderr.errors) as screen:
        console = Console(file=screen, highlight=False)
        live = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        over = threading.Event()
        thread = threading.Thread(target=_show, args=(shown, live, screen, reading, over), daemon=True)
        try:
            with live:
                thread.start()
                try:
                    yield shown
                finally:
                    sys.stderr.flush()
                    over.set()
                    thread.join()
        finally:
            os.dup2(terminal, _STANDARD_ERROR)
            os.close(reading)


def _table(standing: Standing, width: int) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.caption = standing.legend
    trial, searched, replicates, *objectives = standing.head
    table.add_column(trial, justify="right", no_wrap=True)
    table.add_column(searched, overflow="fold")
    table.add_column(replicates, no_wrap=width >= _WIDE)
    for objective in objectives:
        table.add_column(objective, justify="right")
    for row in standing.rows:
        table.add_row(*row.cells, style=_STYLES.get(row.state))
    return table


def _show(shown: LiveSweep, live: Live, screen: IO[str], reading: int, over: threading.Event) -> None:
    """Print what comes through the pipe above the table, and draw the table anew now and then."""
    from rich.console import ConsoleDimensions
    from rich.text import Text

    rest, drawn = b"", 0.0
    while True:
        ending = over.is_set()
        ready = select.select([reading], [], [], 0.0 if ending else _POLL_SECONDS)[0]
        if ready:
            *lines, rest = (rest + os.read(reading, 65536)).split(b"\n")
            for line in lines:
                text = line.decode("utf-8", errors="replace").rstrip("\r")
                if is_progress_line(text):
                    shown.now = text
                else:
                    live.console.print(Text.from_ansi(text), soft_wrap=True)
        if time.monotonic() - drawn >= _REFRESH_SECONDS or (ending and not ready):
            columns, rows = os.get_terminal_size(screen.fileno())
            # A terminal that does not know its size says 0.
            live.console.size = ConsoleDimensions(columns or 80, rows or 25)
            # A storage that cannot be reached for a moment leaves the last table.
            with contextlib.suppress(Exception):
                live.update(shown.render(live.console), refresh=True)
            drawn = time.monotonic()
        if ending and not ready:
            if rest:
                live.console.print(Text.from_ansi(rest.decode("utf-8", errors="replace")), soft_wrap=True)
            return
