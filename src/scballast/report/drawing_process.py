"""Another process that draws figures of a report: drawings in, pictures out."""

from __future__ import annotations

import copy
import pickle
import traceback
import warnings
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from scballast.report.html import Drawing, Picture
from scballast.report.stored_tables import StoredFolder
from scballast.report.style import figure_style
from scballast.threads import seek_garbage_seldom


@dataclass(frozen=True)
class Drawn:
    """A picture, or why there is none.

    Attributes
    ----------
    picture
        The figure; None where it failed.
    error
        What it failed of.
    trace
        Where, as text.
    warned
        Message, category, file and line of each warning: the filters of the process that asked decide.
    """

    picture: Picture | None
    error: Exception | None = None
    trace: str = ""
    warned: tuple[tuple[Any, ...], ...] = ()

    def result(self) -> Picture:
        """Return the picture, or raise the error."""
        if self.error is not None:
            raise self.error from _ElsewhereError(self.trace)
        assert self.picture is not None
        return self.picture


class _ElsewhereError(Exception):
    """The traceback of an error that was raised in another process."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def draw(drawing: Drawing, folder: StoredFolder) -> Drawn:
    """Draw a figure; errors are returned, and so are warnings.

    Parameters
    ----------
    drawing
        The figure.
    folder
        What it shows.
    """
    picture, error, trace = None, None, ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            picture = drawing.function(folder, *drawing.arguments)
        except Exception as raised:
            error, trace = raised, traceback.format_exc()
    warned = tuple((item.message, item.category, item.filename, item.lineno) for item in caught)
    return Drawn(picture, error, trace, warned)


def main(connection: int) -> None:
    """Draw for the process at the other end of a connection until it closes it or is gone."""
    seek_garbage_seldom()
    # What the figures of most reports need, while the other process reads the tables.
    from scballast.report import evidence  # noqa: F401

    pipe = Connection(connection)
    try:
        folder: StoredFolder = pipe.recv()
        with figure_style():
            while True:
                pipe.send(_portable(draw(pipe.recv(), folder)))
    except (EOFError, OSError):
        return  # nobody waits any more


def _portable(drawn: Drawn) -> Drawn:
    """Put errors and warnings that cannot be sent into words."""
    try:
        pickle.dumps(drawn)
        copy.deepcopy((drawn.error, drawn.warned))  # put together again as what is sent is
    except Exception:
        error = None if drawn.error is None else RuntimeError(f"{type(drawn.error).__name__}: {drawn.error}")
        warned = tuple((str(message), *rest) for message, *rest in drawn.warned)
        return Drawn(drawn.picture, error, drawn.trace, warned)
    return drawn
