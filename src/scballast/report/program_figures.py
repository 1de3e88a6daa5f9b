"""Figures of programs: genes over cells ordered by activity, and how the activity is spread."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from scballast.report import style
from scballast.report.figure_names import figure_labels

if TYPE_CHECKING:
    import pandas as pd

    from scballast.report.stored_tables import ResultFolder
    from scballast.report.style import Picture

_COLUMNS = 3
_GENES = 12
_LIMIT = 1.5  # standard deviations at the ends of the colours


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
    n_rows = math.ceil(len(summary) / _COLUMNS)
    figure = style.new_figure(2.75 * n_rows + 0.5)
    grid = figure.subplots(2 * n_rows, _COLUMNS, squeeze=False, height_ratios=[1, 4] * n_rows)
    populations = figure_labels(list(dict.fromkeys(summary["population"])), 34)
    for place, item in enumerate(summary.to_dict("records")):
        row, column = divmod(place, _COLUMNS)
        above, below = grid[2 * row, column], grid[2 * row + 1, column]
        program_tiles = tiles[(tiles["population"] == item["population"]) & (tiles["program"] == item["program"])]
        genes = list(dict.fromkeys(program_tiles["gene"]))[:_GENES]
        values = np.stack(
            [
                program_tiles[program_tiles["gene"] == gene].sort_values("bin")["value"].to_numpy(dtype=float)
                for gene in genes
            ]
        )
        below.imshow(values, aspect="auto", cmap=style.DIVERGING, vmin=-_LIMIT, vmax=_LIMIT, interpolation="nearest")
        labels = figure_labels([results.symbols.get(gene, gene) for gene in genes], 16)
        style.name_rows(below, [labels[results.symbols.get(gene, gene)] for gene in genes], fontsize=6.5)
        below.set_xticks([])
        cells = activity[(activity["population"] == item["population"]) & (activity["program"] == item["program"])]
        above.hist(cells["activity"].to_numpy(dtype=float), bins=30, color=style.ESTIMAND_COLOURS["program"])
        above.set_yticks([])
        above.spines[:].set_visible(False)
        above.tick_params(axis="x", labelsize=6.5, length=2)
        mark = " (flagged)" if item["flags"] else ""
        above.set_title(f"{populations[item['population']]} {item['program']}{mark}", fontsize=8)
    for place in range(len(summary), n_rows * _COLUMNS):
        row, column = divmod(place, _COLUMNS)
        grid[2 * row, column].set_axis_off()
        grid[2 * row + 1, column].set_axis_off()
    bar = figure.colorbar(grid[1, 0].images[0], ax=list(grid[-1]), location="bottom", shrink=0.4, aspect=26, pad=0.04)
    bar.set_label("log counts, standard deviations of the gene", fontsize=8)
    bar.outline.set_visible(False)
    caption = (
        f"The {_GENES} genes of the largest weight of each program, over the population's cells ordered by the "
        "program's activity from low (left) to high (right), mean of up to 40 bins of equally many cells. Above: how "
        "the activity is spread over cells, in standard deviations of counting noise. Each cell's activity comes from "
        "weights that were found without the cell."
    )
    alt = f"Heat maps of {len(summary)} programs: genes by cells ordered by activity, with histograms of the activity."
    return style.finish(figure, results.path, "programs", caption=caption, alt=alt)
