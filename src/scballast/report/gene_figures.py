"""Figures of the answers' genes over populations, and of the cells in the latent space."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scballast.report import style
from scballast.report.figure_names import drawable, figure_labels, shorten
from scballast.report.html import Picture
from scballast.report.stored_tables import ResultFolder
from scballast.report.wording import of_drawn

LARGEST_DOT = 60.0  # points²
_PALETTE = (*style.CYCLE[:6], style.YELLOW, "#7F3C8D", "#80BA5A", "#A5AA99", "#882255", "#44AA99", "#999933", "#332288")


def dot_plot(results: ResultFolder, table: pd.DataFrame) -> Picture:
    """Draw the first marker genes of each answer in every population: share of cells by size, mean by colour.

    Parameters
    ----------
    results
        Result folder; read: ``populations``, ``genes``.
    table
        ``answer_expression``: gene, of, population, mean, pct.

    Returns
    -------
    Picture
        ``answer_dots``.
    """
    names = results.drawn_of(table)
    table = table[table["of"].isin(names)]
    order = {name: i for i, name in enumerate(names)}
    owners = table.drop_duplicates("gene").sort_values("of", key=lambda owner: owner.map(order), kind="stable")
    genes = list(owners["gene"])
    means, percents = (
        table.pivot_table(index="population", columns="gene", values=name).loc[names, genes].to_numpy()
        for name in ("mean", "pct")
    )
    levels = np.log1p(means)
    span = levels.max(axis=0) - levels.min(axis=0)
    scaled = np.divide(levels - levels.min(axis=0), span, out=np.zeros_like(levels), where=span > 0)
    figure, axes = style.panel(len(names) * style.row_height(len(names)) + 1.9)
    rows, columns = np.indices(scaled.shape)
    sizes = np.maximum(percents, 1.0) / 100.0 * LARGEST_DOT
    drawn = axes.scatter(
        columns.ravel(), rows.ravel(), s=sizes.ravel(), c=scaled.ravel(), cmap=style.SEQUENTIAL, vmin=0, vmax=1,
        edgecolors=style.GREY, linewidths=0.3,
    )  # fmt: skip
    style.label_rows(axes, names)
    labels = [shorten(drawable(results.gene_label(gene)), 18) for gene in genes]
    axes.set_xticks(range(len(genes)), labels=labels, rotation=90, fontsize=8, fontstyle="italic")
    axes.set_xlim(-0.7, len(genes) - 0.3)
    axes.tick_params(axis="x", length=0)
    for i in np.flatnonzero(owners["of"].to_numpy()[1:] != owners["of"].to_numpy()[:-1]):
        axes.axvline(i + 0.5, color=style.PALE, linewidth=0.8, zorder=0)
    figure.colorbar(drawn, ax=axes, label="mean, scaled by gene", shrink=0.8, pad=0.01)
    handles = [axes.scatter([], [], s=share / 100 * LARGEST_DOT, color=style.GREY) for share in (10, 50, 100)]
    axes.legend(
        handles, ["10%", "50%", "100% of cells"], ncols=3, loc="lower right", bbox_to_anchor=(1, 1), borderpad=0.2
    )
    caption = (
        "The first marker genes of each answer (columns, by the population whose list they lead) in every population: "
        "size, the share of cells with a count; colour, the logarithm of the mean counts per 10,000."
        f"{of_drawn(results)}"
    )
    alt = f"Dot plot of {len(genes)} marker genes in {len(names)} populations."
    return style.finish(figure, results.path, "answer_dots", caption=caption, alt=alt)


def latent_map(results: ResultFolder, table: pd.DataFrame) -> Picture:
    """Draw the cells of the first replicate in the plane, by population.

    Parameters
    ----------
    results
        Result folder; read: ``populations``.
    table
        ``embedding``: cell, population, x, y.

    Returns
    -------
    Picture
        ``latent_map``.
    """
    names = results.drawn_of(table)
    labels = figure_labels(names, 40)
    figure, axes = style.panel(max(4.6, 0.2 * len(names) + 0.6))
    others = table[~table["population"].isin(names)]
    size = 60.0 / max(1.0, len(table) ** 0.5) * 4
    axes.scatter(others["x"], others["y"], s=size, color=style.PALE, linewidth=0, rasterized=True)
    for i, name in enumerate(names):
        cells = table[table["population"] == name]
        colour = _PALETTE[i % len(_PALETTE)]
        label = f"{i + 1}  {labels[name]}"
        axes.scatter(cells["x"], cells["y"], s=size, color=colour, linewidth=0, label=label, rasterized=True)
        axes.annotate(
            str(i + 1), (cells["x"].median(), cells["y"].median()), fontsize=8, ha="center", va="center",
            bbox={"boxstyle": "circle,pad=0.2", "facecolor": "white", "edgecolor": colour, "linewidth": 1.0},
        )  # fmt: skip
    axes.set(xticks=[], yticks=[])
    axes.set_aspect("equal", "datalim")
    axes.spines[:].set_visible(False)
    figure.legend(loc="outside right upper", fontsize=8, markerscale=max(1.0, 3 / size), handletextpad=0.2)
    caption = (
        "Cells of the first replicate in the latent space, laid out in the plane by UMAP; numbers stand at each "
        "population's middle. Near cells are alike; distances between groups and their sizes mean little."
        f"{of_drawn(results)}"
    )
    alt = f"Scatter plot of {len(table):,} cells of {len(names)} populations in two dimensions."
    return style.finish(figure, results.path, "latent_map", caption=caption, alt=alt)


def separation(table: pd.DataFrame) -> tuple[float, str]:
    """Return how often a cell's nearest neighbour in the plane is of its own population, and where least often.

    Returns
    -------
    share : float
        Of all cells of ranked populations.
    population : str
        The one with the lowest share.
    """
    from scipy.spatial import cKDTree

    in_population = table[table["population"] != ""]
    points = in_population[["x", "y"]].to_numpy(dtype=float)
    if len(points) < 2:
        return float("nan"), ""
    nearest = cKDTree(points).query(points, k=2)[1][:, 1]
    names = in_population["population"].to_numpy()
    same = names == names[nearest]
    by_population = in_population.assign(same=same).groupby("population")["same"].mean()
    return float(same.mean()), str(by_population.idxmin())
