"""Which populations are ranked, and what in their cells, batches and samples a reader must know."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scballast.arrays import FloatArray, IntArray, cross_table, places_among
from scballast.data.columns import Column
from scballast.data.dataset import Population
from scballast.data.names import quote, quoted, safe_names
from scballast.data.remarks import Remarks

POOR_GENES = 20
"""A median cell with counts in more genes than this is not called poor, however rich the others are."""
POOR_SHARE = 0.1
UNFILTERED_SHARE = 0.2
MOSTLY_EMPTY = 0.5
WITHOUT_COUNTS = "none of their cells has usable counts"
DUPLICATES = "all of their cells are duplicates of others"
_LEFT_OUT = {WITHOUT_COUNTS: "cells without usable counts", DUPLICATES: "duplicates of other cells"}
WITHOUT_LABEL = "none of their cells has a label (data.unlabelled=drop)"


@dataclass(frozen=True)
class Ranked:
    """The ranked populations, and the (n_cells,) index of each cell into them (-1: none)."""

    populations: tuple[Population, ...]
    codes: IntArray


def check_labels(labels: Column, remarks: Remarks) -> None:
    """Raise unless the labels divide the cells into populations.

    Raises
    ------
    DataError
        No cell has a label, all labelled cells have the same, or every one has its own.
    """
    key, n_labelled = quote(labels.key), int(np.count_nonzero(labels.codes >= 0))
    remedy = "Set data.population_key to a column with at least 2 populations."
    if n_labelled == 0:
        remarks.refuse(f"obs[{key}] is missing for all {labels.codes.size:,} cells. {remedy}")
    if len(labels.names) == 1:
        only = quote(labels.names[0])
        remarks.refuse(f"obs[{key}] has one value, {only}, in all {n_labelled:,} labelled cells. {remedy}")
    if len(labels.names) == n_labelled:
        remarks.refuse(f"obs[{key}] differs in every one of the {n_labelled:,} labelled cells. {remedy}")


def rank_populations(labels: Column, min_cells: int, remarks: Remarks) -> Ranked:
    """Choose the populations that are ranked: those with at least ``min_cells`` cells.

    A population is compared with all other cells, so these must be at least ``min_cells`` too; one ranked
    population among small ones is enough.

    Raises
    ------
    DataError
        No population can be ranked.
    """
    sizes = labels.sizes()
    n_cells = labels.codes.size
    large = sizes >= min_cells
    comparable = large & (n_cells - sizes >= min_cells)
    if not comparable.any():
        biggest = ", ".join(f"{quote(labels.names[i])} ({sizes[i]:,})" for i in np.argsort(-sizes, kind="stable")[:5])
        rest = " with as many other cells" if large.any() else ""
        remarks.refuse(
            f"no population of obs[{quote(labels.key)}] has {min_cells:,} cells or more{rest}; the largest "
            f"of {len(labels.names):,}: {biggest}. Lower data.min_cells, or choose a coarser data.population_key."
        )
    n_missing = int(np.count_nonzero(labels.codes < 0))
    if n_missing:
        remarks.note(
            f"{n_missing:,} of {n_cells:,} cells have no value in obs[{quote(labels.key)}]: they train the "
            "global model and belong to no population (data.unlabelled=drop leaves them out)."
        )
    small = np.flatnonzero(~comparable)
    if small.size:
        named = _listed([f"{quote(labels.names[i])} ({sizes[i]:,})" for i in small])
        remarks.note(
            f"populations with fewer than {min_cells:,} cells (data.min_cells) are not ranked, but their "
            f"cells train the global model: {named}."
        )
    # Safe names are made among all labels, so that they do not change with data.min_cells.
    safe = safe_names(labels.names)
    kept = np.flatnonzero(comparable)
    populations = tuple(Population(labels.names[i], safe[i], int(sizes[i])) for i in kept)
    return Ranked(populations, places_among(kept, len(labels.names))[labels.codes])


def note_disappearance(before: Column, after: Column, min_cells: int, reason: str, remarks: Remarks) -> None:
    """Name the populations that disappeared, or fell below ``min_cells``, with cells that are left out for a reason."""
    left = dict(zip(after.names, after.sizes().tolist(), strict=True))
    sizes = dict(zip(before.names, before.sizes().tolist(), strict=True))
    fallen = [
        f"{quote(name)} (from {size:,} to {left[name]:,})"
        for name, size in sizes.items()
        if name in left and size >= min_cells > left[name]
    ]
    note_lost(before, after, "populations", reason, remarks)
    if fallen:
        remarks.note(
            f"populations of obs[{quote(before.key)}] that fall below data.min_cells={min_cells:,}, because "
            f"{_LEFT_OUT[reason]} are left out: {_listed(fallen)}."
        )


def note_lost(before: Column, after: Column, what: str, reason: str, remarks: Remarks) -> None:
    """Name the populations, batches or samples that have cells before and none after, and why."""
    sizes = zip(before.names, before.sizes().tolist(), strict=True)
    gone = [f"{quote(name)} ({size:,})" for name, size in sizes if name not in after.names]
    if gone:
        remarks.note(f"{what} of obs[{quote(before.key)}] that disappear, because {reason}: {_listed(gone)}.")


def note_poverty(labels: Column, n_genes: IntArray, remarks: Remarks) -> None:
    """Name the populations whose cells express next to no gene.

    Parameters
    ----------
    labels
        Label of each cell.
    n_genes : (n_cells,)
        Genes with counts in each cell.
    remarks
        Of the file; what is noticed is added.
    """
    medians = _medians(labels, n_genes)
    # Of populations, not of cells: empty droplets under one label would else be what is typical.
    typical = float(np.median(medians))
    poor = np.flatnonzero((medians <= POOR_GENES) & (medians < POOR_SHARE * typical))
    sizes = labels.sizes()
    named = [f"{quote(labels.names[i])} ({sizes[i]:,} cells, median {medians[i]:g})" for i in poor]
    if named:
        remarks.note(
            f"populations whose cells have counts in next to no gene (the others: median {typical:g} genes): "
            f"{_listed(named)}. Did their sample fail? What is found for them, and against them, says little."
        )


def note_unfiltered(labels: Column, totals: FloatArray, remarks: Remarks) -> None:
    """Warn of empty droplets: many cells with next to no counts beside the others, without a label or under one.

    Parameters
    ----------
    labels
        Label of each cell.
    totals : (n_cells,)
        Counts of each cell.
    remarks
        Of the file; what is noticed is added.
    """
    medians = _medians(labels, totals)
    typical = float(np.median(medians)) if medians.size else 0.0
    poor = np.flatnonzero(medians < POOR_SHARE * typical)
    empty = (totals < POOR_SHARE * typical) & ((labels.codes < 0) | np.isin(labels.codes, poor))
    under = [quote(labels.names[i]) for i in np.intersect1d(poor, labels.codes[empty])]
    # Fewer under a label may as well be a sample that failed, which is said of the population.
    if empty.mean() < (MOSTLY_EMPTY if under else UNFILTERED_SHARE):
        return
    what, remedy = "no label", ""
    if under:
        what = f"{'no label or ' if (labels.codes[empty] < 0).any() else ''}the label {' or '.join(under)}"
        remedy = f"Leave the label of these cells empty (it is analysed as a population: {', '.join(under)}) and set"
    remarks.note(
        f"UNFILTERED MATRIX? {np.count_nonzero(empty):,} of {empty.size:,} cells ({empty.mean():.0%}) have "
        f"{what} and next to no counts (median {np.median(totals[empty]):g}, populations {typical:g}): empty "
        f"droplets, which train the global model. {remedy or 'Set'} data.unlabelled=drop to keep labelled cells only, "
        "or use the filtered matrix."
    )


def _medians(labels: Column, values: FloatArray | IntArray) -> FloatArray:
    """Return the median of the values of each label's cells, (n_labels,)."""
    return np.array([np.median(values[labels.codes == code]) for code in range(len(labels.names))])


