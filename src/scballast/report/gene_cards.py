"""A card per population: both answers with all their genes, ready to be read, searched, copied and saved."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from scballast.report.answer_section import Answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from scballast.report.stored_tables import ResultFolder

MOST_ROWS = 8_000
"""Rows of all gene tables of a page together; beyond it each list is cut, says so, and is no file in the page."""

MOST_FILES = 100
"""Lists of a page that are files in it; of more all are in the table beside it."""

COLUMNS = (
    ("rank", "Rank", 0),
    ("gene", "Gene", None),
    ("log2_fold_change", "log2 FC", 2),
    ("pct_in", "% in", 1),
    ("pct_out", "% out", 1),
    ("flags", "Notes", None),
    ("mean_in", "Mean in", 2),
    ("mean_out", "Mean out", 2),
    ("selection_frequency", "Selected", 2),
    ("q_value", "q", 4),
)
"""Column of ``answer_genes``, its heading, and its decimals (None: text)."""


@dataclass(frozen=True)
class GeneList:
    """All genes of one answer.

    Attributes
    ----------
    answer
        Which list.
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

    answer: Answer
    headings: tuple[tuple[str, bool], ...]
    rows: tuple[tuple[str, ...], ...]
    n_genes: int
    names: str
    csv: str
    file_name: str


@dataclass(frozen=True)
class Card:
    """A population with its lists."""

    place: int
    population: str
    n_cells: int | None
    lists: tuple[GeneList, ...]


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
    for place, population in enumerate(dict.fromkeys(answer.population for answer in answers)):
        population_answers = [answer for answer in answers if answer.population == population]
        made.append(
            Card(
                place,
                population,
                population_answers[0].n_cells,
                tuple(
                    _gene_list(
                        results,
                        answer,
                        lists.get((population, answer.estimand)),
                        most,
                        f"{place + 1}",
                        with_file=len(lists) <= MOST_FILES,
                    )
                    for answer in population_answers
                ),
            )
        )
    return made


def _gene_list(
    results: ResultFolder, answer: Answer, rows: pd.DataFrame | None, most: int, place: str, *, with_file: bool
) -> GeneList:
    headings = tuple((heading, digits is not None) for _, heading, digits in COLUMNS)
    if rows is None:
        return GeneList(answer, headings, (), 0, "", "", "")
    shown = tuple(
        tuple(_cell(results, name, row.get(name), digits) for name, _, digits in COLUMNS)
        for row in rows.head(most).to_dict("records")
    )
    symbols = rows["symbol"] if "symbol" in rows else rows["gene"]
    names = "\n".join(str(symbol) or str(gene) for symbol, gene in zip(symbols, rows["gene"], strict=True))
    file = file_name(place, answer.population, answer.estimand)
    link = csv_link(rows) if with_file and len(shown) == len(rows) else ""
    return GeneList(answer, headings, shown, len(rows), names, link, file)


def file_name(place: str, population: str, what: str) -> str:
    """Name the file that a link saves: in the order of the page, safe on every system."""
    safe = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in population)[:40]
    return f"{place}_{safe}_{what}.csv"


def _cell(results: ResultFolder, name: str, value: Any, digits: int | None) -> str:
    if name == "gene":
        return results.gene_label(str(value))
    return cell_text(value, digits, small=name.endswith("q_value"))


def cell_text(value: Any, digits: int | None, *, small: bool = False) -> str:
    """Write a cell for readers; nothing for what is not known.

    Parameters
    ----------
    value
        As it is stored.
    digits
        Decimals; None: text.
    small
        Whether numbers below 0.001 are written by their order of magnitude.
    """
    if digits is None:
        return "" if value is None else str(value)
    if value is None or value == "" or value != value:
        return ""
    if small and 0 < float(value) < 1e-3:
        return f"{float(value):.0e}"
    return f"{float(value):z.{digits}f}".replace("-", "−")


def csv_link(rows: pd.DataFrame) -> str:
    """Return a data link to the rows; text that a spreadsheet would take for a formula is made harmless."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(rows.columns)
    for row in rows.itertuples(index=False):
        writer.writerow([_harmless(value) for value in row])
    return f"data:text/csv;charset=utf-8,{quote(buffer.getvalue())}"


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value
