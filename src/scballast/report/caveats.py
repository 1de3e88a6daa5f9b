"""What limits these results, each with the stored number that triggered it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scballast.methods.registry import CONTROLS
from scballast.report.stored_tables import setting

if TYPE_CHECKING:
    import pandas as pd

    from scballast.report.stored_tables import ResultFolder

STEPS_REFUSED, STEPS_COMFORTABLE = 500, 1000  # the decoder's running statistics forget their start by then
SMALL_POPULATION = 100  # cells; a half then has 50
KL_REACHED = 0.95  # the last of 400 epochs of warm-up has 0.9975


@dataclass(frozen=True)
class Caveat:
    """One limit of the results.

    Attributes
    ----------
    title
        In a few words.
    text
        What it means and what to do.
    value
        The number that triggered it.
    unit
        What the number counts.
    source
        Table or file that holds it.
    """

    title: str
    text: str
    value: float
    unit: str
    source: str


def caveats(results: ResultFolder) -> list[Caveat]:
    """List the limits that apply to these data, the gravest first.

    Parameters
    ----------
    results
        Result folder; read: ``stability``, ``answer``, ``training``, ``populations``, ``concordance``,
        ``association``, ``config/resolved.yaml``, ``warnings.json``.

    Returns
    -------
    list of Caveat
        Only those whose condition holds.
    """
    found = [
        *_replicates(results),
        *_at_floor(results),
        *_one_by_one(results),
        *_training(results),
        *_controls(results),
        *_sizes(results),
        *_batch(results),
        *_labels(results),
    ]
    for text in results.warnings:
        found.append(Caveat("Note", text, float(len(results.warnings)), "warnings in all", "warnings.json"))
    return found


def n_replicates(results: ResultFolder) -> int | None:
    """Give the number of replicates: the training table's, else the configuration's."""
    training = results.table("training")
    if training is not None and "replicate" in training:
        return int(training["replicate"].nunique())
    configured = setting(results.config, "resample.n_replicates")
    return None if configured is None else int(configured)


def _replicates(results: ResultFolder) -> list[Caveat]:
    found = []
    count = n_replicates(results)
    if count is not None and count < 3:
        text = "Fewer than 3 replicates give a point estimate and no interval. Raise resample.n_replicates to 10."
        found.append(Caveat("No intervals", text, count, "replicates", "tables/training.csv"))
    kind = setting(results.config, "resample.kind")
    if kind == "bootstrap":
        text = (
            "Bootstrap replicates hold the same cell more than once, also across training and validation, which "
            "flatters fit and tests. Prefer resample.kind=subsample."
        )
        found.append(Caveat("Bootstrap", text, float(count or 0), "replicates", "config/resolved.yaml"))
    if kind == "seed":
        text = (
            "All replicates saw the same cells: Φ shows what the training's random numbers change, "
            "not what other cells would. Deterministic methods have no stability here."
        )
        found.append(
            Caveat("Same cells in every replicate", text, float(count or 0), "replicates", "config/resolved.yaml")
        )
    return found


def _at_floor(results: ResultFolder) -> list[Caveat]:
    found = []
    answer = results.table("answer")
    if answer is not None:
        none = answer[answer["method"].isin(["", "none"])]
        if len(none):
            text = (
                f"In {len(none)} of {len(answer)} cases no method is both clearly above its floor and confirmed by "
                f"another: {_some(none)}."
            )
            found.append(Caveat("No list to trust", text, len(none), "answers without a method", "tables/answer.csv"))
    head = results.headline[~results.headline["method"].isin(CONTROLS)]
    known = head[head["phi"].notna()]
    low = (
        known[~(known["lower"] > known["floor"])]
        if known["lower"].notna().any()
        else known[known["phi"] <= known["floor"]]
    )
    if len(low):
        methods = ", ".join(sorted(set(low["method"])))
        text = (
            f"{len(low)} of {len(known)} lists are no more stable than lists without a signal may be "
            f"(methods: {methods}). Do not interpret their order."
        )
        found.append(Caveat("Stability at or below the floor", text, len(low), "lists", "tables/stability.csv"))
    lost = head[head["phi"].isna()]
    if len(lost):
        reasons = "; ".join(sorted({str(reason) for reason in lost["reason"] if str(reason)})) or "no reason stored"
        text = f"{len(lost)} of {len(head)} lists have no stability: {reasons}."
        found.append(Caveat("Stability not available", text, len(lost), "lists", "tables/stability.csv"))
    return found


def _one_by_one(results: ResultFolder) -> list[Caveat]:
    answer = results.table("answer")
    if answer is None:
        return []
    rows = answer[answer["method"] == "within_dispersion"]
    if rows.empty:
        return []
    text = (
        "Within_dispersion ranks each gene by its own variance: it comes back reliably and knows of no program. On "
        "simulated cells it finds the fewest planted program genes of the methods compared. Look at the lists of "
        f"'local' and 'residual_pca' beside it: {_some(rows)}."
    )
    return [Caveat("Variable, but not together", text, len(rows), "answers", "tables/answer.csv")]


def _training(results: ResultFolder) -> list[Caveat]:
    training = results.table("training")
    if training is None:
        return []
    found = []
    if "failure" in training:
        failed = training[training["failure"] != ""]
        if len(failed):
            text = (
                f"{len(failed)} of {len(training)} models failed and count for nothing here; the first said: "
                f"{failed['failure'].iloc[0]}."
            )
            found.append(Caveat("Failed models", text, len(failed), "models", "tables/training.csv"))
        training = training[training["failure"] == ""]
    if "n_steps" in training:
        steps = training.loc[training["n_steps"] > 0, "n_steps"]  # models that take no gradient steps have 0
        few, some = int((steps < STEPS_REFUSED).sum()), int((steps < STEPS_COMFORTABLE).sum())
        if some:
            limit, count = (STEPS_REFUSED, few) if few else (STEPS_COMFORTABLE, some)
            text = (
                f"{count} of {len(steps)} trained models saw fewer than {limit:,} gradient steps; the shortest saw "
                f"{int(steps.min()):,}. Their decoder's running statistics still carry their starting values, which "
                "distorts the loadings. Raise train.max_epochs or lower train.batch_size."
            )
            found.append(Caveat("Too few steps", text, float(steps.min()), "steps, the fewest", "tables/training.csv"))
    if "final_kl_weight" in training:
        weights = training["final_kl_weight"].dropna()
        if len(weights) and float(weights.min()) < KL_REACHED:
            below = int((weights < KL_REACHED).sum())
            text = (
                f"In {below} of {len(weights)} trained models the KL weight ended below {KL_REACHED:g}, so models "
                "trained for different numbers of epochs optimised different objectives. Set train.kl_warmup_epochs."
            )
            found.append(
                Caveat(
                    "KL weight below 1", text, float(weights.min()), "final weight, the lowest", "tables/training.csv"
                )
            )
    return found


def _controls(results: ResultFolder) -> list[Caveat]:
    found = []
    for control in sorted(CONTROLS):
        own = results.headline[results.headline["method"] == control]
        above = int((own["lower"] > own["floor"]).sum())
        if above:
            text = (
                f"In {above} of {len(own)} populations the control '{control}', which knows nothing of the population, "
                "lies above its floor. Something gives it structure: read every Φ with care."
            )
            found.append(Caveat("A control is stable", text, above, "populations", "tables/stability.csv"))
    return found


def _sizes(results: ResultFolder) -> list[Caveat]:
    table = results.table("populations")
    if table is None:
        return []
    ranked = table[table["ranked"].astype(str) == "True"]
    small = ranked[ranked["n_cells"] < SMALL_POPULATION]
    found = []
    if len(small):
        text = (
            f"{len(small)} of {len(ranked)} populations have fewer than {SMALL_POPULATION} cells ({_some(small)}). "
            "Low stability there may only be a lack of cells: compare the figure of stability against size."
        )
        found.append(
            Caveat(
                "Small populations",
                text,
                float(small["n_cells"].min()),
                "cells in the smallest",
                "tables/populations.csv",
            )
        )
    out = table[table["ranked"].astype(str) != "True"]
    if len(out):
        text = f"Not ranked, too small: {_some(out)}. Their cells were still part of the global model."
        found.append(Caveat("Populations left out", text, len(out), "populations", "tables/populations.csv"))
    return found


def _batch(results: ResultFolder) -> list[Caveat]:
    key = setting(results.config, "data.batch_key")
    association = results.table("association")
    if association is None or not key:
        return []
    rows = association[association["key"] == key]
    if rows.empty or not math.isfinite(float(rows["eta2"].max())):
        return []
    strongest = float(rows["eta2"].max())
    if strongest <= 0.25:
        return []
    text = (
        f"A latent dimension still follows the batches ('{key}'): programs may be batch effects. "
        "Where a population comes from one batch only, its marker genes cannot be told from that batch."
    )
    return [Caveat("Batch in the latent space", text, strongest, "largest η²", "tables/association.csv")]


def _labels(results: ResultFolder) -> list[Caveat]:
    key = setting(results.config, "data.population_key")
    clustered = any(word in str(key).lower() for word in ("leiden", "louvain", "cluster", "kmeans", "seurat"))
    how = "looks like a clustering of" if clustered else "may have been derived from"
    text = (
        f"The population column '{key}' {how} these same counts. If so, marker genes are chosen and tested on one set "
        "of cells: p-values are too small and agreement on markers too high. Stability across halves does not cure "
        "this, since both halves share the labels. Program genes are affected less."
    )
    count = float(len(results.populations))
    return [Caveat("Labels from the same counts", text, count, "populations so labelled", "tables/populations.csv")]


def _some(rows: pd.DataFrame, limit: int = 6) -> str:
    names = list(dict.fromkeys(str(name) for name in rows["population"]))
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(f"“{name}”" for name in names[:limit]) + more
