"""The report's section on programs, and the file of their genes that enrichment tools read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from scballast.report import program_figures
from scballast.report.html import Grid, Section

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from scballast.report.stored_tables import ResultFolder

_SHOWN_GENES = 12
_SHOWN_SETS = 3
_SMALLEST_SET = 3
_MOST_MAPS = 12
_SHOWN_MATCHES = 5


def section(results: ResultFolder) -> Section:
    """Show every population's programs, one row each, and write ``programs.gmt``.

    Parameters
    ----------
    results
        Result folder; read: ``programs``, ``program_summary``, ``program_counts``, ``program_map``,
        ``program_activity``, ``program_enrichment``.
    """
    title = "Programs"
    lead = (
        "Which genes go together within a population, and in which cells are they on? A program is shown only if "
        "weights found without a fifth of the cells make an activity in that fifth that is more program than noise of "
        "single genes, and if two halves of the cells, each blind to the other, find the same weights; both beyond "
        "permuted cells, the weights also beyond other populations. Of its leading genes those are listed that follow "
        "the activity in cells that its weights never saw (false discovery rate 5%)."
    )
    counts = results.table("program_counts")
    if counts is None:
        return Section("programs", title, lead, missing="Left out: there is no tables/program_counts.csv.")
    summary, genes = results.table("program_summary"), results.table("programs")
    grids = []
    pictures = []
    if summary is not None and genes is not None:
        write_gmt(results, genes)
        grids.append(_program_grid(results, summary, genes))
        shown = summary.sort_values("flags", key=lambda flags: flags != "", kind="stable").head(_MOST_MAPS)
        pictures.append(program_figures.maps(results, shown))
    enrichment = results.table("program_enrichment")
    if enrichment is not None:
        grids.append(_enrichment_grid(enrichment))
    grids.append(_count_grid(counts))
    return Section("programs", title, lead, tuple(pictures), tuple(grids))


def write_gmt(results: ResultFolder, genes: pd.DataFrame) -> None:
    """Write ``programs.gmt``: a line per program and side, its genes by symbol where there are any."""
    lines = []
    for (population, program), rows in genes.groupby(["population", "program"], sort=False):
        for side, side_genes in _sides(rows):
            names = [results.symbols.get(gene, gene) for gene in side_genes["gene"]]
            if len(names) >= _SMALLEST_SET:
                label = " ".join(f"{population} {program} {side}".split())
                lines.append("\t".join([label, f"scballast program of {results.dataset}", *names]))
    (results.path / "programs.gmt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _sides(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    listed = rows[rows["confirmed"]]
    yield "up", listed[listed["weight"] > 0]
    yield "down", listed[listed["weight"] < 0]


def _program_grid(results: ResultFolder, summary: pd.DataFrame, genes: pd.DataFrame) -> Grid:
    lists = {key: rows for key, rows in genes.groupby(["population", "program"], sort=False)}
    rows: list[tuple[Any, ...]] = []
    for item in summary.to_dict("records"):
        sides = dict(_sides(lists[item["population"], item["program"]]))
        names = [
            ", ".join(results.symbols.get(gene, gene) for gene in sides[side]["gene"].head(_SHOWN_GENES))
            for side in ("up", "down")
        ]
        words = [item["flags"]] if item["flags"] else []
        words += [f"also in {_first_matches(item['matches'])}"] if item["matches"] else []
        numbers = [item[name] for name in ("explained", "reproducibility", "lower", "upper", "floor")]
        rows.append((item["population"], item["program"], *names, "; ".join(words) or "its own", *numbers))
    columns = (
        ("Population", None),
        ("Program", None),
        ("Genes up", None),
        ("Genes down", None),
        ("Goes with", None),
        ("Explained", 2),
        ("Reproducibility", 2),
        ("lower", 2),
        ("upper", 2),
        ("floor", 2),
    )
    caption = (
        f"One row per program: its first {_SHOWN_GENES} genes on either side; what it goes with, where that may be all "
        "it is; the share of the population's variance beyond counting noise; the share of its activity's variance in "
        "unseen cells that is covariation of its genes, with 95% interval and floor. All genes: tables/programs.csv, "
        "programs.gmt; the activity of every cell: tables/program_activity.parquet."
    )
    return Grid(caption, columns, tuple(rows))


def _first_matches(matches: str) -> str:
    """Name the best matches; a program that all of many populations share has one in each."""
    names = matches.split("; ")
    more = f"; and {len(names) - _SHOWN_MATCHES} more" if len(names) > _SHOWN_MATCHES else ""
    return f"{'; '.join(names[:_SHOWN_MATCHES])}{more}"


def _count_grid(counts: pd.DataFrame) -> Grid:
    if "n_looked_at" not in counts:  # of an earlier version
        counts = counts.assign(n_looked_at=counts["n_cells"])
    names = ["population", "n_cells", "n_looked_at", "n_programs", "n_flagged", "reason"]
    rows = counts.assign(reason=counts["reason"].where(counts["reason"] != "", "–"))[names]
    columns = (
        *(("Population", None), ("Cells", 0), ("of them looked at", 0)),
        *(("Programs", 0), ("of them flagged", 0), ("Why none", None)),
    )
    caption = "How many programs each population has; none is an answer too."
    return Grid(caption, columns, tuple(rows.itertuples(index=False, name=None)))


def _enrichment_grid(enrichment: pd.DataFrame) -> Grid:
    best = enrichment.groupby(["population", "list"], sort=False).head(_SHOWN_SETS)
    rows = []
    for item in best.to_dict("records"):
        common = f"{int(item['n_common'])} of {int(item['n_set'])}"
        power = -math.log10(max(float(item["q_value"]), 1e-300))
        rows.append((item["population"], item["list"], item["gene_set"], common, item["fold"], item["q_value"], power))
    columns = (
        ("Population", None),
        ("List", None),
        ("Gene set", None),
        ("Genes in common", None),
        ("Fold", 1),
        ("FDR", 3),
        ("−log10 FDR", 1),
    )
    caption = (
        f"The {_SHOWN_SETS} best gene sets of each list, by the hypergeometric test among the analysed genes (not the "
        "genome); FDR over the sets of each list. More: tables/program_enrichment.csv."
    )
    return Grid(caption, columns, tuple(rows))
