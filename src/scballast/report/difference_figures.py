"""Figure of differences in stability between two methods on the same cells."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from scballast.report import style
from scballast.report.figure_names import figure_labels
from scballast.report.wording import of_drawn

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from scballast.report.stored_tables import ResultFolder
    from scballast.report.style import Picture

# The question that each pair answers: does the first reading of the model beat the second, or the usual practice?
PAIRS = (
    ("contrast", "wilcoxon"),
    ("contrast", "axis"),
    ("spread", "per_population"),
    ("local", "per_population"),
    ("conditioned", "per_population"),
    ("local", "residual_pca"),
)


def panels(results: ResultFolder) -> dict[tuple[str, str], pd.DataFrame]:
    """Find the pairs to show, in the order of ``PAIRS``.

    Parameters
    ----------
    results
        Result folder; read: ``differences``, ``populations``.

    Returns
    -------
    dict of DataFrame
        By pair: difference, lower, upper of the first method less the second, in the order of the report's
        populations; pairs without any difference are left out.
    """
    table = results.table("differences")
    if table is None:
        return {}
    table = table[table["k"] == results.top_k]
    rows_of_pair = {}
    for first, second in PAIRS:
        same = table[(table["method_a"] == first) & (table["method_b"] == second)]
        swapped = table[(table["method_a"] == second) & (table["method_b"] == first)]
        columns = ["difference", "lower", "upper"]
        if len(same):
            rows = same.set_index("population")[columns]
        else:
            rows = -swapped.set_index("population")[["difference", "upper", "lower"]].set_axis(columns, axis=1)
        rows = rows.reindex(results.populations)
        if rows["difference"].notna().any():
            rows_of_pair[first, second] = rows
    return rows_of_pair


def differences(results: ResultFolder, pairs: dict[tuple[str, str], pd.DataFrame]) -> Picture:
    """Draw Φ of one method less Φ of another, population by population.

    Parameters
    ----------
    results
        Result folder; read: ``differences``, ``populations``.
    pairs
        From `panels`.

    Returns
    -------
    Picture
        ``stability_differences``.
    """
    names = results.drawn
    n_columns = min(3, len(pairs))
    n_rows = math.ceil(len(pairs) / n_columns)
    figure = style.new_figure(n_rows * (len(names) * style.row_height(len(names)) + 0.75) + 0.4)
    grid = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
    widest = max(0.1, *(float(np.nanmax(np.abs(rows["difference"]))) for rows in pairs.values()))
    limit = min(1.0, 1.25 * widest)
    for axes, ((first, second), rows) in zip(grid.flat, pairs.items(), strict=False):
        _panel(axes, rows.loc[names], limit)
        better, worse = int((rows["lower"] > 0).sum()), int((rows["upper"] < 0).sum())
        axes.set_title(f"{first}\n− {second}\nmore stable {better}, less {worse}", fontsize=9)
    for axes in grid.flat[len(pairs) :]:
        axes.remove()
    style.name_rows(grid[0, 0], list(figure_labels(names, 40).values()), fontsize=style.row_font(len(names)))
    for axes in grid.flat[: len(pairs)]:
        axes.tick_params(axis="y", length=0)
        axes.tick_params(axis="x", labelbottom=True)
    grid[0, 0].set_xlim(-limit, limit)
    figure.supxlabel(f"difference in stability Φ of the top {results.top_k} genes", fontsize=10)
    caption = (
        "Is one method more stable than another on the same cells? Dot: Φ of the first method less Φ of the second; "
        "line: 95% jackknife interval, which deletes the same replicate from both and is cut at the frame. Filled: "
        "the interval leaves out 0, and the panel’s heading counts these populations; open: it does not, or there is "
        "no interval. More stable is not yet right: compare the floors."
        f"{of_drawn(results)}"
    )
    alt = f"Dot plots of the difference in stability of {len(pairs)} pairs of methods in {len(names)} populations."
    return style.finish(figure, results.path, "stability_differences", caption=caption, alt=alt)


def _panel(axes: Axes, rows: pd.DataFrame, limit: float) -> None:
    places = np.arange(len(rows))
    values, lower, upper = (rows[name].to_numpy(dtype=float) for name in ("difference", "lower", "upper"))
    decided = (lower > 0) | (upper < 0)
    axes.hlines(places, -limit, limit, color=style.PALE, linewidth=0.5, zorder=0)
    axes.axvline(0, color=style.GREY, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
    known = np.isfinite(lower) & np.isfinite(upper)
    low, high = np.clip(lower, -limit, limit), np.clip(upper, -limit, limit)
    axes.hlines(places[known], low[known], high[known], color=style.GREEN, linewidth=1.4, zorder=3)
    size = 22 if len(rows) <= 24 else 14
    for marked, face in ((decided, style.GREEN), (~decided, "white")):
        axes.scatter(values[marked], places[marked], s=size, facecolor=face, edgecolor=style.GREEN, zorder=4)
