"""What the methods find of the genes that were planted: simulated data only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from scballast.methods.method import ESTIMANDS
from scballast.report import style
from scballast.report.figure_names import figure_labels
from scballast.report.html import Grid, Section
from scballast.report.wording import of_drawn

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from matplotlib.axes import Axes

    from scballast.report.stored_tables import ResultFolder
    from scballast.report.style import Picture

LARGE = 200  # cells
# What a model gives, and what does without one.
PAIRS = (
    ("contrast", "wilcoxon"),
    ("spread", "residual_pca"),
    ("local", "residual_pca"),
    ("conditioned", "residual_pca"),
    ("per_population", "residual_pca"),
)


def section(results: ResultFolder, table: pd.DataFrame) -> Section:
    """Put the figure, the table by population and the differences between methods under one heading.

    Parameters
    ----------
    results
        Result folder; read: ``stability``, ``populations``.
    table
        ``truth``: method, estimand, population, replicate, average_precision, and chance where stored.
    """
    lead = "These cells are simulated, so the genes that a method should find are known."
    grids = (_by_population(results, table), *_differences(table, results.n_cells))
    return Section("truth", "Truth", lead, (figure(results, table),), grids)


def _by_population(results: ResultFolder, table: pd.DataFrame) -> Grid:
    """Average precision, methods × populations, the largest population first."""
    sizes = results.n_cells
    names = sorted(set(table["population"]), key=lambda name: -sizes.get(name, 0))
    means = table.pivot_table(index=["estimand", "method"], columns="population", values="average_precision")
    overall = means.mean(axis=1)
    rows = []
    for estimand in ESTIMANDS:
        estimand_keys = [key for key in means.index if key[0] == estimand]
        for key in sorted(estimand_keys, key=lambda key: -overall[key]):
            rows.append((key[1], estimand, overall[key], *(means.loc[key].get(name, np.nan) for name in names)))
    columns = (
        ("Method", None),
        ("Estimand", None),
        ("Mean", 2),
        *((f"{name} ({sizes[name]:,})" if name in sizes else name, 2) for name in names),
    )
    caption = "Average precision against the planted genes, mean over replicates; in brackets the population's cells."
    return Grid(caption, columns, tuple(rows))


def _differences(table: pd.DataFrame, n_cells: Mapping[str, int]) -> tuple[Grid, ...]:
    """How much better or worse a model's ranking finds the planted genes than Wilcoxon or residual PCA, and where."""
    wide = table.pivot_table(index=["replicate", "population"], columns="method", values="average_precision")
    large = {name for name, size in n_cells.items() if size >= LARGE}
    rows = []
    for first, second in PAIRS:
        if {first, second} <= set(wide.columns):
            of_lists = (wide[first] - wide[second]).dropna()
            of_replicates = of_lists.groupby("replicate").mean()
            is_large = of_lists.index.get_level_values("population").isin(large)
            where = [of_lists[is_large].mean(), of_lists[~is_large].mean()] if n_cells else []
            rows.append((first, second, of_lists.mean(), *where, of_replicates.min(), of_replicates.max()))
    if not rows:
        return ()
    columns = (
        ("Method", None),
        ("Compared with", None),
        ("Difference", 3),
        *(((f"{LARGE} cells or more", 3), ("Smaller", 3)) if n_cells else ()),
        ("Lowest", 3),
        ("Highest", 3),
    )
    caption = (
        "Average precision of one method less that of another on the same cells: mean over all populations, over those "
        f"of at least {LARGE} cells, and over the smaller ones, to which a model gives few of its dimensions; lowest "
        "and highest mean of a replicate. Below 0: the model finds less than what needs no model."
    )
    return (Grid(caption, columns, tuple(rows)),)


def figure(results: ResultFolder, table: pd.DataFrame) -> Picture:
    """Draw the average precision of each method against the planted genes.

    Parameters
    ----------
    results
        Result folder; read: ``stability``, ``populations``.
    table
        ``truth``: method, population, average_precision, and chance where stored; a row for each
        replicate or one for each method and population.

    Returns
    -------
    Picture
        ``truth``.
    """
    methods = [m for estimand in ESTIMANDS for m in results.methods(estimand) if m in set(table["method"])]
    n_columns = min(4, len(methods))
    n_rows = math.ceil(len(methods) / n_columns)
    present = set(table["population"])
    names = [name for name in results.drawn if name in present]
    drawing = style.new_figure(n_rows * (len(names) * style.row_height(len(names)) + 0.6) + 0.6)
    grid = drawing.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
    for axes, method in zip(grid.flat, methods, strict=False):
        _truth_panel(axes, table[table["method"] == method], names)
        axes.set_title(method)
    for axes in grid.flat[len(methods) :]:
        axes.remove()
    style.name_rows(grid[0, 0], list(figure_labels(names, 40).values()), fontsize=style.row_font(len(names)))
    for axes in grid.flat[: len(methods)]:
        axes.tick_params(axis="y", length=0)
        axes.tick_params(axis="x", labelbottom=True)
    grid[0, 0].set_xlim(-0.02, 1.04)
    grid[0, 0].set_xticks([0, 0.5, 1], labels=["0", "0.5", "1"])
    drawing.supxlabel("average precision against the planted genes", fontsize=10)
    caption = (
        "Simulated data: how well each method finds the planted genes of each population (average precision; "
        "small dots: replicates, large dot: their mean; grey tick: chance, the share of planted genes)."
        f"{of_drawn(results)}"
    )
    alt = f"Dot plot of average precision for {len(methods)} methods in {len(names)} populations."
    return style.finish(drawing, results.path, "truth", caption=caption, alt=alt)


def _truth_panel(axes: Axes, rows: pd.DataFrame, names: list[str]) -> None:
    for i, name in enumerate(names):
        values = rows.loc[rows["population"] == name, "average_precision"].dropna().to_numpy(dtype=float)
        if len(values):
            axes.scatter(values, np.full(len(values), i), s=8, color=style.GREEN, alpha=0.4, linewidth=0)
            axes.scatter(values.mean(), i, s=24, color=style.GREEN, zorder=3)
        if "chance" in rows:
            chance = rows.loc[rows["population"] == name, "chance"].dropna()
            if len(chance):
                axes.scatter(float(chance.iloc[0]), i, marker="|", s=45, color=style.GREY, linewidth=1.5)
    axes.grid(axis="x")
