"""Output that cannot fail on a character: a terminal or a file whose encoding lacks one gets its nearest kin."""

from __future__ import annotations

import codecs
import sys
import unicodedata

_NEAREST = {
    "Φ": "Phi",
    "√": "sqrt",
    "–": "-",
    "—": "-",
    "…": "...",
    "−": "-",
    "×": "x",
    "≥": ">=",
    "≤": "<=",
    "→": "->",
}


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
