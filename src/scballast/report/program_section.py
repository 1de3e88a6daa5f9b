"""The report's section on programs with their figure, and the file of their genes that enrichment tools read."""

from __future__ import annotations

import math

import pandas as pd

from scballast.experiment.gene_sets import program_genes
from scballast.report import style
from scballast.report.figure_names import figure_labels
from scballast.report.html import Drawing, Grid, Picture, Section, grid_of
from scballast.report.stored_tables import ResultFolder

_SHOWN_GENES = 12  # of a side of a program in the table, of a program in its map
_MAPS_IN_ROW = 3
_LIMIT = 1.5  # standard deviations at the ends of the colours
_SHOWN_SETS = 3
_SMALLEST_SET = 3
_MOST_MAPS = 12
_SHOWN_MATCHES = 5


# Columns of the tables: name, heading, decimals.
_PROGRAMS = (
    ("population", "Population", None),
    ("program", "Program", None),
    ("up", "Genes up", None),
    ("down", "Genes down", None),
    ("with", "Goes with", None),
    ("explained", "Explained", 2),
    ("reproducibility", "Reproducibility", 2),
    ("lower", "lower", 2),
    ("upper", "upper", 2),
    ("floor", "floor", 2),
)
_COUNTS = (
    ("population", "Population", None),
    ("n_cells", "Cells", 0),
    ("n_looked_at", "of them looked at", 0),
    ("n_programs", "Programs", 0),
    ("n_flagged", "of them flagged", 0),
    ("reason", "Why none", None),
)
_ENRICHMENT = (
    ("population", "Population", None),
    ("list", "List", None),
    ("gene_set", "Gene set", None),
    ("common", "Genes in common", None),
    ("fold", "Fold", 1),
    ("q_value", "FDR", 3),
    ("power", "−log10 FDR", 1),
)


def section(results: ResultFolder, counts: pd.DataFrame) -> Section:
    """Show every population's programs, one row each, and write ``programs.gmt``.

    Parameters
    ----------
    results
        Result folder; read: ``programs``, ``program_summary``, ``program_map``, ``program_activity``,
        ``program_enrichment``.
    counts
        Its table ``program_counts``.
    """
    title = "Programs"
    lead = (
        "Which genes go together within a population, and in which cells are they on? A program is shown only if "
        "weights found without a fifth of the cells make an activity in that fifth that is more program than noise of "
        "single genes, and if two halves of the cells, each blind to the other, find the same weights; both beyond "
        "permuted cells, the weights also beyond other populations. Of its leading genes those are listed that follow "
        "the activity in cells that its weights never saw (false discovery rate 5%)."
    )
    summary, genes = results.table("program_summary"), results.table("programs")
    grids = []
    drawings = []
    if summary is not None and genes is not None:
        write_gmt(results, genes)
        grids.append(_program_grid(results, summary, genes))
        shown = summary.sort_values("flags", key=lambda flags: flags != "", kind="stable").head(_MOST_MAPS)
        drawings.append(Drawing(maps, (shown,)))
    enrichment = results.table("program_enrichment")
    if enrichment is not None:
        grids.append(_enrichment_grid(enrichment))
    grids.append(_count_grid(counts))
    return Section("programs", title, lead, grids=tuple(grids), drawings=tuple(drawings))


