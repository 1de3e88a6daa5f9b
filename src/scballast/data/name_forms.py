"""Names that only look different: found among labels, and between the rows of a table and the cells."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from scballast.data.names import folded

# Letters of other scripts that a reader takes for Latin ones.
_TWINS = dict(
    zip("АВЕЅІЈКМНОРСТУХаеѕіјорсухһԁԛԝΑΒΕΖΗΙΚΜΝΟΡΤΥΧο", "ABESIJKMHOPCTYXaesijopcyxhdqwABEZHIKMNOPTYXo", strict=True)
)
_LATIN = str.maketrans(_TWINS)
# One between two words, of which not both are numbers there.
_SEPARATORS = re.compile(r"(?<=[^ _.\d-])[ _.-](?=[^\W_])|(?<=[^ _.-])[ _.-](?=[^\W\d_])|(?<=[^\W\d_]) - (?=[^\W\d_])")
_AROUND_SIGNS = re.compile(r"[ _]*([^\w\s.-])[ _]*")
_AROUND_HYPHENS = re.compile(r"[ _]*-[ _]*")
_WHOLE_NUMBER = re.compile(r"(?<![\d.])(\d+)\.0+$")
_QUOTED = re.compile(
    r"b?(?P<quote>['\"])(?P<name>.*[^\W_].*)(?P=quote)|[\u2018\u201c](?P<other>.*[^\W_].*)[\u2019\u201d]"
)
_ACCENTS = re.compile("[\u0300-\u036f]")
_PLURAL = re.compile(r"(?<=[^\W\d_]{3})(?<![siu])s(?![^\W_])")

# What all forms of a name share, and other names too: letters but s, and digits but zeros that may be a fraction.
_LETTERS = {sign: (chr(sign).lower() if chr(sign).isalnum() and chr(sign) not in "sS" else None) for sign in range(128)}
_SMALL_TWINS = str.maketrans({letter.casefold(): latin.lower() for letter, latin in _TWINS.items()})
_FRACTION = re.compile(r"(?<=\d)[\W_]0+(?=[\W_]*$)")
_LETTERS_AND_LINES = {**_LETTERS, ord("\n"): "\n"}
_FRACTIONS = re.compile(r"(?<=\d)(?:[^\w\n]|_)0+(?=(?:[^\w\n]|_)*$)", re.MULTILINE)


def lookalikes(names: Sequence[str]) -> list[list[str]]:
    """Return the groups of different names that only look different, in order of name.

    What differs may be case, blanks or their kind, also around a sign (``CD8+ T``, ``CD8 + T``), what separates two
    words (``T cell``, ``T_cell``, ``T.cell``, ``T-cell``), an underscore or a dot at the end, ``.0`` after a whole
    number, a plural s, accents, quotes around all of it (also ``b'…'``), letters of another script that look Latin,
    characters without width, or the Unicode form. A sign at the end of a word (``CD4-``) and separators of numbers
    (``1.2``, ``1-2``) tell names apart.
    """
    different = list(set(names))
    common = _all_common(different)
    if len(set(common)) == len(different):
        return []
    times = Counter(common)
    candidates = sorted(name for name, shared in zip(different, common, strict=True) if times[shared] > 1)
    forms = {name: _forms(name) for name in candidates}
    levels: list[dict[str, list[str]]] = [{} for _ in _forms("")]
    for name in candidates:
        for level, form in zip(levels, forms[name], strict=True):
            level.setdefault(form, []).append(name)
    groups = {tuple(group) for level in levels for group in level.values() if len(group) > 1}
    return [list(group) for group in sorted(groups) if not any(
        set(group) < set(level[form]) for level, form in zip(levels, forms[group[0]], strict=True)
    )]  # fmt: skip


def alike(names: Sequence[str], others: Sequence[str]) -> list[tuple[str, str]]:
    """Return the names that only look different from another, each with the first of ``others`` that it looks like.

    Beyond ``lookalikes``, dots and underscores are hyphens everywhere: R writes ``AAAC.1`` for ``AAAC-1`` where names
    become those of columns.
    """
    wanted = {_common(name) for name in names}
    by_form: dict[str, str] = {}
    for other in others:
        if _common(other) in wanted:
            for form in (*_forms(other), _dashed(other)):
                by_form.setdefault(form, other)
    pairs = []
    for name in names:
        same = [form for form in (_dashed(name), *_forms(name)) if form in by_form] if by_form else []
        if same:
            pairs.append((name, by_form[same[0]]))
    return pairs


def _all_common(names: Sequence[str]) -> list[str]:
    """Return ``_common`` of each, in one go where all are plain: there may be millions of cell names."""
    joined = "\n".join(names)
    as_bytes = "b'" in joined or 'b"' in joined
    if as_bytes or not joined.isascii() or joined.count("\n") != len(names) - 1:
        return [_common(name) for name in names]
    if "0" in joined:
        joined = _FRACTIONS.sub("", joined)
    return joined.translate(_LETTERS_AND_LINES).split("\n")


def _common(name: str) -> str:
    """Return what no two names that look alike differ in."""
    plain = name if name.isascii() else _without_accents(folded(name)).translate(_SMALL_TWINS)
    plain = _without_quotes(plain)
    if "0" in plain:
        plain = _FRACTION.sub("", plain)
    return plain.translate(_LETTERS) if plain.isascii() else re.sub(r"[\W_s]+", "", plain)


def _forms(name: str) -> tuple[str, ...]:
    """Return the name levelled in several ways; two names look alike if one of these is the same."""
    plain = folded(name)
    latin = plain if name.isascii() else folded(_without_accents(name).translate(_LATIN))
    return (*_levelled(plain), *_levelled(latin))


def _without_accents(name: str) -> str:
    return unicodedata.normalize("NFKC", _ACCENTS.sub("", unicodedata.normalize("NFKD", name)))


def _without_quotes(text: str) -> str:
    match = _QUOTED.fullmatch(text) if text[-1:] in {"'", '"', "\u2019", "\u201d"} else None
    return match["name"] or match["other"] if match else text


def _levelled(text: str) -> tuple[str, str]:
    """Return a name with separators of words made alike, and with blanks around hyphens removed."""
    text = _without_quotes(text).strip()
    ended = text.lstrip("_ ").rstrip("_.,; ") or text
    whole = _PLURAL.sub("", _WHOLE_NUMBER.sub(r"\1", re.sub("_{2,}", "_", ended)))
    words = _AROUND_SIGNS.sub(r"\1", _SEPARATORS.sub(" ", whole))
    return words, _AROUND_HYPHENS.sub("-", _AROUND_SIGNS.sub(r"\1", whole))


def _dashed(name: str) -> str:
    return re.sub(r"[._]", "-", folded(name))
