"""Figures of stability: dots against the floor, heat map, by population size, differences between two methods."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, NullLocator

from scballast.methods.method import ESTIMANDS
from scballast.report import style
from scballast.report.html import Picture, two
from scballast.report.stored_tables import ResultFolder
from scballast.report.wording import floor_parts, of_drawn

# The question that each pair answers: does the first reading of the model beat the second, or the usual practice?
PAIRS = (
    ("contrast", "wilcoxon"),
    ("contrast", "axis"),
    ("spread", "per_population"),
    ("local", "per_population"),
    ("conditioned", "per_population"),
    ("local", "residual_pca"),
)
_LEFT_LIMIT = -0.25  # Φ below this is as good as chance: the axis ends here and the dot sits on its edge


def _by_population(results: ResultFolder, method: str, names: list[str]) -> dict[str, np.ndarray]:
    """Give Φ, lower, upper and floor of one method in the order of some populations."""
    rows = results.headline[results.headline["method"] == method].set_index("population").reindex(names)
    return {name: rows[name].to_numpy(dtype=float) for name in ("phi", "lower", "upper", "floor")}


def _left_limit(results: ResultFolder) -> float:
    lowest = float(np.nanmin(results.headline[["phi", "floor"]].to_numpy(dtype=float), initial=0.0))
    return max(_LEFT_LIMIT, min(-0.05, lowest - 0.05))


def dots(results: ResultFolder, estimand: str) -> Picture:
    """Draw Φ with its interval against the floor: one panel per method, one row per population.

    Parameters
    ----------
    results
        Result folder; read: ``stability``, ``populations``.
    estimand
        ``marker`` or ``program``.

    Returns
    -------
    Picture
        ``stability_<estimand>``.
    """
    methods, names = results.methods(estimand), results.drawn
    widest = 5 if len(names) <= 15 else 7
    n_columns = math.ceil(len(methods) / math.ceil(len(methods) / widest))
    figure, panels = style.panels_of_rows(names, len(methods), n_columns, 0.75, 0.5)
    left, colour = _left_limit(results), style.ESTIMAND_COLOURS[estimand]
    # Before the panels are filled: else the limits that they share are found anew for each thing drawn.
    panels[0].set(xlim=(left, 1.04), xticks=[0, 0.5, 1], xticklabels=["0", "0.5", "1"])
    for axes, method in zip(panels, methods, strict=True):
        _dot_panel(axes, _by_population(results, method, names), left, colour)
        style.name_panel(axes, _wrapped(method, n_columns), fontsize=10 if n_columns < 5 else 9)
    figure.supxlabel(f"stability Φ of the top {results.top_k} genes (0 chance, 1 identical)", fontsize=10)
    _legend(figure, colour)
    caption = (
        f"Stability of each {estimand} method in each population, largest population on top. Dot: Φ of the top "
        f"{results.top_k} genes over replicates; line: 95% jackknife interval, cut at 1; grey tick: "
        f"the floor, {floor_parts(results)}. A filled dot lies above its floor "
        "with its whole interval; an open one does not, or has no interval; × marks a method without a list."
        f"{of_drawn(results)}"
    )
    alt = f"Dot plot of stability for {len(methods)} {estimand} methods in {len(names)} populations."
    return style.finish(figure, results.path, f"stability_{estimand}", caption=caption, alt=alt)


def _wrapped(method: str, n_columns: int) -> str:
    """Break a long method name after its first underscore when the panels are narrow."""
    head, mark, tail = method.partition("_")
    return f"{head}{mark}\n{tail}" if n_columns > 5 and len(method) > 9 and tail else method


def _dot_panel(axes: Axes, values: dict[str, np.ndarray], left: float, colour: str) -> None:
    rows = np.arange(len(values["phi"]))
    phi = np.clip(values["phi"], left, 1)
    above = values["lower"] > values["floor"]
    axes.axvline(0, color=style.GREY, linewidth=0.8, linestyle=(0, (1, 2)), zorder=0)
    axes.hlines(rows, left, 1.04, color=style.PALE, linewidth=0.5, zorder=0)
    axes.scatter(values["floor"], rows, marker="|", s=45, color=style.GREY, linewidth=1.5, zorder=2)
    size = _intervals(axes, values["lower"], values["upper"], (left, 1.0), colour)
    axes.scatter(phi[above], rows[above], s=size, color=colour, linewidth=1, zorder=4)
    axes.scatter(phi[~above], rows[~above], s=size, facecolor="white", edgecolor=colour, linewidth=1, zorder=4)
    nothing = ~np.isfinite(values["phi"])
    axes.scatter(np.zeros(nothing.sum()), rows[nothing], marker="x", s=18, color=style.GREY, linewidth=1, zorder=4)


def _intervals(axes: Axes, lower: np.ndarray, upper: np.ndarray, limits: tuple[float, float], colour: str) -> float:
    """Draw the intervals of all rows, cut at limits, and return the size of the dots upon them."""
    known = np.flatnonzero(np.isfinite(lower) & np.isfinite(upper))
    low, high = (np.clip(ends[known], *limits) for ends in (lower, upper))
    axes.hlines(known, low, high, color=colour, linewidth=1.4, zorder=3)
    return 22 if len(lower) <= 24 else 14


def _legend(figure: Figure, colour: str) -> None:
    shared: dict[str, Any] = {"color": colour, "marker": "o", "markersize": 5, "linewidth": 1.4}
    floor = style.mark(style.GREY, "|", markersize=8, markeredgewidth=1.5)
    handles = [Line2D([], [], **shared), Line2D([], [], markerfacecolor="white", **shared), floor]
    names = ["above its floor", "not above", "floor"]
    figure.legend(handles, names, loc="outside upper center", ncols=3, handletextpad=0.4, columnspacing=1.4)


def heat_map(results: ResultFolder) -> Picture:
    """Draw Φ of every method in every population, methods grouped by estimand.

    Parameters
    ----------
    results
        Result folder; read: ``stability``, ``populations``.

    Returns
    -------
    Picture
        ``stability_heatmap``.
    """
    groups = [results.methods(estimand) for estimand in ESTIMANDS if results.methods(estimand)]
    names = results.drawn
    columns = [method for group in groups for method in group]
    # Keeps the estimands apart.
    gap = [0.35 * number for number, group in enumerate(groups) for _ in group]
    centres = np.arange(len(columns)) + np.array(gap)
    values = [_by_population(results, method, names) for method in columns]
    phi = np.column_stack([item["phi"] for item in values])
    beaten = np.column_stack([~(item["lower"] > item["floor"]) for item in values]) & np.isfinite(phi)
    row = max(0.2, style.row_height(len(names)))
    figure, axes = style.panel(len(names) * row + 2.0)
    mesh = _draw_cells(axes, phi, beaten, centres)
    style.label_rows(axes, names)
    style.name_columns(axes, columns, list(centres))
    axes.spines[:].set_visible(False)
    label = f"stability Φ, top {results.top_k}"
    style.colour_bar(figure, mesh, axes, label, location="bottom", shrink=0.45, aspect=26, pad=0.03)
    response = " of them, response methods on the far right" if results.methods("response") else ""
    caption = (
        f"Stability Φ of the top {results.top_k} genes by population (largest on top) and method "
        f"(marker methods left, program methods right{response}). "
        "An orange corner: the interval reaches down to the floor, "
        "or there is no interval, so the list is no more stable than lists without a signal of the population "
        "itself may be. Grey: no list; the reason is in the stability table."
        f"{of_drawn(results)}"
    )
    alt = f"Heat map of stability, {len(names)} populations by {len(columns)} methods."
    return style.finish(figure, results.path, "stability_heatmap", caption=caption, alt=alt)


def _draw_cells(axes: Axes, phi: np.ndarray, beaten: np.ndarray, centres: np.ndarray) -> PolyCollection:
    colours = colormaps[style.SEQUENTIAL].with_extremes(bad=style.PALE)
    squares, corners = [], []
    for i, j in np.ndindex(phi.shape):
        x, y = centres[j], i
        squares.append([(x - 0.5, y - 0.5), (x + 0.5, y - 0.5), (x + 0.5, y + 0.5), (x - 0.5, y + 0.5)])
        if beaten[i, j]:
            corners.append([(x + 0.46, y + 0.46), (x + 0.46, y + 0.1), (x + 0.25, y + 0.46)])
    shown = np.ma.masked_invalid(np.clip(phi, 0, 1).ravel())
    mesh = PolyCollection(squares, array=shown, cmap=colours, clim=(0, 1), edgecolor="white", linewidth=0.8)
    axes.add_collection(mesh)
    axes.add_collection(PolyCollection(corners, facecolor=style.VERMILION, edgecolor="white", linewidth=0.4))
    size = 8 if phi.shape[1] <= 12 else 7 if phi.shape[1] <= 16 else 5.5
    for row, column in np.argwhere(np.isfinite(phi)):
        value = float(phi[row, column])
        colour = style.text_colour(colours(min(1.0, max(0.0, value))))
        where = (float(centres[column]), float(row))
        number = axes.text(*where, two(value), ha="center", va="center", color=colour, fontsize=size)
        number.set_in_layout(False)  # within its cell: not to be measured
    return mesh


def against_size(results: ResultFolder) -> Picture:
    """Draw Φ against the number of cells, one panel per method.

    Parameters
    ----------
    results
        Result folder; read: ``stability``, ``populations``.

    Returns
    -------
    Picture
        ``stability_by_size``.
    """
    pairs = [(estimand, method) for estimand in ESTIMANDS for method in results.methods(estimand)]
    figure, panels = style.panels(len(pairs), 4, 1.55, 0.6, sharey=True)
    cells = np.array([results.n_cells[name] for name in results.populations], dtype=float)
    left = _left_limit(results)
    panels[0].set(xscale="log", ylim=(left, 1.04), yticks=[0, 0.5, 1], yticklabels=["0", "0.5", "1"])
    _plain_log_ticks(panels[0], cells)
    for axes, (estimand, method) in zip(panels, pairs, strict=True):
        values = _by_population(results, method, results.populations)
        colour = style.ESTIMAND_COLOURS[estimand]
        low, high = np.clip(values["lower"], left, 1), np.clip(values["upper"], left, 1)
        axes.vlines(cells, low, high, color=colour, linewidth=0.8, alpha=0.5)
        axes.scatter(cells, values["floor"], marker="_", s=30, color=style.GREY, linewidth=1.2)
        axes.scatter(cells, np.clip(values["phi"], left, 1), s=16, color=colour, edgecolor="white", linewidth=0.5)
        style.name_panel(axes, method, color=colour)
        axes.grid(axis="y")
    figure.supxlabel("cells in the population (log scale)", fontsize=10)
    figure.supylabel(f"stability Φ, top {results.top_k}", fontsize=10)
    caption = (
        "Stability against population size. Each dot is a population with its 95% interval (blue: marker "
        "methods, orange: program methods); grey dash: its floor. A method that climbs with the number of cells "
        "is short of data in the small populations; one that stays low everywhere is not."
    )
    alt = f"Scatter plots of stability against number of cells for {len(pairs)} methods."
    return style.finish(figure, results.path, "stability_by_size", caption=caption, alt=alt)


def _plain_log_ticks(axes: Axes, values: np.ndarray) -> None:
    """Put a few round numbers on a log axis: matplotlib's own minor labels collide in narrow panels."""
    low, high = float(values.min()) / 1.3, float(values.max()) * 1.3
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    decades = [10.0**power for power in powers if low <= 10.0**power <= high]
    finer = [step * 10.0**power for power in powers for step in (1, 2, 5)]
    ticks = decades if len(decades) > 1 else [tick for tick in finer if low <= tick <= high]
    axes.set_xlim(low, high)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks(ticks, labels=[f"{tick:,.0f}" for tick in ticks])