def write_gmt(results: ResultFolder, genes: pd.DataFrame) -> None:
    """Write ``programs.gmt``: a line per program and side, its genes by symbol where there are any."""
    lines = []
    for (population, program), rows in genes.groupby(["population", "program"], sort=False):
        for side, side_genes in program_genes(rows).items():
            names = [results.symbols.get(gene, gene) for gene in side_genes]
            if len(names) >= _SMALLEST_SET:
                label = " ".join(f"{population} {program} {side}".split())
                lines.append("\t".join([label, f"scballast program of {results.dataset}", *names]))
    (results.path / "programs.gmt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def maps(results: ResultFolder, summary: pd.DataFrame) -> Picture:
    """Draw a small heat map per program, with the distribution of its activity above.

    Parameters
    ----------
    results
        Result folder; read: ``program_map``, ``program_activity``.
    summary
        The rows of ``program_summary`` to draw, in this order; at least one.

    Returns
    -------
    Picture
        ``programs``.
    """
    tiles, activity = results.table("program_map"), results.table("program_activity")
    assert tiles is not None
    assert activity is not None  # written together with the summary
    tiles_of, cells_of = (dict(iter(table.groupby(["population", "program"]))) for table in (tiles, activity))
    n_rows = math.ceil(len(summary) / _MAPS_IN_ROW)
    figure = style.new_figure(2.75 * n_rows + 0.5)
    grid = figure.subplots(2 * n_rows, _MAPS_IN_ROW, squeeze=False, height_ratios=[1, 4] * n_rows)
    populations = figure_labels(list(dict.fromkeys(summary["population"])), 34)
    for place, item in enumerate(summary.to_dict("records")):
        row, column = divmod(place, _MAPS_IN_ROW)
        above, below = grid[2 * row, column], grid[2 * row + 1, column]
        program_tiles = tiles_of[item["population"], item["program"]]
        genes = list(dict.fromkeys(program_tiles["gene"]))[:_SHOWN_GENES]
        values = program_tiles.pivot_table(index="gene", columns="bin", values="value").loc[genes].to_numpy(dtype=float)
        below.imshow(values, aspect="auto", cmap=style.DIVERGING, vmin=-_LIMIT, vmax=_LIMIT, interpolation="nearest")
        symbols = [results.symbols.get(gene, gene) for gene in genes]
        labels = figure_labels(symbols, 16)
        style.name_rows(below, [labels[symbol] for symbol in symbols], fontsize=6.5)
        below.set_xticks([])
        cells = cells_of[item["population"], item["program"]]
        above.hist(cells["activity"].to_numpy(dtype=float), bins=30, color=style.ESTIMAND_COLOURS["program"])
        above.set_yticks([])
        above.spines[:].set_visible(False)
        above.tick_params(axis="x", labelsize=6.5, length=2)
        mark = " (flagged)" if item["flags"] else ""
        above.set_title(f"{populations[item['population']]} {item['program']}{mark}", fontsize=8)
    for axes in grid[-2:, (len(summary) - 1) % _MAPS_IN_ROW + 1 :].flat:
        axes.set_axis_off()
    bar = style.colour_bar(
        figure, grid[1, 0].images[0], list(grid[-1]), "log counts, standard deviations of the gene",
        location="bottom", shrink=0.4, aspect=26, pad=0.04,
    )  # fmt: skip
    bar.ax.xaxis.label.set_fontsize(8)
    caption = (
        f"The {_SHOWN_GENES} genes of the largest weight of each program, over the population's cells ordered by the "
        "program's activity from low (left) to high (right), mean of up to 40 bins of equally many cells. Above: how "
        "the activity is spread over cells, in standard deviations of counting noise. Each cell's activity comes from "
        "weights that were found without the cell."
    )
    alt = f"Heat maps of {len(summary)} programs: genes by cells ordered by activity, with histograms of the activity."
    return style.finish(figure, results.path, "programs", caption=caption, alt=alt)


def _program_grid(results: ResultFolder, summary: pd.DataFrame, genes: pd.DataFrame) -> Grid:
    lists = {key: rows for key, rows in genes.groupby(["population", "program"], sort=False)}
    records = []
    for item in summary.to_dict("records"):
        of_program = program_genes(lists[item["population"], item["program"]])
        sides = {
            side: ", ".join(results.symbols.get(gene, gene) for gene in of_program.get(side, ())[:_SHOWN_GENES])
            for side in ("up", "down")
        }
        words = [item["flags"]] if item["flags"] else []
        words += [f"also in {_first_matches(item['matches'])}"] if item["matches"] else []
        records.append({**item, **sides, "with": "; ".join(words) or "its own"})
    caption = (
        f"One row per program: its first {_SHOWN_GENES} genes on either side; what it goes with, where that may be all "
        "it is; the share of the population's variance beyond counting noise; the share of its activity's variance in "
        "unseen cells that is covariation of its genes, with 95% interval and floor. All genes: tables/programs.csv, "
        "programs.gmt; the activity of the cells looked at: tables/program_activity.parquet."
    )
    return grid_of(caption, _PROGRAMS, records)


def _first_matches(matches: str) -> str:
    """Name the best matches; a program that all of many populations share has one in each."""
    names = matches.split("; ")
    more = f"; and {len(names) - _SHOWN_MATCHES} more" if len(names) > _SHOWN_MATCHES else ""
    return f"{'; '.join(names[:_SHOWN_MATCHES])}{more}"


def _count_grid(counts: pd.DataFrame) -> Grid:
    if "n_looked_at" not in counts:  # of an earlier version
        counts = counts.assign(n_looked_at=counts["n_cells"])
    records = counts.assign(reason=counts["reason"].where(counts["reason"] != "", "–")).to_dict("records")
    return grid_of("How many programs each population has; none is an answer too.", _COUNTS, records)


def _enrichment_grid(enrichment: pd.DataFrame) -> Grid:
    best = enrichment.groupby(["population", "list"], sort=False).head(_SHOWN_SETS)
    common = [f"{int(row.n_common)} of {int(row.n_set)}" for row in best.itertuples()]
    power = [-math.log10(max(float(q_value), 1e-300)) for q_value in best["q_value"]]
    caption = (
        f"The {_SHOWN_SETS} best gene sets of each list, by the hypergeometric test among the analysed genes (not the "
        "genome); FDR over the sets of each list. More: tables/program_enrichment.csv."
    )
    return grid_of(caption, _ENRICHMENT, best.assign(common=common, power=power).to_dict("records"))
