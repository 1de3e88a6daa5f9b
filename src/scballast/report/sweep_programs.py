"""How many of the programs found again the models of a sweep hold, by their number of latent dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scballast.report import style
from scballast.report.html import Section

if TYPE_CHECKING:
    import pandas as pd

    from scballast.report.style import Picture
    from scballast.report.sweep_tables import SweepFolder

DIMENSIONS, HELD, REPLICATED = "model.n_latent", "programs/in_model", "programs/n_replicated"


def programs_section(sweep: SweepFolder) -> Section | None:
    """Return the section of programs by number of dimensions; None where trials have no two numbers of them."""
    trials = trials_with_programs(sweep)
    if trials is None:
        return None
    lead = "How many dimensions hold all programs that come back in unseen cells?"
    return Section("programs", "Programs", lead, (_picture(sweep, trials),))


def trials_with_programs(sweep: SweepFolder) -> pd.DataFrame | None:
    """Return the trials whose models were held against programs; None where they do not differ in dimensions."""
    if not {DIMENSIONS, HELD, REPLICATED} <= set(sweep.trials):
        return None
    trials = sweep.trials[sweep.trials[HELD].notna() & (sweep.trials[REPLICATED] > 0)]
    return trials if trials[DIMENSIONS].nunique() > 1 else None


def programs_sentence(sweep: SweepFolder) -> str:
    """Say what the figure shows."""
    trials = trials_with_programs(sweep)
    if trials is None:
        return ""
    means = trials.groupby(DIMENSIONS)[HELD].mean()
    most, least = means.idxmax(), means.idxmin()
    return (
        f"Of {trials[REPLICATED].mean():.3g} programs the models hold {means[most]:.1f} with {float(most):g} "
        f"dimensions, the most, and {means[least]:.1f} with {float(least):g}."
    )


def _picture(sweep: SweepFolder, trials: pd.DataFrame) -> Picture:
    figure = style.new_figure(3.2)
    axes = figure.subplots()
    means = trials.groupby(DIMENSIONS)[[HELD, REPLICATED]].mean()
    axes.plot(means.index, means[REPLICATED], color=style.GREY, linestyle=(0, (3, 2)), linewidth=1, label="found again")
    axes.plot(means.index, means[HELD], color=style.VERMILION, linewidth=1.4, label="held by the models")
    axes.scatter(trials[DIMENSIONS], trials[HELD], s=14, color=style.VERMILION, alpha=0.6, linewidth=0)
    axes.set_ylim(bottom=0)
    axes.set_xticks([float(value) for value in means.index], labels=[f"{value:g}" for value in means.index])
    axes.set_xlabel("latent dimensions (n_latent)")
    axes.set_ylabel("programs")
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
