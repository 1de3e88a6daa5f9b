"""What speaks for a list being right: unseen cells, and planted genes where the data are simulated."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from scballast.methods.method import ESTIMANDS
from scballast.report import style
from scballast.report.html import Drawing, Grid, Picture, Section, grid_of
from scballast.report.stored_tables import ResultFolder
from scballast.report.wording import of_drawn

_CONFIRMATION = (
    ("method", "Method", None),
    ("estimand", "Estimand", None),
    ("confirmed", "Confirmed", 2),
    ("lower", "At least (95%)", 2),
    ("pi", "Storey", 2),
    ("n_cells_unseen", "Unseen cells", 0),
    ("tested", "Tested", 0),
    ("of", "of", 0),
)
LARGE = 200  # cells
# What a model gives, and what does without one.
PAIRS = (
    ("contrast", "wilcoxon"),
    ("spread", "residual_pca"),
    ("local", "residual_pca"),
    ("conditioned", "residual_pca"),
    ("per_population", "residual_pca"),
)


def confirmation(results: ResultFolder) -> Section:
    """Return the section on confirmation.

    Parameters
    ----------
    results
        Result folder; read: ``confirmation``, ``stability``.
    """
    lead = (
        "Do the genes of a list hold in cells that the list never saw? Program genes must vary together with the rest "
        "of their list, marker genes be higher than in the rest within strata of depth and batch. What moves genes "
        "together without being biology (ambient counts, doublets within a label), and labels that come from the same "
        "counts, are confirmed as well."
    )
    table = results.table("confirmation")
    if table is None or table["confirmed"].isna().all():
        missing = "Left out: no list could be tested in unseen cells; the reasons are in tables/confirmation.csv."
        return Section("confirmation", "Confirmation", lead, missing=missing)
    drawings = (Drawing(against_stability, (table,)),)
    return Section("confirmation", "Confirmation", lead, grids=(_confirmation_grid(table),), drawings=drawings)


def against_stability(results: ResultFolder, table: pd.DataFrame) -> Picture:
    """Draw the confirmed share of each list against its stability, one panel per estimand.

    Parameters
    ----------
    results
        Result folder; read: ``stability``.
    table
        ``confirmation``.

    Returns
    -------
    Picture
        ``confirmed_against_stability``.
    """
    joined = table.merge(results.headline[["population", "method", "phi"]], on=["population", "method"])
    present = [name for name in ESTIMANDS if (joined["estimand"] == name).any()]
    figure = style.new_figure(3.4)
    panels = figure.subplots(1, len(present), sharex=True, sharey=True, squeeze=False)[0]
    for axes, estimand in zip(panels, present, strict=True):
        estimand_rows = joined[joined["estimand"] == estimand]
        for number, (method, rows) in enumerate(estimand_rows.groupby("method", sort=False)):
            colour = style.CYCLE[number % len(style.CYCLE)]
            marker = "osD^"[number // len(style.CYCLE) % 4]
            axes.vlines(rows["phi"], rows["lower"], rows["confirmed"], color=colour, linewidth=0.8, alpha=0.6)
            axes.scatter(
                rows["phi"], rows["confirmed"], s=18, color=colour, marker=marker, edgecolor="white", linewidth=0.4,
                label=str(method),
            )  # fmt: skip
        axes.set(title=estimand, ylim=(-0.04, 1.04))
        axes.grid(axis="y")
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3 if len(present) < 3 else 1, fontsize=style.SMALL
        )
    panels[0].set_ylabel(f"share of the top {results.top_k} confirmed")
    figure.supxlabel(f"stability Φ, top {results.top_k}", fontsize=10)
    caption = (
        "Share of each list that is confirmed at 5% in cells it never saw (dot; line: down to the bound that holds "
        "with 95% confidence) against its stability. Each dot is a population and a method. To the right and low: "
        "lists that come out the same again and are wrong all the same."
    )
    alt = f"Scatter plot of the confirmed share against stability for {joined['method'].nunique()} methods."
    return style.finish(figure, results.path, "confirmed_against_stability", caption=caption, alt=alt)


def _confirmation_grid(table: pd.DataFrame) -> Grid:
    records = []
    for estimand in ESTIMANDS:
        for method, rows in table[table["estimand"] == estimand].groupby("method", sort=False):
            tested = rows[rows["confirmed"].notna()]
            means = {name: tested[name].mean() for name in ("confirmed", "lower", "pi", "n_cells_unseen")}
            sizes = {"tested": len(tested), "of": len(rows)}
            records.append({"method": str(method), "estimand": estimand, **means, **sizes})
    caption = (
        "Confirmation by method, mean over populations: share of the top k confirmed, the share that holds with 95% "
        "confidence, Storey's estimate of the share of true genes, cells of the population that a list never saw, and "
        "populations in which lists could be tested."
    )
    return grid_of(caption, _CONFIRMATION, records)


def truth(results: ResultFolder, table: pd.DataFrame) -> Section:
    """Put the figure, the table by population and the differences between methods under one heading.

    Parameters
    ----------
    results
        Result folder; read: ``stability``, ``populations``.
    table
        ``truth``: method, estimand, population, replicate, average_precision, and chance where stored.
    """
    lead = "These cells are simulated, so the genes that a method should find are known."
    grids = (_truth_grid(results, table), *_truth_differences(table, results.n_cells))
    return Section("truth", "Truth", lead, grids=grids, drawings=(Drawing(truth_figure, (table,)),))


def _truth_grid(results: ResultFolder, table: pd.DataFrame) -> Grid:
    """Average precision, methods × populations, the largest population first."""
    sizes = results.n_cells
    names = sorted(set(table["population"]), key=lambda name: (-sizes.get(name, 0), name))
    means = table.pivot_table(index=["estimand", "method"], columns="population", values="average_precision")
    overall = means.mean(axis=1)
    rows = []
    for estimand in ESTIMANDS:
        estimand_keys = [key for key in means.index if key[0] == estimand]
        for key in sorted(estimand_keys, key=lambda key: -overall[key]):
            rows.append((key[1], estimand, overall[key], *(means.loc[key].get(name, np.nan) for name in names)))
    means_of = ["Mean", *(f"{name} ({sizes[name]:,})" if name in sizes else name for name in names)]
    columns = (("Method", None), ("Estimand", None), *((name, 2) for name in means_of))
    caption = "Average precision against the planted genes, mean over replicates; in brackets the population's cells."
    return Grid(caption, columns, tuple(rows))


def _truth_differences(table: pd.DataFrame, n_cells: Mapping[str, int]) -> tuple[Grid, ...]:
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
    sizes = (f"{LARGE} cells or more", "Smaller") if n_cells else ()
    differences = ("Difference", *sizes, "Lowest", "Highest")
    columns = (("Method", None), ("Compared with", None), *((name, 3) for name in differences))
    caption = (
        "Average precision of one method less that of another on the same cells: mean over all populations, over those "
        f"of at least {LARGE} cells, and over the smaller ones, to which a model gives few of its dimensions; lowest "
        "and highest mean of a replicate. Below 0: the model finds less than what needs no model."
    )
    return (Grid(caption, columns, tuple(rows)),)


def truth_figure(results: ResultFolder, table: pd.DataFrame) -> Picture:
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
    names = results.drawn_of(table)
    drawing, panels = style.panels_of_rows(names, len(methods), 4, 0.6, 0.6)
    panels[0].set(xlim=(-0.02, 1.04), xticks=[0, 0.5, 1], xticklabels=["0", "0.5", "1"])
    for axes, method in zip(panels, methods, strict=True):
        _truth_panel(axes, table[table["method"] == method], names)
        style.name_panel(axes, method)
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
