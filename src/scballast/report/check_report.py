"""The report of a check of somebody's gene lists."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scballast.config import keys
from scballast.methods.method import LIST_ESTIMANDS
from scballast.methods.registry import CONTROLS
from scballast.report.answer_section import Glyph
from scballast.report.description import LIMIT, markdown
from scballast.report.gene_cards import GeneTable, file_name, gene_table
from scballast.report.html import Fact, Section, grid_of, write_page
from scballast.report.stored_tables import ResultFolder, read_json, setting
from scballast.report.style import two

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd

    from scballast.report.html import Column

_MOST_AGREEING = 3
_NOTHING_MISSED = "No confirmed gene of the answers is missing from the list."

# Column, its heading, and its decimals (None: text); the gene's name stands second, where the page's search looks.
_GENES = (
    ("rank", "Rank", 0),
    ("gene", "Gene", None),
    ("status", "Confirmed as", None),
    ("why", "Why not (as a marker)", None),
    ("q_marker", "q marker", 4),
    ("q_program", "q program", 4),
    ("log2_fold_change", "log2 FC", 2),
    ("pct_in", "% in", 1),
    ("pct_out", "% out", 1),
    ("flags", "Notes", None),
    ("found", "Found as", None),
)
_MISSED = (
    ("rank", "Rank", 0),
    ("gene", "Gene", None),
    ("estimand", "As", None),
    ("method", "Method", None),
    ("log2_fold_change", "log2 FC", 2),
    ("pct_in", "% in", 1),
    ("pct_out", "% out", 1),
    ("q_value", "q", 4),
    ("flags", "Notes", None),
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


@dataclass(frozen=True)
class Row:
    """A list in one of its two readings.

    Attributes
    ----------
    population, estimand
        Which.
    n_cells
        Of the population; None: not known.
    n_listed, n_genes
        Names in the list, and genes of it that are tested.
    verdict
        In words; ``reason`` says why there is none.
    confirmed, lower, floor
        Shares of the list.
    method, method_confirmed
        The method that is confirmed most at the list's length.
    agrees
        Methods that the list agrees with, each with the share in common.
    glyph
        Confirmed share, bound and floor on a line; None: not tested.
    """

    place: int
    population: str
    estimand: str
    n_cells: int | None
    n_listed: int
    n_genes: int
    verdict: str
    reason: str
    confirmed: float
    lower: float
    floor: float
    method: str
    method_confirmed: float
    agrees: str
    glyph: Glyph | None

    @property
    def holds(self) -> bool:
        """Whether the list holds."""
        return self.verdict == "holds"


@dataclass(frozen=True)
class ListCard:
    """A population: its list gene by gene, and what the methods found beside it; heading, genes, words for none."""

    place: int
    population: str
    listings: tuple[tuple[str, GeneTable, str], ...]


def render(folder: Path) -> None:
    """Write ``report.html`` of a check's folder (see the package)."""
    results = ResultFolder(folder)
    rows = _rows(results)
    lists, data = results.tags.get(keys.LISTS, "lists"), results.dataset
    values = {
        "title": f"Do these genes hold? {lists} on {data}",
        "facts": _facts(results, rows),
        "rows": rows,
        "n_hold": sum(row.holds for row in rows),
        "cards": _cards(results, rows),
        "origin": results.tags.get(keys.RANKINGS, ""),
        "sections": (_agreement(results),),
        "notes": read_json(folder / "warnings.json", []),
    }
    write_page(folder / "report.html", "check.html.j2", values)
    (folder / "description.md").write_text(_description(rows, lists, data), encoding="utf-8")


def _description(rows: Sequence[Row], lists: str, data: str) -> str:
    """Write the verdict of each list as Markdown, as many as fit."""
    n_hold = sum(row.holds for row in rows)
    head = (
        f"**Do these genes hold?** {markdown(lists)} on {markdown(data)}: {n_hold} of {len(rows)} readings hold. "
        "Details: `report.html`.\n\n| list | read as | verdict | confirmed | floor | best of ours |\n"
        "|---|---|---|---|---|---|"
    )
    lines, size = [head], len(head.encode())
    for number, row in enumerate(rows):
        cells = (row.estimand, row.verdict, f"{two(row.confirmed)} [{two(row.lower)}]", two(row.floor))
        best = f"{markdown(row.method)} {two(row.method_confirmed)}" if row.method else ""
        line = f"| {' | '.join((markdown(row.population), *cells, best))} |"
        size += len(line.encode()) + 1
        if size > LIMIT - 80:
            lines.append(f"\n{len(rows) - number} more rows: see `report.html`.")
            break
        lines.append(line)
    return "\n".join(lines) + "\n"


def _facts(results: ResultFolder, rows: Sequence[Row]) -> list[Fact]:
    table = results.table("check_genes")
    facts = [Fact("populations with a list", len({row.population for row in rows}), 0)]
    if table is not None:
        facts += [Fact("genes listed", len(table), 0), Fact("tested", int((table["gene"] != "").sum()), 0)]
    facts.append(Fact("replicates", setting(results.config, "resample.n_replicates"), 0))
    return [*facts, Fact("resampling", setting(results.config, "resample.kind"))]


def _rows(results: ResultFolder) -> list[Row]:
    table, methods = results.table("check"), results.table("check_methods")
    sizes = results.table("populations")
    n_cells = {} if sizes is None else dict(zip(sizes["population"], map(int, sizes["n_cells"]), strict=True))
    places: dict[str, int] = {}
    rows = []
    for row in () if table is None else table.to_dict("records"):
        asked = row["population"], row["estimand"]
        values: dict[str, Any] = {name: row[name] for name in ("population", "estimand", "verdict", "reason", "method")}
        values |= {name: int(row[name]) for name in ("n_listed", "n_genes")}
        values |= {name: float(row[name]) for name in ("confirmed", "lower", "floor", "method_confirmed")}
        rows.append(
            Row(
                place=places.setdefault(row["population"], len(places)),
                n_cells=n_cells.get(row["population"]),
                agrees=agreeing(methods, *asked),
                glyph=_glyph(values) if row["verdict"] != "not tested" else None,
                **values,
            )
        )
    return rows


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
    return Glyph(confirmed, lower, confirmed, None if math.isnan(floor) else floor)


def _cards(results: ResultFolder, rows: Sequence[Row]) -> list[ListCard]:
    genes, missed = results.table("check_genes"), results.table("check_missed")
    made = []
    for place, population in enumerate(dict.fromkeys(row.population for row in rows)):
        listed, instead = (
            None if table is None else table[table["population"] == population] for table in (genes, missed)
        )
        of_list = _table(_GENES, None if listed is None else _with_status(listed), place, population, "list")
        beside = _table(_MISSED, instead, place, population, "instead")
        lists = (("The list", of_list, ""), ("Confirmed, and not in the list", beside, _NOTHING_MISSED))
        made.append(ListCard(place, population, lists))
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
