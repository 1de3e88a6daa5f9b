"""Sections of sweeps over families of models, and over the number of dimensions where there are programs to hold."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from scballast.methods.registry import method_order
from scballast.report import style
from scballast.report.figure_names import drawable
from scballast.report.html import Grid, Picture, Section
from scballast.report.sweep_tables import OF_MODELS, SweepFolder

FAMILY = "model.name"
DIMENSIONS, HELD, REPLICATED = "model.n_latent", "programs/in_model", "programs/n_replicated"
# Columns of the table beside stability: the metric, and its decimals.
_BESIDE = {"held-out NLL": ("fit/heldout_nll", 1), "seconds of training": ("seconds/training", 1)}


def families_section(sweep: SweepFolder) -> Section | None:
    """Return the section of a sweep over families of models; None where there is one family."""
    lead = "Does another kind of model give lists that come back more often?"
    margins = above_floor(sweep)
    if margins is None:
        return None
    grids = [_margin_grid(margins, sweep)]
    truth = recovered(sweep)
    if truth is not None:
        caption = "Average precision of the planted genes, mean over populations and the family's trials."
        grids.append(_grid(caption, truth, sweep, {}))
    return Section("families", "Families of models", lead, (_family_picture(sweep, margins),), tuple(grids))


def above_floor(sweep: SweepFolder) -> pd.DataFrame | None:
    """Return Φ less its floor of the methods that read models, by family, method and population.

    Parameters
    ----------
    sweep
        Sweep folder; read: ``sweep_stability``.

    Returns
    -------
    DataFrame or None
        ``model.name``, ``method``, ``population``, ``margin``: means over the trials of a family, methods in the order
        of the registry. Methods that fewer than two families have are left out. None where there is one family.
    """
    table = sweep.stability
    if table is None or FAMILY not in table or table[FAMILY].nunique() < 2:
        return None
    table = table[table["method"].isin(OF_MODELS)]
    shared = table.groupby("method")[FAMILY].nunique() >= 2
    table = table[table["method"].map(shared)]
    if table.empty:
        return None
    margins = table.assign(margin=table["phi"] - table["floor"])
    means = margins.groupby([FAMILY, "method", "population"], sort=False)["margin"].mean().reset_index()
    return means.sort_values("method", key=lambda names: names.map(method_order), kind="stable", ignore_index=True)


def recovered(sweep: SweepFolder) -> pd.DataFrame | None:
    """Return the average precision of the methods that read models, (family, method); None without a truth."""
    names = {f"truth/{name}/average_precision": name for name in OF_MODELS}
    measured = [column for column in sweep.trials if column in names]
    if not measured or FAMILY not in sweep.trials:
        return None
    means = sweep.trials.groupby(FAMILY, sort=False)[measured].mean().rename(columns=names)
    return means[sorted(means.loc[:, means.notna().sum() >= 2], key=method_order)]


def _margin_grid(margins: pd.DataFrame, sweep: SweepFolder) -> Grid:
    by_family = sweep.trials.groupby(FAMILY, sort=False)
    costs = {name: by_family[column].mean() for name, (column, _) in _BESIDE.items() if column in sweep.trials}
    caption = (
        "Φ less its floor, mean over populations and the family's trials, by the method that reads the models; n/a: "
        "the family cannot have it. The held-out loss is in nats per cell, of models of counts, and compares where "
        "model.gene_likelihood and model.use_observed_lib_size are the same: ldvae models the cells' totals unless it "
        "is told not to, scvi and drvi take them as given. Seconds: training."
    )
    means = margins.pivot_table(index=FAMILY, columns="method", values="margin", sort=False)
    return _grid(caption, means[list(dict.fromkeys(margins["method"]))], sweep, costs)


def _grid(caption: str, values: pd.DataFrame, sweep: SweepFolder, beside: Mapping[str, pd.Series]) -> Grid:
    n_trials = sweep.trials[FAMILY].value_counts()
    families = [name for name in dict.fromkeys(sweep.trials[FAMILY]) if name in values.index]
    rows = [
        (name, int(n_trials[name]), *values.loc[name], *(column[name] for column in beside.values()))
        for name in families
    ]
    numbers = [*((str(method), 2) for method in values), *((name, _BESIDE[name][1]) for name in beside)]
    return Grid(caption, (("Family", None), ("Trials", 0), *numbers), tuple(rows))


def _family_picture(sweep: SweepFolder, margins: pd.DataFrame) -> Picture:
    methods, families = (list(dict.fromkeys(margins[column])) for column in ("method", FAMILY))
    families.sort(key=list(dict.fromkeys(sweep.trials[FAMILY])).index)
    step = 0.8 / len(families)
    figure, axes = style.panel(0.9 + len(methods) * max(0.34, 0.13 * len(families)))
    for number, family in enumerate(families):
        colour = style.CYCLE[number % len(style.CYCLE)]
        for row, method in enumerate(methods):
            family_margins = margins[(margins[FAMILY] == family) & (margins["method"] == method)]["margin"]
            if family_margins.empty:
                continue
            place = row - 0.4 + step * (number + 0.5)
            axes.scatter(family_margins, np.full(len(family_margins), place), s=9, color=colour, alpha=0.4, linewidth=0)
            axes.scatter([family_margins.mean()], [place], s=38, color=colour, zorder=3, linewidth=0)
    axes.axvline(0, color=style.GREY, linewidth=1, linestyle=(0, (3, 2)))
    for edge in range(1, len(methods)):
        axes.axhline(edge - 0.5, color=style.PALE, linewidth=0.8)
    style.name_rows(axes, [drawable(method) for method in methods])
    axes.set_xlabel("stability Φ less its floor")
    axes.grid(axis="x")
    marks = [style.mark(style.CYCLE[i % len(style.CYCLE)]) for i in range(len(families))]
    figure.legend(marks, [drawable(str(name)) for name in families], loc="outside upper center", ncols=7)
    caption = (
        "Families of models under the methods that read them. Large dots: mean over populations; small ones: the "
        "populations. Left of the dashed line lists come back no more often than lists without a signal would."
    )
    alt = f"Dot plot of stability above its floor of {len(methods)} methods in {len(families)} families of models."
    return style.finish(figure, sweep.path, "families", caption=caption, alt=alt)


def programs_section(sweep: SweepFolder) -> Section | None:
    """Return the section of programs by number of dimensions; None where trials have no two numbers of them."""
    trials = trials_with_programs(sweep)
    if trials is None:
        return None
    lead = "How many dimensions hold all programs that come back in unseen cells?"
    return Section("programs", "Programs", lead, (_program_picture(sweep, trials),))


def trials_with_programs(sweep: SweepFolder) -> pd.DataFrame | None:
    """Return the trials whose models were held against programs; None where they do not differ in dimensions."""
    if not {DIMENSIONS, HELD, REPLICATED} <= set(sweep.trials):
        return None
    trials = sweep.trials[sweep.trials[HELD].notna() & (sweep.trials[REPLICATED] > 0)]
    return trials if trials[DIMENSIONS].nunique() > 1 else None


def programs_sentence(_: SweepFolder, trials: pd.DataFrame) -> str:
    """Say what the figure shows."""
    means = trials.groupby(DIMENSIONS)[HELD].mean()
    most, least = means.idxmax(), means.idxmin()
    return (
        f"Of {trials[REPLICATED].mean():.3g} programs the models hold {means[most]:.1f} with {float(most):g} "
        f"dimensions, the most, and {means[least]:.1f} with {float(least):g}."
    )


def _program_picture(sweep: SweepFolder, trials: pd.DataFrame) -> Picture:
    figure, axes = style.panel(3.2)
    means = trials.groupby(DIMENSIONS)[[HELD, REPLICATED]].mean()
    axes.plot(means.index, means[REPLICATED], color=style.GREY, linestyle=(0, (3, 2)), linewidth=1, label="found again")
    axes.plot(means.index, means[HELD], color=style.VERMILION, linewidth=1.4, label="held by the models")
    axes.scatter(trials[DIMENSIONS], trials[HELD], s=14, color=style.VERMILION, alpha=0.6, linewidth=0)
    axes.set_ylim(bottom=0)
    axes.set_xticks([float(value) for value in means.index], labels=[f"{value:g}" for value in means.index])
    axes.set(xlabel="latent dimensions (n_latent)", ylabel="programs")
    axes.grid(axis="y")
    axes.legend(loc="lower right")
    caption = (
        "Programs by number of latent dimensions. Dashed: programs without a flag that are found again in unseen "
        "cells, which does not depend on the model. Line and dots (mean, trials): how many of them the latent space "
        "holds, the sum over programs of the share of the activity's variance that it tells (linear, each cell left "
        "out in turn). Where the line stops rising, further dimensions hold no further program."
    )
    alt = f"Line plot of programs held against the number of latent dimensions, {len(trials)} trials."
    return style.finish(figure, sweep.path, "programs_by_n_latent", caption=caption, alt=alt)
