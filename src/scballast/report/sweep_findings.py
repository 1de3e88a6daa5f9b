"""One sentence under each figure of a sweep that says what *these* trials show."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from scballast.methods.registry import CONTROLS, METHODS
from scballast.report.sweep_sections import FAMILY, above_floor, programs_sentence, trials_with_programs
from scballast.report.sweep_tables import Objective, SweepFolder


def finding(sweep: SweepFolder, stem: str) -> str:
    """Say what a figure of a sweep shows; ``""`` where its numbers say nothing.

    Parameters
    ----------
    sweep
        Sweep folder; read: the tables that the figure was drawn from.
    stem
        Name of the figure.
    """
    if stem not in _SENTENCES:
        return ""
    read, sentence = _SENTENCES[stem]
    table = read(sweep)
    return "" if table is None else sentence(sweep, table)


def _front(sweep: SweepFolder, trials: pd.DataFrame) -> str:
    first, second = sweep.objectives[:2]
    a, b = _best(trials, first), _best(trials, second)
    count = f"{len(sweep.pareto)} of {len(trials)} trials are beaten by no other"
    if a["trial"] == b["trial"]:
        return f"Trial {a['trial']} is best in {first.metric} and in {second.metric}; {count}."
    return (
        f"Trial {a['trial']} is best in {first.metric} ({_value(a, first)}; {second.metric} {_value(a, second)}), "
        f"trial {b['trial']} in {second.metric} ({_value(b, second)}; {first.metric} {_value(b, first)}); {count}."
    )


def _best(trials: pd.DataFrame, objective: Objective) -> pd.Series:
    values = trials[objective.metric]
    return trials.loc[values.idxmax() if objective.maximise else values.idxmin()]


def _value(row: pd.Series, objective: Objective) -> str:
    return f"{row[objective.metric]:,.1f}" if objective.metric.startswith("fit/") else f"{row[objective.metric]:z.2f}"


def _dimensions(sweep: SweepFolder, table: pd.DataFrame) -> str:
    method = sweep.headline_method
    if method in CONTROLS:
        return ""
    means = table[table["method"] == method].groupby("model.n_latent")["phi"].mean()
    most, least = means.idxmax(), means.idxmin()
    text = (
        f"{method} is most stable with {float(most):g} dimensions (Φ {means[most]:z.2f} on average), "
        f"least with {float(least):g} ({means[least]:z.2f})"
    )
    fit = "fit/heldout_nll"
    if fit not in sweep.finished or "model.n_latent" not in sweep.finished:
        return f"{text}."
    losses = sweep.finished.groupby("model.n_latent")[fit].mean().dropna()
    return f"{text}; the held-out fit is best with {float(losses.idxmin()):g}." if len(losses) else f"{text}."


def _importance(sweep: SweepFolder, table: pd.DataFrame) -> str:
    parts = []
    for objective, parameters in table.groupby("objective", sort=False):
        highest = parameters.loc[parameters["importance"].idxmax()]
        parts.append(f"{highest['parameter']} decides most of {objective} ({highest['importance']:.0%})")
    return f"{'; '.join(parts)}."


def _by_trial(sweep: SweepFolder, table: pd.DataFrame) -> str:
    method_rows = table[table["method"] == sweep.headline_method]
    trials, populations = method_rows.groupby("trial")["phi"].mean(), method_rows.groupby("population")["phi"].mean()
    return (
        f"From trial to trial the mean over populations lies between {trials.min():z.2f} and {trials.max():z.2f}, from "
        f"population to population the mean over trials between {populations.min():z.2f} “{populations.idxmin()}” and "
        f"{populations.max():z.2f} “{populations.idxmax()}”."
    )


def _families(sweep: SweepFolder, margins: pd.DataFrame) -> str:
    means = margins.groupby(["method", FAMILY], sort=False)["margin"].mean()
    parts = []
    for estimand in ("marker", "program"):
        estimand_means = means[[METHODS[method].estimand == estimand for method, _ in means.index]]
        if estimand_means.notna().any():
            method, family = estimand_means.idxmax()
            among = estimand_means[method].dropna()
            parts.append(
                f"{estimand} genes are most stable above their floor by {method} of {family} ({among[family]:z.2f}; "
                f"{method} of {among.idxmin()}, the least: {among.min():z.2f})"
            )
    said = "; ".join(parts)
    return f"{said[:1].upper()}{said[1:]}. What comes back may still be wrong."


# By a figure's name: how the table that it is of is read, and what is said.
_SENTENCES: dict[str, tuple[Callable[[SweepFolder], pd.DataFrame | None], Callable[[SweepFolder, pd.DataFrame], str]]]
_SENTENCES = {
    "pareto": (lambda sweep: sweep.finished, _front),
    "stability_by_n_latent": (lambda sweep: sweep.stability, _dimensions),
    "families": (above_floor, _families),
    "programs_by_n_latent": (trials_with_programs, programs_sentence),
    "importance": (lambda sweep: sweep.table("importance"), _importance),
    "stability_by_trial": (lambda sweep: sweep.stability, _by_trial),
}
