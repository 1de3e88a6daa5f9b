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
from scballast.report.gene_cards import cell_text, csv_link, file_name
from scballast.report.html import Fact, Grid, Section, write_page
from scballast.report.stored_tables import ResultFolder, read_json, setting
from scballast.report.style import two

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd

_MOST_AGREEING = 3

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
class Listing:
    """A table of genes of a population, with what copies and saves it."""

    title: str
    headings: tuple[tuple[str, bool], ...]
    rows: tuple[tuple[str, ...], ...]
    names: str
    csv: str
    file_name: str
    nothing: str


@dataclass(frozen=True)
class ListCard:
    """A population: its list gene by gene, and what the methods found beside it."""

    place: int
    population: str
    listings: tuple[Listing, ...]


def render(folder: Path) -> None:
    """Write ``report.html`` of a check's folder (see the package)."""
    from importlib.metadata import version

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
        "version": version("scballast"),
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
    sizes = _sizes(results)
    places: dict[str, int] = {}
    rows = []
    for row in () if table is None else table.itertuples():
        place = places.setdefault(row.population, len(places))
        tested = row.verdict != "not tested"
        rows.append(
            Row(
                place=place,
                population=str(row.population),
                estimand=str(row.estimand),
                n_cells=sizes.get(str(row.population)),
                n_listed=int(row.n_listed),
                n_genes=int(row.n_genes),
                verdict=str(row.verdict),
                reason=str(row.reason),
                confirmed=float(row.confirmed),
                lower=float(row.lower),
                floor=float(row.floor),
                method=str(row.method),
                method_confirmed=float(row.method_confirmed),
                agrees=agreeing(methods, str(row.population), str(row.estimand)),
                glyph=_glyph(float(row.confirmed), float(row.lower), float(row.floor)) if tested else None,
            )
        )
    return rows


def agreeing(methods: pd.DataFrame | None, population: str, estimand: str) -> str:
    """Name the methods that a list agrees with beyond chance and beyond lists of other populations, best first."""
    if methods is None:
        return ""
    agreed = methods[(methods["population"] == population) & (methods["estimand"] == estimand)]
    agreed = agreed[agreed["agrees"].astype(bool) & ~agreed["method"].isin(CONTROLS)].sort_values(
        "overlap", ascending=False
    )
    more = [f"{len(agreed) - _MOST_AGREEING} more"] if len(agreed) > _MOST_AGREEING else []
    return ", ".join([*(f"{row.method} {row.overlap:.2f}" for row in agreed.head(_MOST_AGREEING).itertuples()), *more])


def _sizes(results: ResultFolder) -> dict[str, int]:
    table = results.table("populations")
    if table is None:
        return {}
    return {str(row.population): int(row.n_cells) for row in table.itertuples()}


def _glyph(confirmed: float, lower: float, floor: float) -> Glyph:
    return Glyph(100 * confirmed, 100 * lower, 100 * confirmed, None if math.isnan(floor) else 100 * floor)


def _cards(results: ResultFolder, rows: Sequence[Row]) -> list[ListCard]:
    genes, missed = results.table("check_genes"), results.table("check_missed")
    made = []
    for place, population in enumerate(dict.fromkeys(row.population for row in rows)):
        listed = None if genes is None else genes[genes["population"] == population]
        instead = None if missed is None else missed[missed["population"] == population]
        made.append(
            ListCard(
                place,
                population,
                (
                    _listing(
                        "The list", _GENES, None if listed is None else _with_status(listed), population, place, "list"
                    ),
                    _listing(
                        "Confirmed, and not in the list", _MISSED, instead, population, place, "instead",
                        "No confirmed gene of the answers is missing from the list.",
                    ),
                ),
            )
        )  # fmt: skip
    return made


def _with_status(genes: pd.DataFrame) -> pd.DataFrame:
    status = []
    for row in genes.itertuples():
        held = [name for name in LIST_ESTIMANDS if getattr(row, f"confirmed_{name}")]
        status.append(" and ".join(held) or ("–" if row.gene else "not tested"))
    return genes.assign(status=status)


def _listing(
    title: str,
    columns: Sequence[tuple[str, str, int | None]],
    rows: pd.DataFrame | None,
    population: str,
    place: int,
    what: str,
    nothing: str = "",
) -> Listing:
    headings = tuple((heading, digits is not None) for _, heading, digits in columns)
    if rows is None or rows.empty:
        return Listing(title, headings, (), "", "", "", nothing)
    cells = tuple(tuple(_cell(row, name, digits) for name, _, digits in columns) for row in rows.to_dict("records"))
    names = "\n".join(str(row["symbol"] or row["gene"]) for row in rows.to_dict("records") if row["gene"])
    saved = rows.drop(columns="status", errors="ignore")
    return Listing(title, headings, cells, names, csv_link(saved), file_name(f"{place + 1}", population, what), nothing)


def _cell(row: dict[str, Any], name: str, digits: int | None) -> str:
    if name == "gene":
        gene, symbol = str(row["gene"]), str(row["symbol"])
        if not gene:
            return str(row["listed"])
        return f"{symbol} ({gene})" if symbol and symbol != gene else gene
    return cell_text(row.get(name), digits, small=digits == 4)


def _agreement(results: ResultFolder) -> Section:
    lead = (
        "Share of a list among the first genes of each method, as many as the list has, in every replicate. The "
        "method’s own lists of other populations, and chance, say what is no agreement."
    )
    table = results.table("check_methods")
    if table is None:
        return Section("agreement", "Agreement with each method", lead, missing="No method ranked these populations.")
    columns = (
        ("Population", None), ("As", None), ("Method", None), ("Genes", 0), ("In common", 2), ("from", 2), ("to", 2),
        ("Chance", 2), ("Other populations", 2), ("Method’s own confirmed", 2),
    )  # fmt: skip
    names = ("overlap", "lower", "upper", "chance", "others", "confirmed")
    rows = tuple(
        (row["population"], row["estimand"], row["method"], row["k"], *(row[name] for name in names))
        for row in table.to_dict("records")
    )
    caption = "Agreement of each list with each method, and how much of the method’s list of that length is confirmed."
    return Section("agreement", "Agreement with each method", lead, grids=(Grid(caption, columns, rows),))
