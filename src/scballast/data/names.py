"""Names from foreign files: made unique, made safe for paths and metric names, quoted in messages."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Iterable, Sequence

MAX_SAFE_LENGTH = 60
_NO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff"
_UNSEEN = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u2800"


def valid_text(name: object) -> str:
    """Return ``name`` as text that every UTF-8 writer accepts; bytes that were not UTF-8 become ``?``."""
    if type(name) is str and name.isascii():
        return name
    text = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
    return text.encode("utf-8", "replace").decode("utf-8")


def without_blanks(text: str) -> str:
    """Return ``text`` without blanks at its ends, of any kind and width, and with one blank for several."""
    if text.isalnum():
        return text
    return re.sub(r"\s{2,}", " ", re.sub(rf"^[\s{_NO_WIDTH}]+|[\s{_NO_WIDTH}]+$", "", text))


def all_without_blanks(texts: Sequence[str]) -> list[str]:
    """Return ``without_blanks`` of each, in one go where none has any: there may be millions of cell names."""
    joined = "\n".join(texts)
    if joined.isascii() and (words := joined.split()) == list(texts):
        return words
    return [without_blanks(text) for text in texts]


def folded(text: str) -> str:
    """Return what two names have in common that only look different.

    Case, the kind of blank (no-break, narrow, …), the kind of hyphen, characters without width and the Unicode form
    (composed or not, full width, superscript, …) are levelled.
    """
    if text.isascii() and text.isprintable():
        return " ".join(text.split()).lower()
    level = "".join(
        "-" if unicodedata.category(character) == "Pd" or character == "\u2212" else character
        for character in unicodedata.normalize("NFKC", text)
        if not _unseen(character)
    )
    return without_blanks(re.sub(r"\s+", " ", level)).casefold()


def _unseen(character: str) -> bool:
    """Return whether a character takes no room: of formatting or control, a joiner, a filler, a chooser of variants."""
    if character in _UNSEEN or "\ufe00" <= character <= "\ufe0f":
        return True
    category = unicodedata.category(character)
    return category == "Cf" or (category == "Cc" and not character.isspace())


def escaped(name: str, limit: int = 80) -> str:
    """Return a name as ``quote`` does, with all that is not plain ASCII as numbers: what differs shows."""
    return ascii(name if len(name) <= limit else name[: limit - 1] + "…")


def spelt_alike(text: str) -> str:
    """Return a name in lower case, with single blanks for ``_``, ``-``, ``.`` and blanks."""
    return re.sub(r"[\s_.\-]+", " ", text).strip().lower()


def make_unique(names: Sequence[str]) -> tuple[list[str], int]:
    """Append ``-1``, ``-2``, … to the second and later uses of a name.

    Parameters
    ----------
    names : (n,)
        Any text.

    Returns
    -------
    list of str, int
        The unique names in the same order, and how many were changed.
    """
    import pandas as pd
    from anndata.utils import make_index_unique

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of names that end as a new one would
        unique = make_index_unique(pd.Index(names, dtype=object))
    return unique.tolist(), len(names) - len(set(names))


def blanks_apart(names: Iterable[str]) -> str:
    """Say how many names differ from an earlier one in nothing but blanks, with an example; ``""``: none does."""
    kept: dict[str, str] = {}
    apart = []
    for name in dict.fromkeys(names):
        bare = without_blanks(name)
        if bare in kept:
            apart.append((kept[bare], name))
        kept.setdefault(bare, name)
    if not apart:
        return ""
    first, second = apart[0]
    return f" {len(apart):,} of them differ from another only in blanks, as {escaped(first)} and {escaped(second)}."


def safe_name(name: str, *, empty: str = "population") -> str:
    """Return a readable form of ``name`` with only ``[A-Za-z0-9_-]``, 1 to 60 characters.

    ``+`` becomes ``plus``, accents are dropped, Greek letters are spelt out, a leading ``-`` is dropped (it
    would read as an option on a command line), anything else becomes ``_``.

    Parameters
    ----------
    name
        Any text.
    empty
        What stands for a name of which nothing is left.
    """
    spelt = "".join(_spell(character) for character in unicodedata.normalize("NFKD", name))
    safe = re.sub(r"[^A-Za-z0-9-]+", "_", spelt).lstrip("_-")
    return safe[:MAX_SAFE_LENGTH].rstrip("_") or empty


def _spell(character: str) -> str:
    if character == "+":
        return "plus"
    if unicodedata.combining(character):
        return ""
    words = unicodedata.name(character, "").split()
    if words[:1] == ["GREEK"] and "LETTER" in words:
        return words[words.index("LETTER") + 1].lower() if words[-1:] != ["LETTER"] else "_"
    return character


def safe_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return one safe name for each name, unique also where upper and lower case are the same.

    File systems that ignore case would otherwise write two populations into one file. A name that is safe as
    it stands keeps its form; collisions get ``_2``, ``_3``, … in the order of ``names``.
    """
    candidates = [safe_name(name) for name in names]
    kept_as_is = {name.casefold() for name, safe in zip(names, candidates, strict=True) if name == safe}
    used: set[str] = set()
    result = []
    for name, candidate in zip(names, candidates, strict=True):
        chosen, number = candidate, 1
        while chosen.casefold() in used or (name != chosen and chosen.casefold() in kept_as_is):
            number += 1
            suffix = f"_{number}"
            chosen = candidate[: MAX_SAFE_LENGTH - len(suffix)].rstrip("_") + suffix
        used.add(chosen.casefold())
        result.append(chosen)
    return tuple(result)


def quoted(names: Iterable[object], limit: int = 8) -> str:
    """Return the names for a message: quoted, newlines escaped, long names and long lists cut."""
    listed = list(names)
    shown = [quote(name) for name in listed[:limit]]
    if len(listed) > limit:
        shown.append(f"… {len(listed) - limit:,} more")
    return ", ".join(shown)


def quote(name: object, limit: int = 80) -> str:
    """Return one name for a message: quoted, control characters escaped, cut at ``limit`` characters."""
    text = valid_text(name)
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")
