"""A card per population: both answers with all their genes, ready to be read, searched, copied and saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pandas as pd

from scballast.report.answer_section import Answer
from scballast.report.html import Column
from scballast.report.stored_tables import ResultFolder

MOST_ROWS = 8_000
"""Rows of all gene tables of a page together; beyond it each list is cut, says so, and is no file in the page."""

MOST_FILES = 100
"""Lists of a page that are files in it; of more all are in the table beside it."""

GENE = (("rank", "Rank", 0), ("gene", "Gene", None))
LEVELS = (("log2_fold_change", "log2 FC", 2), ("pct_in", "% in", 1), ("pct_out", "% out", 1))
NOTES = ("flags", "Notes", None)
COLUMNS = (
    *(*GENE, *LEVELS, NOTES),
    ("mean_in", "Mean in", 2),
    ("mean_out", "Mean out", 2),
    ("selection_frequency", "Selected", 2),
    ("q_value", "q", 4),
)
"""Column of ``answer_genes``, its heading, and its decimals (None: text)."""


@dataclass(frozen=True)
class GeneTable:
    """Genes of a list, with what copies and saves them.

    Attributes
    ----------
    headings
        Heading of each column, and whether it holds numbers.
    rows
        Cells as text, the best gene first.
    n_genes
        Genes in the stored list, of which ``rows`` may be the first ones.
    names
        All genes, one per line: what is copied.
    csv
        A link that holds the list as a file; empty where ``rows`` are cut, or of many lists.
    file_name
        Its name.
    """

    headings: tuple[tuple[str, bool], ...]
    rows: tuple[tuple[str, ...], ...] = ()
    n_genes: int = 0
    names: str = ""
    csv: str = ""
    file_name: str = ""


@dataclass(frozen=True)
class Card:
    """A population with its lists: of an answer its genes, of a check heading, genes and words for none."""

    place: int
    population: str
    n_cells: int | None
    lists: tuple[tuple[Any, ...], ...]


def cards(results: ResultFolder, answers: Sequence[Answer]) -> list[Card]:
    """Put the genes of the answers together by population.

    Parameters
    ----------
    results
        Result folder; read: ``answer_genes``, ``genes``.
    answers
        The answers, in the order to show.

    Returns
    -------
    list of Card
        Empty without a table of genes.
    """
    table = results.table("answer_genes")
    if table is None:
        return []
    lists = {key: rows.sort_values("rank") for key, rows in table.groupby(["population", "estimand"], sort=False)}
    most = max(20, MOST_ROWS // max(1, len(lists)))
    made = []
    for place, population in enumerate(dict.fromkeys(answer["population"] for answer in answers)):
        population_answers = [answer for answer in answers if answer["population"] == population]
        tables = []
        for answer in population_answers:
            genes = lists.get((population, answer["estimand"]))
            labels = [] if genes is None else [results.gene_label(str(gene)) for gene in genes["gene"]]
            file = file_name(place, population, answer["estimand"])
            tables.append((answer, gene_table(COLUMNS, genes, labels, file if len(lists) <= MOST_FILES else "", most)))
        made.append(Card(place, population, population_answers[0]["n_cells"], tuple(tables)))
    return made


def gene_table(
    columns: Sequence[Column], genes: pd.DataFrame | None, labels: Sequence[str], file: str, most: int | None = None
) -> GeneTable:
    """Write genes as the cells of a table, as names to copy, and as a file to save.

    Parameters
    ----------
    columns
        Name, heading and decimals (None: text) of each.
    genes
        One row each, the best first; None: there are none.
    labels
        What each gene is called in the table.
    file
        Name of the file that is saved; empty: none.
    most
        Rows of the table; None: all.
    """
    headings = tuple((heading, digits is not None) for _, heading, digits in columns)
    if genes is None or genes.empty:
        return GeneTable(headings)
    records = genes.to_dict("records")
    rows = tuple(
        tuple(label if name == "gene" else _cell(record.get(name), name, digits) for name, _, digits in columns)
        for record, label in zip(records[:most], labels, strict=False)
    )
    names = "\n".join(str(record.get("symbol") or record["gene"]) for record in records if record["gene"])
    link = _csv_link(genes.drop(columns="status", errors="ignore")) if file and len(rows) == len(genes) else ""
    return GeneTable(headings, rows, len(genes), names, link, file)


def file_name(place: int, population: str, what: str) -> str:
    """Name the file that a link saves: in the order of the page, safe on every system."""
    safe = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in population)[:40]
    return f"{place + 1}_{safe}_{what}.csv"


def _cell(value: Any, name: str, digits: int | None) -> str:
    """Write a value for readers; nothing for what is not known."""
    if value is None or value != value or (value == "" and digits is not None):
        return ""
    if digits is None:
        return str(value)
    if name.startswith("q_") and 0 < float(value) < 1e-3:
        return f"{float(value):.0e}"
    return f"{float(value):z.{digits}f}".replace("-", "−")


def _csv_link(rows: pd.DataFrame) -> str:
    """Return a data link to the rows; text that a spreadsheet would take for a formula is made harmless."""
    text = rows.map(_harmless).to_csv(index=False, lineterminator="\n", na_rep="nan")
    return f"data:text/csv;charset=utf-8,{quote(text)}"


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value
