"""Output that cannot fail on a character: a terminal or a file whose encoding lacks one gets its nearest kin."""

from __future__ import annotations

import codecs
import logging
import sys
import unicodedata
from typing import ClassVar

_NEAREST = {
    "Φ": "Phi", "√": "sqrt", "–": "-", "—": "-", "…": "...", "−": "-", "×": "x", "≥": ">=", "≤": "<=", "→": "->",
    "↑": "^", "↓": "v", "±": "+-", "★": "*",
}  # fmt: skip


class SaidOnce(logging.Filter):
    """Lets a warning about the data or the results through once in a process: every trial of a sweep finds it again."""

    _said: ClassVar[set[str]] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is to be shown."""
        text = record.getMessage()
        if record.levelno != logging.WARNING or not text.startswith("Warning: "):
            return True
        new = text not in self._said
        self._said.add(text)
        return new


def forgive_characters() -> None:
    """Let standard output and error replace what their encoding does not hold (PYTHONIOENCODING=latin-1, LANG=C)."""
    codecs.register_error("scballast", _nearest)
    for stream in (sys.stdout, sys.stderr):
        # A notebook's or a test's stream has no encoding to change.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="scballast")


def _nearest(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_NEAREST.get(sign) or _plain(sign) for sign in lacking), error.end


def _plain(sign: str) -> str:
    """Return a letter without its accents, or a question mark."""
    return unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode() or "?"
