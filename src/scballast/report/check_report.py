"""The report of a check of somebody's gene lists."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from scballast.config import keys
from scballast.methods.method import LIST_ESTIMANDS
from scballast.methods.registry import CONTROLS
from scballast.report.answer_section import Glyph
from scballast.report.description import markdown, with_what_fits
from scballast.report.gene_cards import GENE, LEVELS, NOTES, Card, GeneTable, file_name, gene_table
from scballast.report.html import Column, Fact, Section, grid_of, two, write_page
from scballast.report.stored_tables import ResultFolder
from scballast.results import read_json, setting

_MOST_AGREEING = 3
_NOTHING_MISSED = "No confirmed gene of the answers is missing from the list."

# Column, its heading, and its decimals (None: text); the gene's name stands second, where the page's search looks.
_GENES = (
    *GENE,
    ("status", "Confirmed as", None),
    ("why", "Why not (as a marker)", None),
    ("q_marker", "q marker", 4),
    ("q_program", "q program", 4),
    *(*LEVELS, NOTES),
    ("found", "Found as", None),
)
_MISSED = (
    *GENE,
    ("estimand", "As", None),
    ("method", "Method", None),
    *LEVELS,
    ("q_value", "q", 4),
    NOTES,
)
_METHODS = (
    ("population", "Population", None),
    ("estimand", "As", None),
    ("method", "Method", None),
    ("k", "Genes", 0),
    ("overlap", "In common", 2),
    ("lower", "from", 2),
    ("upper", "to", 2),
    ("chance", "Chance", 2),
    ("others", "Other populations", 2),
    ("confirmed", "Method’s own confirmed", 2),
)


Row = Mapping[str, Any]
"""A list in one of its two readings: what ``tables/check.csv`` says of it, and beside it ``place`` of its population,
``n_cells`` (None: not known), ``agrees`` (methods, each with the share in common) and ``glyph`` (None: not tested)."""


def render_check_report(folder: Path) -> None:
    """Write ``report.html`` and ``description.md`` of a check of somebody's lists.

    Parameters
    ----------
    folder
        A check's folder. Read: ``tables/check*.csv``, ``tags.json``, ``warnings.json`` and ``config/resolved.yaml``.
    """
    results = ResultFolder(folder)
    rows = _rows(results)
    lists, data = results.tags.get(keys.LISTS, "lists"), results.dataset
    values = {
        "title": f"Do these genes hold? {lists} on {data}",
        "facts": _facts(results, rows),
        "rows": rows,
        "n_hold": _n_holding(rows),
        "cards": _cards(results, rows),
        "origin": results.tags.get(keys.RANKINGS, ""),
        "sections": (_agreement(results),),
        "notes": read_json(folder / "warnings.json", []),
    }
    write_page(folder, "check.html.j2", values, _description(rows, lists, data))


def _description(rows: Sequence[Row], lists: str, data: str) -> str:
    """Write the verdict of each list as Markdown, as many as fit."""
    head = (
        f"**Do these genes hold?** {markdown(lists)} on {markdown(data)}: {_n_holding(rows)} of {len(rows)} "
        "readings hold. Details: `report.html`.\n\n| list | read as | verdict | confirmed | floor | best of ours |\n"
        "|---|---|---|---|---|---|"
    )
    lines = []
    for row in rows:
        cells = (row["estimand"], row["verdict"], f"{two(row['confirmed'])} [{two(row['lower'])}]", two(row["floor"]))
        best = f"{markdown(row['method'])} {two(row['method_confirmed'])}" if row["method"] else ""
        lines.append(f"| {' | '.join((markdown(row['population']), *cells, best))} |")
    return "\n".join(with_what_fits([head], lines)) + "\n"


def _n_holding(rows: Sequence[Row]) -> int:
    return sum(row["verdict"] == "holds" for row in rows)


def _facts(results: ResultFolder, rows: Sequence[Row]) -> list[Fact]:
    table = results.table("check_genes")
    facts = [Fact("populations with a list", len({row["population"] for row in rows}), 0)]
    if table is not None:
        facts += [Fact("genes listed", len(table), 0), Fact("tested", int((table["gene"] != "").sum()), 0)]
    facts.append(Fact("replicates", setting(results.config, "resample.n_replicates"), 0))
    return [*facts, Fact("resampling", setting(results.config, "resample.kind"))]


def _rows(results: ResultFolder) -> list[Row]:
    table, methods = results.table("check"), results.table("check_methods")
    if table is None:
        return []
    places = {name: place for place, name in enumerate(dict.fromkeys(table["population"]))}
    return [
        {
            **row,
            "place": places[row["population"]],
            "n_cells": results.n_cells.get(row["population"]),
            "agrees": agreeing(methods, row["population"], row["estimand"]),
            "glyph": _glyph(row) if row["verdict"] != "not tested" else None,
        }
        for row in table.to_dict("records")
    ]


def agreeing(methods: pd.DataFrame | None, population: str, estimand: str) -> str:
    """Name the methods that a list agrees with beyond chance and beyond lists of other populations, best first."""
    if methods is None:
        return ""
    of_list = (methods["population"] == population) & (methods["estimand"] == estimand)
    agreed = methods[of_list & methods["agrees"].astype(bool) & ~methods["method"].isin(CONTROLS)]
    agreed = agreed.sort_values("overlap", ascending=False)
    more = [f"{len(agreed) - _MOST_AGREEING} more"] if len(agreed) > _MOST_AGREEING else []
    return ", ".join([*(f"{row.method} {row.overlap:.2f}" for row in agreed.head(_MOST_AGREEING).itertuples()), *more])


def _glyph(shares: Mapping[str, float]) -> Glyph:
    confirmed, lower, floor = (100 * shares[name] for name in ("confirmed", "lower", "floor"))
    return {"phi": confirmed, "lower": lower, "upper": confirmed, "floor": None if math.isnan(floor) else floor}


def _cards(results: ResultFolder, rows: Sequence[Row]) -> list[Card]:
    """Return each population's list gene by gene, and what the methods found: heading, genes, words for none."""
    genes, missed = results.table("check_genes"), results.table("check_missed")
    made = []
    for place, population in enumerate(dict.fromkeys(row["population"] for row in rows)):
        listed, instead = (
            None if table is None else table[table["population"] == population] for table in (genes, missed)
        )
        of_list = _table(_GENES, None if listed is None else _with_status(listed), place, population, "list")
        beside = _table(_MISSED, instead, place, population, "instead")
        lists = (("The list", of_list, ""), ("Confirmed, and not in the list", beside, _NOTHING_MISSED))
        made.append(Card(place, population, None, lists))
    return made


