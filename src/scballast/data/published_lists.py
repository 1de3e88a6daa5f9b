"""Somebody's lists of genes per population, from a table: population, gene and, where there is one, rank."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scballast.data.columns import MISSING_WORDS
from scballast.data.names import folded, quote, quoted, safe_name, spelt_alike, valid_text, without_blanks
from scballast.data.remarks import Remarks, refuse
from scballast.data.text_table import Wording, check_width, read_table

if TYPE_CHECKING:
    import pandas as pd

ALLOWED = (
    "Allowed: .csv or .tsv, also .gz: a header with population, gene and, where there is an order, rank; then one row "
    "per gene"
)
_ALLOWED_FRAME = "Allowed: columns population, gene and, where there is an order, rank; one row per gene"
_WORDING = Wording("gene lists", "the path after `scballast check`", ALLOWED)
_SPELLINGS = {
    "population": ("population", "cell type", "celltype", "cell types", "cluster", "group", "label", "annotation"),
    "gene": ("gene", "genes", "symbol", "gene symbol", "gene name", "gene id", "names", "feature", "marker"),
    "rank": ("rank", "order", "position"),
}
"""What people call the columns, in lower case, with single blanks for ``_``, ``-`` and ``.``; the first is taken."""


@dataclass(frozen=True)
class PublishedLists:
    """Gene lists as they stand in their file.

    Attributes
    ----------
    label
        The file's name, for messages.
    lists
        By population, as the file calls it: gene names, the best first.
    warnings
        What was left out, and why.
    """

    label: str
    lists: Mapping[str, tuple[str, ...]]
    warnings: tuple[str, ...] = ()


def read_published_lists(path: str) -> PublishedLists:
    """Read gene lists.

    Parameters
    ----------
    path
        .csv or .tsv, or either with .gz.

    Returns
    -------
    PublishedLists
        A gene that a population has twice is taken once, at its best rank.

    Raises
    ------
    DataError
        The file cannot be read as such a table, lacks a column, holds no gene, or a rank is no number.
    """
    label, header, body = read_table(path, _WORDING)
    if body and all(len(row) == len(header) + 1 for _, row in body):
        header = ["", *header]  # R's write.table gives the row names no column name
    for number, row in body:
        check_width(label, header, number, row)
    return _collected(label, header, body, "line", ALLOWED)


def published_lists_of(table: pd.DataFrame, label: str = "gene lists") -> PublishedLists:
    """Take gene lists from a table in memory.

    Parameters
    ----------
    table
        With columns as in a file; ``scanpy.get.rank_genes_groups_df(adata, None)`` is one. Its index is not looked at.
    label
        What messages and the report call it.

    Returns
    -------
    PublishedLists
        As :func:`read_published_lists` returns them.

    Raises
    ------
    DataError
        The table lacks a column, holds no gene, or a rank is no number.
    """
    texts = table.astype(object).where(table.notna(), "").to_numpy()
    body = [(number, [str(value) for value in row]) for number, row in enumerate(texts, 1)]
    return _collected(label, [str(name) for name in table.columns], body, "row", _ALLOWED_FRAME)


def _collected(
    label: str, header: Sequence[str], body: Sequence[tuple[int, Sequence[str]]], unit: str, allowed: str
) -> PublishedLists:
    """Sort rows, each with its number, into lists; ``unit`` is what numbers count, for messages."""
    remarks = Remarks(label)
    place = {wanted: _column(wanted, header, remarks, allowed) for wanted in _SPELLINGS}
    rows_of_population: dict[str, list[tuple[float, int, str]]] = {}
    incomplete: list[int] = []
    for number, row in body:
        population, gene = (_text(row, place[wanted]) for wanted in ("population", "gene"))
        if population.lower() in MISSING_WORDS or gene.lower() in MISSING_WORDS:
            incomplete.append(number)
            continue
        rank = _rank(row, place["rank"], f"{label}: {unit} {number}")
        rows_of_population.setdefault(population, []).append((rank, number, gene))
    if not rows_of_population:
        remarks.refuse(f"there is no row with a population and a gene below the header. {allowed}.")
    lists = {}
    if incomplete:
        remarks.note(
            f"{len(incomplete):,} rows without a population or a gene are left out, first {unit} {incomplete[0]}."
        )
    for population, rows in rows_of_population.items():
        names = [gene for _, _, gene in sorted(rows)]
        lists[population] = tuple(dict.fromkeys(names))
        n_twice = len(names) - len(lists[population])
        if n_twice:
            first = next(name for name in names if names.count(name) > 1)
            remarks.note(
                f"{quote(population)} has {quote(first)} more than once ({n_twice} rows too many); each gene "
                "is taken once, at its best rank."
            )
    return PublishedLists(label, lists, tuple(remarks.notes))


def match_populations(
    lists: PublishedLists, ranked: Sequence[str], labels: Mapping[str, int], min_cells: int
) -> tuple[dict[str, str], list[str]]:
    """Find the populations of the data that the lists are of.

    Names are the same when they differ in nothing but case, blanks, hyphens, Unicode form or, as in names of files,
    in what is no letter or digit.

    Parameters
    ----------
    lists
        What is checked.
    ranked
        Populations of the data that are ranked.
    labels
        Cells of every label of the data.
    min_cells
        ``data.min_cells``, for messages.

    Returns
    -------
    dict, list of str
        Population of the data by the name in the file; and what was noticed.

    Raises
    ------
    DataError
        None of the file's populations is in the data.
    """
    matched: dict[str, str] = {}
    remarks = Remarks(lists.label)
    for name in lists.lists:
        population, note = _population(name, ranked, labels, min_cells)
        if population in matched.values():
            note = f"means {quote(population)}, as another name of the file does; its genes are left out."
            population = None
        if population is not None:
            matched[name] = population
        if note:
            remarks.note(f"{quote(name)} {note}")
    if not matched:
        remarks.refuse(
            f"none of its {len(lists.lists)} populations is one of the data: "
            f"{' '.join(note.removeprefix(f'{lists.label}: ') for note in remarks.notes[:3])} "
            f"The data have {quoted(ranked)}. Write the names alike, or set data.population_key to another column."
        )
    absent = [name for name in ranked if name not in matched.values()]
    if absent:
        remarks.note(f"has no list for {quoted(absent)}.")
    return matched, remarks.notes


def _population(name: str, ranked: Sequence[str], labels: Mapping[str, int], min_cells: int) -> tuple[str | None, str]:
    if name in ranked:
        return name, ""
    for level in (folded, _letters):
        alike = [other for other in ranked if level(other) == level(name)]
        if len(alike) == 1:
            return alike[0], f"is taken for {quote(alike[0])}."
        if alike:
            return None, f"could be any of {quoted(alike)} and is left out; write it as one of them."
    if name in labels:
        return None, f"has {labels[name]} cells in the data, fewer than data.min_cells={min_cells}, and is left out."
    lower = {_core(other): other for other in ranked}
    near = difflib.get_close_matches(_core(name), lower, n=1, cutoff=0.6)
    guess = f" Did you mean {quote(lower[near[0]])}?" if near else ""
    return None, f"is no population of the data and is left out.{guess}"


def _core(name: str) -> str:
    """Return a name without the word that makes all names of cell types alike."""
    return re.sub(r"\bcel+s?\b", "", name.lower()).strip()


def _letters(name: str) -> str:
    return safe_name(name).replace("_", "").replace("-", "").casefold()


def _column(wanted: str, header: Sequence[str], remarks: Remarks, allowed: str) -> int | None:
    """Return where a column stands; None for ranks that are not there."""
    spelt = [spelt_alike(name) for name in header]
    for spelling in _SPELLINGS[wanted]:
        places = [position for position, name in enumerate(spelt) if name == spelling]
        if len(places) > 1:
            remarks.refuse(f"{len(places)} columns are called {quote(header[places[0]])}. Rename all but one.")
        if places:
            return places[0]
    if wanted == "rank":
        return None
    near = difflib.get_close_matches(wanted, spelt, n=1)
    guess = f" Did you mean {quote(wanted)} by {quote(header[spelt.index(near[0])])}?" if near else ""
    remarks.refuse(f"there is no column {quote(wanted)}.{guess} Columns: {quoted(header)}. {allowed}.")


def _text(row: Sequence[str], place: int | None) -> str:
    return "" if place is None else valid_text(without_blanks(row[place]))


def _rank(row: Sequence[str], place: int | None, where: str) -> float:
    text = _text(row, place)
    if place is None:
        return 0.0
    if text.lower() in MISSING_WORDS:
        return math.inf
    try:
        rank = float(text)
    except ValueError:
        rank = math.nan
    if math.isnan(rank):
        refuse(where, f"the rank {quote(text)} is no number. Write 1 for the best gene, or nothing.")
    return rank
