"""Figures of model fit: held-out likelihood of global and separate models, training curves."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from scballast.report import style
from scballast.report.figure_names import drawable, shorten
from scballast.report.html import Picture
from scballast.report.stored_tables import ResultFolder
from scballast.report.wording import of_drawn

MAX_CURVES = 12
_UNITS = {
    "elbo": "negative ELBO (nats per cell)",
    "reconstruction loss": "reconstruction (nats per cell)",
    "kl": "KL divergence (nats per cell)",
    "kl weight": "KL weight",
}


def paired_fit(results: ResultFolder) -> pd.DataFrame | None:
    """Pair the held-out fit of the global and the separate model on the same cells.

    Parameters
    ----------
    results
        Result folder; read: ``fit``.

    Returns
    -------
    DataFrame or None
        One row per population and replicate: population, replicate, shared, own (nats per cell, lower
        is better); None where either kind of model is missing.
    """
    table = results.table("fit")
    if table is None:
        return None
    rows = table[(table["population"] != "") & table["heldout_nll"].notna()]
    shared, separate = (
        rows[rows["model"] == model].set_index(["population", "replicate"])["heldout_nll"].rename(name)
        for model, name in (("global", "shared"), ("per_population", "own"))
    )
    merged = pd.merge(shared, separate, on=["population", "replicate"]).reset_index()
    return None if merged.empty else merged


def fit_by_population(results: ResultFolder, pairs: pd.DataFrame) -> Picture:
    """Draw the held-out fit of both models, and their difference replicate by replicate.

    Parameters
    ----------
    results
        Result folder; read: ``populations``.
    pairs
        From `paired_fit`.

    Returns
    -------
    Picture
        ``heldout_fit``.
    """
    names = results.drawn_of(pairs)
    figure = style.new_figure(len(names) * style.row_height(len(names)) + 1.35)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1.25, 1])
    style.label_rows(left, names)
    for i, name in enumerate(names):
        rows = pairs[pairs["population"] == name]
        shared, separate = float(rows["shared"].mean()), float(rows["own"].mean())
        left.plot([shared, separate], [i, i], color=style.PALE, linewidth=2.5, zorder=1, solid_capstyle="butt")
        left.scatter(shared, i, s=26, color=style.BLUE, zorder=3)
        left.scatter(
            separate, i, s=26, marker="D", facecolor="white", edgecolor=style.VERMILION, linewidth=1.3, zorder=2
        )
        gain = (rows["own"] - rows["shared"]).to_numpy(dtype=float)
        right.scatter(gain, np.full(len(gain), i), s=10, color=style.GREY, alpha=0.6, linewidth=0)
        better = style.BLUE if gain.mean() > 0 else style.VERMILION
        right.scatter(gain.mean(), i, s=26, color=better, zorder=3)
    right.axvline(0, color=style.INK, linewidth=0.8)
    right.tick_params(axis="y", length=0)
    reach = float((pairs["own"] - pairs["shared"]).abs().max()) * 1.1 or 1.0
    right.set_xlim(-reach, reach)
    left.set_xlabel("held-out negative log-likelihood\n(nats per cell, lower is better)")
    right.set_xlabel("separate − global (nats per cell)\n← separate is better | global is →", fontsize=9)
    for axes in (left, right):
        axes.grid(axis="x")
        axes.locator_params(axis="x", nbins=5)
    handles = [
        style.mark(style.BLUE, markersize=5),
        style.mark(style.VERMILION, "D", markersize=5, markerfacecolor="white"),
    ]
    kinds = ["global model", "separate model of the population"]
    figure.legend(handles, kinds, loc="outside upper center", ncols=2, handletextpad=0.2)
    caption = (
        "Fit to held-out cells of each population (largest on top): one global model (blue dot) and a separate "
        "model trained on that population alone (orange diamond), judged on the same cells. Left: mean over "
        "replicates. Right: the difference, each replicate (grey) and the mean; to the right of zero the global "
        "model predicts the population's cells better than its own model does."
        f"{of_drawn(results)}"
    )
    alt = f"Held-out fit of global and separate models in {len(names)} populations."
    return style.finish(figure, results.path, "heldout_fit", caption=caption, alt=alt)


def curve_groups(history: dict[str, list[list[float]]]) -> dict[str, dict[str, list[list[float]]]]:
    """Put curves of one quantity together: ``train/elbo`` and ``validation/elbo`` share a panel.

    Parameters
    ----------
    history
        Name to ``[[epoch, value], ...]``.

    Returns
    -------
    dict
        Panel title to its curves by name; curves without a finite value are left out.
    """
    groups: dict[str, dict[str, list[list[float]]]] = {}
    for name, points in history.items():
        known = [[x, y] for x, y in points if y is not None and math.isfinite(y)]
        if not known:
            continue
        words = [w for w in name.replace("_", "/").split("/") if w not in {"train", "validation"}]
        groups.setdefault(" ".join(words) or name, {})[name] = known
    return groups


def training_curves(results: ResultFolder) -> Picture:
    """Draw the stored epoch curves.

    Parameters
    ----------
    results
        Result folder; read: ``history.json``, which holds a curve (`curve_groups`).

    Returns
    -------
    Picture
        ``training_curves``.
    """
    groups = list(curve_groups(results.history).items())[:MAX_CURVES]
    figure, panels = style.panels(len(groups), 3, 2.1, 0.5)
    for axes, (title, curves) in zip(panels, groups, strict=True):
        tails = []
        for colour, (name, points) in zip(style.CYCLE * len(curves), curves.items(), strict=False):
            epochs, values = np.array(points, dtype=float).T
            style_of_line = (0, (4, 2)) if "validation" in name else "-"
            axes.plot(epochs, values, color=colour, linewidth=1.4, linestyle=style_of_line, label=drawable(name))
            tails.append(values[epochs >= 0.05 * epochs.max()])
        # The first epochs would squeeze the rest flat.
        low, high = float(np.concatenate(tails).min()), float(np.concatenate(tails).max())
        margin = 0.05 * (high - low) or 1.0
        axes.set_ylim(low - margin, high + margin)
        axes.set_title(shorten(drawable(_UNITS.get(title, title)), 34), fontsize=9.5)
        axes.grid(axis="y")
        if len(curves) > 1:
            axes.legend(fontsize=style.SMALL)
    figure.supxlabel("epoch", fontsize=10)
    more = len(curve_groups(results.history)) - len(groups)
    rest = f" {more} more curves are in history.json." if more else ""
    caption = (
        "Training curves, mean over replicates (dashed: validation cells). The axis "
        f"starts after the first 5% of the epochs. A curve that still falls at its end asks for more epochs.{rest}"
    )
    alt = f"Line plots of {len(groups)} training quantities by epoch."
    return style.finish(figure, results.path, "training_curves", caption=caption, alt=alt)