def _listed(names: list[str], most: int = 20) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def note_confounding(ranked: Ranked, batches: Column | None, samples: Column | None, remarks: Remarks) -> None:
    """Say which populations cannot be told from a batch or a sample, and what else is odd about these."""
    if batches is not None:
        lone = [batches.names[i] for i in np.flatnonzero(batches.sizes() == 1)]
        if lone:
            remarks.note(f"batches with one cell, whose effect cannot be estimated: {quoted(lone)}.")
        _note_within_one(ranked, batches, "batch", remarks)
    if samples is None:
        return
    if len(samples.names) == 1:
        remarks.note(
            f"obs[{quote(samples.key)}] has one value, {quote(samples.names[0])}: pseudobulk and "
            "resampling by donor need several samples."
        )
    elif batches is None or batches.key != samples.key:
        _note_within_one(ranked, samples, "sample", remarks)
    if batches is not None and batches.key != samples.key:
        table = cross_table(samples.codes, len(samples.names), batches.codes, len(batches.names))
        crossing = np.flatnonzero((table > 0).sum(axis=1) > 1)
        if crossing.size:
            remarks.note(
                f"samples of obs[{quote(samples.key)}] that occur in several batches of "
                f"obs[{quote(batches.key)}]: {quoted(samples.names[i] for i in crossing)}. Each is treated as one "
                "sample; if the name stands for different samples, make the names distinct."
            )


def _note_within_one(ranked: Ranked, groups: Column, kind: str, remarks: Remarks) -> None:
    if len(groups.names) < 2:
        return
    table = cross_table(ranked.codes, len(ranked.populations), groups.codes, len(groups.names))
    confounded = [
        f"{quote(population.name)} (all in {quote(groups.names[int(np.argmax(row))])})"
        for population, row in zip(ranked.populations, table, strict=True)
        if np.count_nonzero(row) == 1
    ]
    if confounded:
        remarks.note(
            f"populations that occur in one {kind} only: {_listed(confounded, 10)}. Population and {kind} are "
            f"confounded: what is found there may be an effect of the {kind}."
        )
