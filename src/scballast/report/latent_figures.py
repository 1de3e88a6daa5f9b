"""Figures of the latent space: association with populations, axis purity, loadings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from scballast.models import FAMILIES
from scballast.report import style
from scballast.report.figure_names import drawable, figure_labels, shorten
from scballast.report.html import Picture
from scballast.report.stored_tables import ResultFolder
from scballast.results import setting

MAX_GENES = 60  # rows of the loadings heat map
MAX_CATEGORIES = 60  # rows of one association heat map
SIGNIFICANT = 0.05
_LIMIT = 3.0  # standardised mean differences beyond this share the strongest colour


def _first_replicate(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["replicate"] == table["replicate"].min()] if "replicate" in table else table


def _name_dimensions(axes: Axes, dimensions: Sequence[object], every: int) -> None:
    """Name each, or each second or fifth, column of a heat map."""
    axes.set_xticks(range(0, len(dimensions), every), labels=[drawable(str(name)) for name in dimensions[::every]])
    axes.set(xlim=(-0.5, len(dimensions) - 0.5), xlabel="latent dimension")
    axes.tick_params(axis="x", length=0)


def association(results: ResultFolder, table: pd.DataFrame, key: str) -> Picture:
    """Draw the standardised mean difference of each category on each latent dimension.

    Parameters
    ----------
    results
        Result folder; read: ``populations``.
    table
        ``association``.
    key
        Column of the cells: populations, condition, batch.

    Returns
    -------
    Picture
        ``association_<n>``, n being the position of the key in the table.
    """
    number = list(dict.fromkeys(table["key"])).index(key) + 1
    rows = _first_replicate(table[table["key"] == key])
    effect = rows.pivot_table(index="category", columns="dimension", values="smd", sort=False, dropna=False)
    chance = rows.pivot_table(index="category", columns="dimension", values="q_value", sort=False, dropna=False)
    known = [name for name in results.populations if name in effect.index]
    order = [*known, *(name for name in effect.index if name not in set(known))]
    left_out = max(0, len(order) - MAX_CATEGORIES)
    order = order[:MAX_CATEGORIES]
    columns = sorted(effect.columns)
    values = effect.reindex(index=order, columns=columns).to_numpy(dtype=float)
    small = chance.reindex(index=order, columns=columns).to_numpy(dtype=float) < SIGNIFICANT
    row = style.row_height(len(order))
    figure, axes = style.panel(max(1.6, len(order) * row) + 1.1)
    mesh = style.heat_map(axes, values, style.DIVERGING, (-_LIMIT, _LIMIT), linewidth=0.6)
    for colour, dark in ((style.INK, False), ("white", True)):
        i, j = np.nonzero(small & ((np.abs(values) > 0.6 * _LIMIT) == dark))
        axes.scatter(j, i, s=6, color=colour, linewidth=0)
    style.label_rows(axes, order)
    _name_dimensions(axes, columns, 1 if len(columns) <= 25 else 2 if len(columns) <= 50 else 5)
    shrink = min(1.0, 2.6 / max(1.6, len(order) * row))
    style.colour_bar(figure, mesh, axes, "standardised mean difference", extend="both", aspect=18, shrink=shrink)
    more = f" {left_out} more categories are in the table." if left_out else ""
    caption = (
        f"Which latent dimension goes with which category of “{shorten(drawable(key), 40)}”, in the first replicate: "
        "mean of the category's cells less the mean of the others, in pooled standard deviations. "
        f"{_test_in_words(rows)} Dimensions of other replicates are in another order and sign.{more}"
    )
    alt = f"Heat map of {len(order)} categories by {len(columns)} latent dimensions."
    return style.finish(figure, results.path, f"association_{number}", caption=caption, alt=alt)


def _test_in_words(rows: pd.DataFrame) -> str:
    """Say what a dot means: the test behind it, and where there was none, why."""
    if "permuted" not in rows:
        return f"Dot: Benjamini–Hochberg q below {SIGNIFICANT}."
    by_category = rows.drop_duplicates("category")
    units = [unit for unit in dict.fromkeys(by_category["permuted"]) if unit]
    untested = by_category[(by_category["permuted"] == "") & (by_category["reason"] != "")]
    words = f"Dot: Benjamini–Hochberg q below {SIGNIFICANT}, by permuting {' or '.join(units)}." if units else ""
    if len(untested):
        names = "No test" if not units else f"No test of {len(untested)} of {len(by_category)} categories"
        words += f" {names}: {untested['reason'].iloc[0]}."
    return words.strip()


def axis_purity(results: ResultFolder, table: pd.DataFrame) -> Picture:
    """Draw the purity of both ends of every axis against the base rate.

    Parameters
    ----------
    results
        Result folder.
    table
        ``axis_purity``.

    Returns
    -------
    Picture
        ``axis_purity``.
    """
    first = _first_replicate(table)
    dimensions = sorted(set(first["dimension"]))
    labels = figure_labels(list(dict.fromkeys(first["population"])), 30)
    figure = style.new_figure(len(dimensions) * style.row_height(len(dimensions)) + 1.25)
    grid = figure.subplots(1, 2, sharey=True)
    place = {dimension: i for i, dimension in enumerate(dimensions)}
    for axes, end, colour in zip(grid, ("low", "high"), (style.PURPLE, style.GREEN), strict=True):
        rows = first[first["end"] == end]
        y = np.array([place[item] for item in rows["dimension"]])
        purity = rows["purity"].to_numpy(dtype=float)
        base = rows["base_rate"].to_numpy(dtype=float)
        axes.hlines(y, base, purity, color=colour, linewidth=1.4, alpha=0.5)
        axes.scatter(base, y, marker="|", s=45, color=style.GREY, linewidth=1.5)
        axes.scatter(purity, y, s=24, color=colour, zorder=3)
        for position, name in zip(y, rows["population"], strict=True):
            axes.text(1.05, float(position), labels[name], fontsize=style.SMALL, va="center", clip_on=False)
        axes.set(title=f"{end} end", xlim=(0, 1.02), xticks=[0, 0.5, 1], xticklabels=["0", "0.5", "1"])
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
    names = [drawable(str(dimension)) for dimension in dimensions]
    style.name_rows(grid[0], names, fontsize=style.row_font(len(dimensions)))
    grid[0].set_ylabel("latent dimension")
    figure.supxlabel("share of the most frequent population among the 5% most extreme cells", fontsize=10)
    caption = (
        "Is a population an extreme on an axis? For both ends of every latent axis of the first replicate: the "
        "share of the most frequent population (named at the right) among the 5% most extreme cells; grey tick: "
        "its share of all cells."
    )
    alt = f"Dot plot of the purity of both ends of {len(dimensions)} latent axes."
    return style.finish(figure, results.path, "axis_purity", caption=caption, alt=alt)


def loadings(results: ResultFolder, table: pd.DataFrame) -> Picture:
    """Draw the loadings of the genes that weigh most on each dimension.

    Parameters
    ----------
    results
        Result folder; read: ``genes``.
    table
        ``loadings``.

    Returns
    -------
    Picture
        ``loadings``.
    """
    wide = table.pivot_table(index="gene", columns="dimension", values="loading", sort=True)
    # The softmax leaves each column's mean free: only differences between genes mean anything.
    centred = wide.to_numpy(dtype=float) - wide.to_numpy(dtype=float).mean(axis=0)
    n_dimensions = centred.shape[1]
    per_dimension = max(1, min(4, MAX_GENES // n_dimensions))
    chosen: list[int] = []
    for column in range(n_dimensions):
        best = np.argsort(-np.abs(centred[:, column]), kind="stable")
        fresh = [int(gene) for gene in best if int(gene) not in set(chosen)]
        chosen += sorted(fresh[:per_dimension], key=lambda gene: -centred[gene, column])
    chosen = chosen[:MAX_GENES]
    values = centred[chosen]
    shown = [results.gene_label(str(wide.index[i])) for i in chosen]
    names = list(figure_labels(shown, 32 if results.symbols else 20).values())
    row = 0.17 if len(names) > 30 else 0.2
    figure, axes = style.panel(len(names) * row + 1.0)
    limit = float(np.quantile(np.abs(values), 0.98)) or 1.0
    mesh = style.heat_map(axes, values, style.DIVERGING, (-limit, limit), linewidth=0.4)
    style.name_rows(axes, names, fontsize=style.SMALL, fontstyle="italic")
    _name_dimensions(axes, list(wide.columns), 1 if n_dimensions <= 25 else 2)
    is_log = FAMILIES[str(setting(results.config, "model.name"))].softmax
    label = f"loading, centred{' (natural log of expression)' * is_log}"
    style.colour_bar(figure, mesh, axes, label, extend="both", aspect=24, shrink=min(1.0, 3 / (len(names) * row)))
    caption = (
        f"Loadings of the first replicate's model, centred over genes: the {per_dimension} genes that weigh most "
        "on each dimension and were not already shown. Single axes are only weakly identified: "
        "compare the factor agreement before reading a column as a program."
    )
    alt = f"Heat map of the loadings of {len(names)} genes on {n_dimensions} dimensions."
    return style.finish(figure, results.path, "loadings", caption=caption, alt=alt)
