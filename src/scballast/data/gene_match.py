"""Which gene of the data somebody's name means: symbols and ids, other case, versions, and what a spreadsheet did."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from scballast.data.names import quote, quoted
from scballast.data.symbols import looks_like_id

_VERSION = re.compile(r"^(ENS[A-Z]*[GT]\d{6,})(\.\d+)?$")
_BOTH = re.compile(r"^(?P<symbol>\S+) \((?P<id>\S+)\)$|^(?P<first>ENS[A-Z]*G\d{6,}(?:\.\d+)?)_(?P<second>.+)$")
_IN_ONE = re.compile(r"^(?P<symbol>.+?)[_|. (]+(?P<id>ENS[A-Z]*G\d{6,}(?:\.\d+)?)\)?$")
_DATE = re.compile(
    r"^(\d{1,2}[-/. ]?(mar|sep|sept|dec|oct|feb)[a-z]*|(mar|sep|sept|dec)[a-z]*[-/. ]\d{1,2}|[34]\d{4}"
    r"|\d{4}-\d\d-\d\d.*|\d{1,2}/\d{1,2}/\d{2,4}|\d(\.\d+)?E\+\d+)$",
    re.IGNORECASE,
)
_MOST_GUESSED = 20
"""Names without a gene that the nearest one is looked for: that takes a tenth of a second each."""


@dataclass(frozen=True)
class Match:
    """What became of a name.

    Attributes
    ----------
    name
        As somebody wrote it.
    gene
        Position among the genes of the data; None: there is none, or it is not clear which.
    how
        How it was found where it does not stand there letter by letter, or why it was not.
    known_as
        Name of that gene in the data, where it is known.
    """

    name: str
    gene: int | None
    how: str = ""
    known_as: str = ""


def match_genes(wanted: Sequence[str], known: Mapping[str, Sequence[str]]) -> list[Match]:
    """Find the gene that each name means.

    A name is tried as it stands, then without regard to case, then as an Ensembl id without its version, then with
    ``.``, ``-`` and ``_`` alike (R writes HLA.A), then as a symbol and an id in one. At each step every kind of name
    of the data is tried in its order, and one gene alone must have it; of names that are a symbol and an id in one
    (CD79A_ENSG00000105369) both count.

    Parameters
    ----------
    wanted
        Names of genes.
    known
        By kind (``name``, ``symbol``, a column of ``var``): (n_genes,) names of the data's genes; ``""`` for none.

    Returns
    -------
    list of Match
        One for each name, in order.
    """
    gene_names = next(iter(known.values()), ())
    known = {**known, **_parts(gene_names)}
    steps = [(how, _index(known, level), level) for how, level in _LEVELS]
    guesses = _MOST_GUESSED
    matches = []
    for name in wanted:
        match = _match(name, steps, gene_names)
        if match.gene is None and not match.how:
            match = Match(name, None, _why_unknown(name, known if guesses > 0 else {}))
            guesses -= 1
        matches.append(match)
    return matches


def why_none_matches(wanted: Sequence[str], known: Mapping[str, Sequence[str]]) -> str:
    """Say what kind of names somebody gave, and what kind the data have, where they are of different kinds."""
    theirs = _mostly_ids(wanted)
    ours = [name for names in known.values() for name in names if name]
    first = f"the first is {quote(wanted[0])}, the data's first {quote(ours[0]) if ours else 'none'}"
    has_ids = any(map(_mostly_ids, known.values()))
    if theirs and has_ids:
        return f"{first}. Both are ids, so they are of different species or annotations"
    if theirs:
        return (
            f"{first}. The list has ids, and the data have none: give symbols, or keep the ids in a column of var "
            "(gene_ids)"
        )
    if has_ids and len(known) == 1:
        return f"{first}. The list has symbols, and the data have ids: set data.gene_symbols to their column of var"
    return first


def _mostly_ids(names: Sequence[str]) -> bool:
    return sum(map(looks_like_id, names)) > len(names) / 2


def _without_version(name: str) -> str:
    versioned = _VERSION.match(name.upper())
    return versioned[1] if versioned else ""


def _one_sign(name: str) -> str:
    return re.sub(r"[._]", "-", name.casefold())


_LEVELS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("", str),
    ("another case", str.casefold),
    ("another version of the id", _without_version),
    ("other signs", _one_sign),
)

_Step = tuple[str, list[dict[str, list[int]]], Callable[[str], str]]


def _index(known: Mapping[str, Sequence[str]], level: Callable[[str], str]) -> list[dict[str, list[int]]]:
    indices = []
    for names in known.values():
        index: dict[str, list[int]] = {}
        for position, name in enumerate(names):
            key = level(name) if name else ""
            if key:
                index.setdefault(key, []).append(position)
        indices.append(index)
    return indices


def _match(name: str, steps: Sequence[_Step], gene_names: Sequence[str]) -> Match:
    for how, indices, level in steps:
        key = level(name)
        for index in indices:
            places = index.get(key, []) if key else []
            if len(places) == 1:
                other = f"{how}: {gene_names[places[0]]}" if how else ""
                return Match(name, places[0], other)
            if places:
                ids = quoted([gene_names[place] for place in places], limit=3)
                return Match(name, None, f"the name of {len(places)} genes of the data ({ids}): give the id")
    both = _BOTH.match(name)
    parts = [part for part in (both["id"], both["first"], both["symbol"], both["second"]) if part] if both else []
    for part in parts:
        match = _match(part, steps, gene_names)
        if match.gene is not None:
            return Match(name, match.gene, f"symbol and id in one: {gene_names[match.gene]}")
    return Match(name, None)


def _parts(names: Sequence[str]) -> dict[str, list[str]]:
    """Return the symbols and the ids of names that are both in one; ``""`` for the others."""
    matches = [_IN_ONE.match(name) for name in names]
    if not any(matches):
        return {}
    parts = ("symbol", "id")
    return {f"{part} in the name": [match[part] if match else "" for match in matches] for part in parts}


def _why_unknown(name: str, known: Mapping[str, Sequence[str]]) -> str:
    if _DATE.match(name):
        return "not in the data: a date or a number, which spreadsheets make of genes such as MARCH1, SEPT2 and DEC1"
    lower = {other.lower(): other for names in known.values() for other in names if other}
    near = [] if looks_like_id(name) else difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.7)
    meant = [other for other in near if _is_slip(name.lower(), other)]
    return f"not in the data. Did you mean {lower[meant[0]]}?" if meant else "not in the data"


def _is_slip(name: str, other: str) -> bool:
    """Tell a slip of the keyboard from another gene of the family: CD9 is not CD19, nor KLRG1 KLRD1."""
    if sorted(name) == sorted(other):  # two signs exchanged
        return True
    digits = [re.sub(r"\D", "", text) for text in (name, other)]
    return digits[0] == digits[1] and difflib.SequenceMatcher(None, name, other).ratio() >= 0.85
