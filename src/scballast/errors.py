"""Errors that a user can cause: one message, exit status 2, no traceback."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_MOST_NOTICED = 4
_LONGEST_NOTICED = 600
# How torch and the C++ library say it.
_NO_MEMORY = ("not enough memory", "can't allocate memory", "out of memory", "bad_alloc")


class ScballastError(Exception):
    """Base of the errors that carry a message meant for the user."""


class ConfigError(ScballastError):
    """A configuration that cannot be run: names the key, what was observed, what is allowed, the remedy."""


class DataError(ScballastError):
    """Data that cannot be used: names the file or column, what was observed, what is allowed, the remedy."""


def require(holds: object, message: str, kind: type[Exception] = ConfigError) -> None:
    """Raise an error with the message unless the condition holds."""
    if not holds:
        raise kind(message)


@contextmanager
def noticed_before(notes: Sequence[str]) -> Iterator[None]:
    """Put what was noticed so far into an error that ends the work: it often holds the reason.

    Parameters
    ----------
    notes
        Warnings; those that were collected when the error is raised, the last ones where there are many.
    """
    try:
        yield
    except (ConfigError, DataError) as error:
        if not notes:
            raise
        noticed: list[str] = []
        for note in reversed(notes):
            if len(noticed) == _MOST_NOTICED or len(" ".join(noticed)) + len(note) > _LONGEST_NOTICED:
                break
            noticed.insert(0, note)
        noticed = noticed or [f"{notes[-1][: _LONGEST_NOTICED - 1]}…"]
        rest = len(notes) - len(noticed)
        more = f" ({rest} more before that.)" if rest else ""
        msg = f"{error} Noticed before: {' '.join(noticed)}{more}"
        raise type(error)(msg) from error


class TrainingError(RuntimeError):
    """No member of a training ended with a finite loss."""


@contextmanager
def memory_errors() -> Iterator[None]:
    """Let every library's way of running out of memory be a ``MemoryError``."""
    try:
        yield
    except RuntimeError as error:
        if not any(words in str(error).lower() for words in _NO_MEMORY):
            raise
        raise MemoryError(str(error).strip().splitlines()[0]) from error