def paired_differences(results: ResultFolder) -> dict[tuple[str, str], pd.DataFrame]:
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
        From `paired_differences`.

    Returns
    -------
    Picture
        ``stability_differences``.
    """
    names = results.drawn
    figure, panels = style.panels_of_rows(names, len(pairs), 3, 0.75, 0.4)
    widest = max(0.1, *(float(np.nanmax(np.abs(rows["difference"]))) for rows in pairs.values()))
    limit = min(1.0, 1.25 * widest)
    panels[0].set_xlim(-limit, limit)
    for axes, ((first, second), rows) in zip(panels, pairs.items(), strict=True):
        _difference_panel(axes, rows.loc[names], limit)
        better, worse = int((rows["lower"] > 0).sum()), int((rows["upper"] < 0).sum())
        style.name_panel(axes, f"{first}\n− {second}\nmore stable {better}, less {worse}", fontsize=9)
    figure.supxlabel(f"difference in stability Φ of the top {results.top_k} genes", fontsize=10)
    caption = (
        "Is one method more stable than another on the same cells? Dot: Φ of the first method less Φ of the second; "
        "line: 95% jackknife interval, which deletes the same replicate from both and is cut at the frame. Filled: "
        "the interval leaves out 0, and the panel’s heading counts all such populations; open: it does not, or there "
        "is no interval. More stable is not yet right: compare the floors."
        f"{of_drawn(results)}"
    )
    alt = f"Dot plots of the difference in stability of {len(pairs)} pairs of methods in {len(names)} populations."
    return style.finish(figure, results.path, "stability_differences", caption=caption, alt=alt)


def _difference_panel(axes: Axes, rows: pd.DataFrame, limit: float) -> None:
    places = np.arange(len(rows))
    values, lower, upper = (rows[name].to_numpy(dtype=float) for name in ("difference", "lower", "upper"))
    decided = (lower > 0) | (upper < 0)
    axes.hlines(places, -limit, limit, color=style.PALE, linewidth=0.5, zorder=0)
    axes.axvline(0, color=style.GREY, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
    size = _intervals(axes, lower, upper, (-limit, limit), style.GREEN)
    for marked, face in ((decided, style.GREEN), (~decided, "white")):
        axes.scatter(values[marked], places[marked], s=size, facecolor=face, edgecolor=style.GREEN, zorder=4)
