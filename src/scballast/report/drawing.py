"""Draw the figures of a report side by side in processes: the same files as one after another."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
import threading
import traceback
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from scballast.report.drawing_process import Drawn, draw
from scballast.report.html import Drawing, Picture, Section
from scballast.report.stored_tables import StoredFolder
from scballast.report.style import figure_style

logger = logging.getLogger(__name__)

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Drawers:
    """The processes that draw: this one, and others beside it.

    The others are started from nothing, not forked: this process may have threads of torch, OpenMP and MLflow.
    They have a process group of their own, so that Ctrl-C ends this process, and it ends them; they end by
    themselves when it is gone.
    """

    def __init__(self, n_processes: int) -> None:
        self._others: list[_Other] = []
        try:
            for _ in range(n_processes - 1):
                self._others.append(_Other())
        except OSError as error:
            n_drawing = 1 + len(self._others)
            logger.warning("Figures are drawn by %d instead of %d processes: %s", n_drawing, n_processes, error)

    def draw(self, folder: StoredFolder, sections: Sequence[Section]) -> list[Section]:
        """Draw what the sections still lack, each figure in the process that is free first.

        Parameters
        ----------
        folder
            What the figures show; the tables that it has read go to the other processes.
        sections
            With drawings.

        Returns
        -------
        list of Section
            With pictures.

        Raises
        ------
        Exception
            What drawing one figure after another would have raised.
        """
        work = _Work([drawing for section in sections for drawing in section.drawings])
        stored = pickle.dumps(folder) if self._others else b""
        threads = [threading.Thread(target=other.take_part, args=(stored, work), daemon=True) for other in self._others]
        for thread in threads:
            thread.start()
        try:
            work.do(folder)
            for thread in threads:
                thread.join()
            work.do(folder)  # what a process left undone that died
        except BaseException:
            work.stop()
            self.end()
            raise
        pictures = iter(work.pictures())
        return [
            replace(section, pictures=(*section.pictures, *(next(pictures) for _ in section.drawings)), drawings=())
            for section in sections
        ]

    def end(self) -> None:
        """End the other processes at once, whatever they are at."""
        for other in self._others:
            other.end()


@contextmanager
def drawers(n_processes: int) -> Iterator[Drawers]:
    """Let processes load what they need while this one reads tables, and end them after.

    Parameters
    ----------
    n_processes
        Processes that draw, this one among them.
    """
    started = Drawers(n_processes)
    try:
        yield started
    finally:
        started.end()


class _Work:
    """Figures to draw, taken one by one by several threads; none is taken after one has failed."""

    def __init__(self, drawings: Sequence[Drawing]) -> None:
        self._waiting = deque(enumerate(drawings))
        self._done: dict[int, Drawn] = {}
        self._stopped = False

    def take(self) -> tuple[int, Drawing] | None:
        """Return the next figure and its place; None: there is nothing to do."""
        with suppress(IndexError):
            return None if self._stopped else self._waiting.popleft()
        return None

    def put_back(self, place: int, drawing: Drawing) -> bool:
        """Leave a figure to somebody else; False: nobody waits for it."""
        if not self._stopped:
            self._waiting.appendleft((place, drawing))
        return not self._stopped

    def answer(self, place: int, drawn: Drawn) -> None:
        """Keep a figure, or why there is none."""
        self._done[place] = drawn
        self._stopped |= drawn.error is not None

    def do(self, folder: StoredFolder) -> None:
        """Draw in this thread what nobody else has taken."""
        with figure_style():
            while (taken := self.take()) is not None:
                place, drawing = taken
                self.answer(place, draw(drawing, folder))

    def stop(self) -> None:
        """Let nobody begin another figure."""
        self._stopped = True

    def pictures(self) -> list[Picture]:
        """Return all figures in their order; raise what the first one that failed has raised."""
        pictures: list[Picture] = []
        told: dict[Any, Any] = {}  # so that each warning is told as often as its filter says
        for _, drawn in sorted(self._done.items()):
            for message, category, file, line in drawn.warned:
                warnings.warn_explicit(message, category, file, line, registry=told)
            pictures.append(drawn.result())
        return pictures


class _Other:
    """Another process that draws."""

    def __init__(self) -> None:
        self._connection, theirs = Pipe()
        code = f"from scballast.report.drawing_process import main; main({theirs.fileno()})"
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", code],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                env={**os.environ, **_ONE_THREAD},
                process_group=0,
            )
        self._ended = False

    def take_part(self, stored: bytes, work: _Work) -> None:
        """Draw in the process until there is nothing to do: a thread waits for it."""
        connection: Connection = self._connection
        taken = None
        try:
            connection.send_bytes(stored)
            while (taken := work.take()) is not None:
                place, drawing = taken
                connection.send(drawing)
                work.answer(place, connection.recv())
        except (EOFError, OSError):
            if not self._ended and (taken is None or work.put_back(*taken)):
                status = self._process.wait()
                logger.warning("A process that drew figures ended with status %d; others draw what it left.", status)
        except Exception as error:  # of what cannot be sent
            if taken is not None:
                work.answer(taken[0], Drawn(None, error, traceback.format_exc()))

    def end(self) -> None:
        """Kill the process."""
        self._ended = True
        self._process.kill()
        self._process.wait()
        self._connection.close()
