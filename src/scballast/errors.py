"""Errors that a user can cause: one message, exit status 2, no traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

# How torch and the C++ library say it.
_NO_MEMORY = ("not enough memory", "can't allocate memory", "out of memory", "bad_alloc")


class ScballastError(Exception):
    """Base of the errors that carry a message meant for the user."""


class ConfigError(ScballastError):
    """A configuration that cannot be run: names the key, what was observed, what is allowed, the remedy."""


class DataError(ScballastError):
    """Data that cannot be used: names the file or column, what was observed, what is allowed, the remedy."""


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
