"""What is said of one file: what was noticed, and why it cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NoReturn

from scballast.errors import DataError, ScballastError


@dataclass(frozen=True)
class Remarks:
    """Collects what is noticed of a file; every sentence begins with the file's name.

    Attributes
    ----------
    label
        The file's name.
    notes
        What was noticed so far, a sentence or two each.
    """

    label: str
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Add what was done to usable but odd data."""
        self.notes.append(f"{self.label}: {text}")

    def refuse(self, text: str) -> NoReturn:
        """Raise ``DataError``: what is wrong, and what to do."""
        refuse(self.label, text)


def refuse(where: object, text: str) -> NoReturn:
    """Raise ``DataError`` for a file or a place in it: what is wrong, and what to do."""
    msg = f"{where}: {text}"
    raise DataError(msg)


@contextmanager
def reading(label: str) -> Iterator[None]:
    """Turn whatever a reader raises on a foreign file into one message: any byte of it may be damaged."""
    try:
        yield
    except ScballastError:
        raise
    except MemoryError as error:
        msg = f"{label}: there is not enough memory to read it. Use fewer cells, or a machine with more memory."
        raise DataError(msg) from error
    except Exception as error:
        raise DataError(_unreadable(label, error)) from error


def _unreadable(label: str, error: Exception) -> str:
    reason = (str(error).strip().splitlines() or [""])[0][:200]
    lower = str(error).lower()
    if type(error).__name__ == "IORegistryError":
        from importlib.metadata import version

        return (
            f"{label}: it is stored in a way that anndata {version('anndata')} does not know ({reason}): a newer one "
            "wrote it. Update anndata, or write it again with this version."
        )
    if "truncated" in lower:
        return (
            f"{label}: the file is truncated ({reason}). It is still being written or copied, or must be copied again."
        )
    if "unable to lock" in lower or "already open" in lower or "open for write" in lower:
        return (
            f"{label}: another process is writing it, or was killed while it did ({reason}). "
            "Wait until it is finished, or copy the file and use the copy."
        )
    if "filter" in lower or "plugin" in lower:
        return f"{label}: it is compressed with a filter that is not installed ({reason}). Write it again with gzip."
    return f"{label}: the file cannot be read: {type(error).__name__}: {reason}. Write it again, or check its format."
