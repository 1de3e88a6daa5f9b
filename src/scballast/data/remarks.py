"""What is said of one file: what was noticed, and why it cannot be used."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NoReturn

from scballast.errors import DataError


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