def _with_status(genes: pd.DataFrame) -> pd.DataFrame:
    status = []
    for row in genes.itertuples():
        held = [name for name in LIST_ESTIMANDS if getattr(row, f"confirmed_{name}")]
        status.append(" and ".join(held) or ("–" if row.gene else "not tested"))
    return genes.assign(status=status)


def _table(columns: Sequence[Column], genes: pd.DataFrame | None, place: int, population: str, what: str) -> GeneTable:
    labels = []
    for row in () if genes is None else genes.to_dict("records"):
        gene, symbol = str(row["gene"]), str(row["symbol"])
        labels.append(f"{symbol} ({gene})" if gene and symbol and symbol != gene else gene or str(row["listed"]))
    return gene_table(columns, genes, labels, file_name(place, population, what))


def _agreement(results: ResultFolder) -> Section:
    lead = (
        "Share of a list among the first genes of each method, as many as the list has, in every replicate. The "
        "method’s own lists of other populations, and chance, say what is no agreement."
    )
    table = results.table("check_methods")
    if table is None:
        return Section("agreement", "Agreement with each method", lead, missing="No method ranked these populations.")
    caption = "Agreement of each list with each method, and how much of the method’s list of that length is confirmed."
    grid = grid_of(caption, _METHODS, table.to_dict("records"))
    return Section("agreement", "Agreement with each method", lead, grids=(grid,))
