"""Figures of concordance between methods: matrices, ranges between floor and ceiling, rank against rank."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from scballast.report import style
from scballast.report.figure_names import drawable, figure_labels, shorten
from scballast.report.html import Picture, two
from scballast.report.stored_tables import ResultFolder

MAX_PANELS = 12  # rank–rank panels; more would be too small to read


def mean_pairs(results: ResultFolder, estimand: str) -> pd.DataFrame | None:
    """Mean concordance over populations for each pair of methods of one estimand.

    Parameters
    ----------
    results
        Result folder; read: ``concordance``.
    estimand
        ``marker`` or ``program``.

    Returns
    -------
    DataFrame or None
        Columns method_a, method_b, overlap, floor, ceiling; None without pairs.
    """
    table = results.table("concordance")
    if table is None or estimand not in set(table["estimand"]):
        return None
    rows = table[table["estimand"] == estimand]
    return rows.groupby(["method_a", "method_b"], sort=False)[["overlap", "floor", "ceiling"]].mean().reset_index()


def matrix(results: ResultFolder, estimand: str, pairs: pd.DataFrame) -> Picture:
    """Draw the matrix of mean overlaps (below the diagonal) with floor and ceiling (above it).

    Parameters
    ----------
    results
        Result folder; read: ``concordance``.
    estimand
        ``marker`` or ``program``.
    pairs
        From `mean_pairs`.

    Returns
    -------
    Picture
        ``concordance_<estimand>``.
    """
    known = set(pairs["method_a"]) | set(pairs["method_b"])
    methods = [method for method in results.methods(estimand) if method in known]
    methods += sorted(known - set(methods))
    position = {method: i for i, method in enumerate(methods)}
    n = len(methods)
    overlap, text = np.full((n, n), np.nan), {}
    for row in pairs.itertuples():
        i, j = sorted((position[row.method_a], position[row.method_b]))
        overlap[j, i] = row.overlap
        text[i, j] = (row.floor, row.ceiling)
    cell = min(0.62, 5.0 / n)
    figure, axes = style.panel(max(1.6, cell * n) + 1.2)
    mesh = style.heat_map(axes, overlap, style.SEQUENTIAL, (0, 1), linewidth=1, bad=(1, 1, 1, 0))
    size = 9 if n <= 8 else 7.5
    for j, i in np.argwhere(np.isfinite(overlap)):
        colour = style.text_colour(mesh.cmap(float(overlap[j, i])))
        axes.text(i, j, two(overlap[j, i]), ha="center", va="center", color=colour, fontsize=size)
    for (i, j), (floor, ceiling) in text.items():
        shown = f"{two(ceiling)}\n{two(floor)}"
        axes.text(j, i, shown, ha="center", va="center", color=style.GREY, fontsize=size - 1, linespacing=1.1)
    for i in range(n):
        axes.text(i, i, "–", ha="center", va="center", color=style.GREY)
    style.name_rows(axes, methods)
    style.name_columns(axes, methods, range(n))
    axes.set_aspect("equal")
    style.colour_bar(figure, mesh, axes, f"overlap of the top {results.top_k}", aspect=18, shrink=0.7, pad=0.02)
    caption = (
        f"Concordance between {estimand} methods, mean over populations. Below the diagonal: share of the top "
        f"{results.top_k} genes that two methods have in common in the same replicate. Above it, for the same pair: "
        "the noise ceiling √(stability a · stability b) over the floor, the most that lists without a signal of "
        "the population itself may have in common. An overlap near its ceiling is all the agreement that two "
        "unstable lists can show; the methods of a replicate share the noise of its cells, so it can pass it."
    )
    alt = f"Matrix of the overlap between {n} {estimand} methods."
    return style.finish(figure, results.path, f"concordance_{estimand}", caption=caption, alt=alt)


def ranges(results: ResultFolder, estimand: str, pairs: pd.DataFrame) -> Picture:
    """Draw each pair's overlap between its floor and its ceiling, with every population.

    Parameters
    ----------
    results
        Result folder; read: ``concordance``.
    estimand
        ``marker`` or ``program``.
    pairs
        From `mean_pairs`.

    Returns
    -------
    Picture
        ``concordance_range_<estimand>``.
    """
    table = results.table("concordance")
    assert table is not None  # the pairs are from it
    pairs = pairs.sort_values(["overlap", "method_a", "method_b"], ascending=[False, True, True], kind="stable")
    labels = [f"{row.method_a} · {row.method_b}" for row in pairs.itertuples()]
    figure, axes = style.panel(len(pairs) * style.row_height(len(pairs)) + 1.1)
    colour = style.ESTIMAND_COLOURS[estimand]
    rows = np.arange(len(pairs))
    room = (pairs["ceiling"] - pairs["floor"]).clip(lower=0)  # none where noise leaves less than the floor
    axes.barh(rows, room, left=pairs["floor"], height=0.62, color=style.PALE)
    axes.scatter(pairs["floor"], rows, marker="|", s=60, color=style.GREY, linewidth=1.5)
    axes.scatter(pairs["ceiling"], rows, marker="|", s=60, color=style.INK, linewidth=1.5)
    for i, row in enumerate(pairs.itertuples()):
        same = (table["method_a"] == row.method_a) & (table["method_b"] == row.method_b)
        values = table.loc[same & (table["estimand"] == estimand), "overlap"]
        axes.scatter(values, np.full(len(values), i), s=10, color=colour, alpha=0.3, linewidth=0)
    axes.scatter(pairs["overlap"], rows, s=30, color=colour, edgecolor="white", linewidth=0.7, zorder=4)
    style.name_rows(axes, labels, fontsize=style.row_font(len(pairs)))
    axes.set(xlim=(-0.02, 1.02), xlabel=f"overlap of the top {results.top_k} genes (share in common)")
    axes.grid(axis="x")
    caption = (
        f"Concordance of each pair of {estimand} methods. Large dot: mean over populations; small dots: the "
        "populations; grey bar: from the mean floor (grey tick) to the mean noise "
        "ceiling (black tick)."
    )
    alt = f"Dot plot of the overlap of {len(pairs)} pairs of {estimand} methods between floor and ceiling."
    return style.finish(figure, results.path, f"concordance_range_{estimand}", caption=caption, alt=alt)


def paired_ranks(results: ResultFolder, x: str, y: str) -> pd.DataFrame | None:
    """Put the mean ranks of the genes under two methods beside each other.

    Parameters
    ----------
    results
        Result folder; read: ``rankings``, ``populations``.
    x, y
        Two methods of one estimand.

    Returns
    -------
    DataFrame or None
        Columns population, gene, and one for each method; None where the rankings lack one of the two.
    """
    ranks = results.mean_ranks([x, y])
    if ranks is None:
        return None
    wide = ranks.pivot(index=["population", "gene"], columns="method", values="rank")
    if x not in wide or y not in wide:
        return None
    wide = wide.dropna(subset=[x, y]).reset_index()
    wide["population"] = wide["population"].astype(str)
    return wide if results.populations_of(wide) else None


def rank_against_rank(results: ResultFolder, x: str, y: str, ranks: pd.DataFrame) -> Picture:
    """Draw every gene's mean rank under one method against its mean rank under another, by population.

    Parameters
    ----------
    results
        Result folder; read: ``concordance``, ``populations``.
    x, y
        Two methods of one estimand.
    ranks
        From `paired_ranks`.

    Returns
    -------
    Picture
        ``ranks_<y>_vs_<x>``.
    """
    overlap = _pair_overlap(results, x, y)
    everyone = results.populations_of(ranks)
    everyone.sort(key=lambda name: -overlap.get(name, -1.0))
    count = min(MAX_PANELS, len(everyone))
    chosen = [everyone[i] for i in np.unique(np.linspace(0, len(everyone) - 1, count).round().astype(int))]
    labels = figure_labels(chosen, 30)
    figure, panels = style.panels(len(chosen), 4, 1.95, 0.5, sharey=True)
    n_genes = int(max(ranks[x].max(), ranks[y].max()))
    limits = (0.8, n_genes * 1.3)
    panels[0].set(xscale="log", yscale="log", xlim=limits, ylim=limits)
    for axes, name in zip(panels, chosen, strict=True):
        rows = ranks[ranks["population"] == name]
        _rank_panel(axes, rows[x].to_numpy(), rows[y].to_numpy(), rows["gene"].to_numpy(), results)
        style.name_panel(axes, labels[name], fontsize=9)
    for axes in panels:
        axes.minorticks_off()
    ticks = [10**power for power in range(math.floor(math.log10(max(n_genes, 10))) + 1)]
    for axis in (panels[0].xaxis, panels[0].yaxis):
        axis.set_ticks(ticks, labels=[f"{tick:,}" for tick in ticks])
    figure.supxlabel(f"mean rank under {x} (1 = best, log scale)", fontsize=10)
    figure.supylabel(f"mean rank under {y}", fontsize=10)
    some = "" if len(chosen) == len(everyone) else f"{len(chosen)} of {len(everyone)} populations are shown, "
    order = f"{some}from the highest to the lowest overlap. " if overlap else some and f"{some.rstrip(', ')}. "
    caption = (
        f"Each dot is a gene: its mean rank over replicates under {y} against {x}. {order[:1].upper()}{order[1:]}"
        f"Dashed: the top {results.top_k} of each method; genes in the lower left corner are in both. "
        "Named: the best of these, three at most."
    )
    alt = f"Scatter plots of gene ranks under {y} against {x} in {len(chosen)} populations."
    return style.finish(figure, results.path, f"ranks_{y}_vs_{x}", caption=caption, alt=alt)


def _pair_overlap(results: ResultFolder, x: str, y: str) -> dict[str, float]:
    table = results.table("concordance")
    if table is None:
        return {}
    rows = table[table["method_a"].isin([x, y]) & table["method_b"].isin([x, y]) & table["overlap"].notna()]
    return dict(zip(rows["population"].astype(str), rows["overlap"].astype(float), strict=True))


def _rank_panel(axes: Axes, x: np.ndarray, y: np.ndarray, genes: np.ndarray, results: ResultFolder) -> None:
    k, limit = results.top_k, 18 if results.symbols else 14
    both = (x <= k) & (y <= k)
    axes.scatter(x[~both], y[~both], s=3, color=style.GREY, alpha=0.35, linewidth=0, rasterized=True)
    axes.scatter(x[both], y[both], s=7, color=style.GREEN, linewidth=0, rasterized=True)
    axes.axvline(k, color=style.INK, linewidth=0.7, linestyle=(0, (3, 2)))
    axes.axhline(k, color=style.INK, linewidth=0.7, linestyle=(0, (3, 2)))
    order = np.lexsort((genes.astype(str), np.maximum(x, y)))
    best = [i for i in order[:3] if both[i]]
    named = "\n".join(shorten(drawable(results.gene_label(str(genes[i]))), limit) for i in best)
    if not named:
        return
    axes.text(
        0.04, 0.97, named, transform=axes.transAxes, fontsize=7.5, fontstyle="italic", ha="left", va="top",
        parse_math=False, linespacing=1.05, bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1},
    )  # fmt: skip
