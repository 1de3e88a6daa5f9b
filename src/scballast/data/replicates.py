"""Replicates: which cells each sees. Every method of a replicate sees the same cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from scballast.arrays import IntArray
from scballast.errors import DataError
from scballast.seeds import Stream, generator_for

Kind = Literal["subsample", "seed", "bootstrap", "donor", "thin"]

SEED_HELDOUT_FRACTION = 0.1


@dataclass(frozen=True)
class Replicate:
    """The cells of one replicate.

    Attributes
    ----------
    number
        From 0; with the experiment's seed it rules everything random in the replicate.
    cells
        (n,) sorted positions of the cells that every method sees; a cell drawn twice stands twice.
    heldout
        (m,) sorted positions of cells that no method of this replicate sees.
    """

    number: int
    cells: IntArray
    heldout: IntArray


def draw_replicates(
    kind: Kind,
    n_replicates: int,
    strata: IntArray,
    stratum_names: Sequence[str],
    *,
    seed: int,
    fraction: float = 0.5,
    samples: IntArray | None = None,
    conditions: IntArray | None = None,
) -> tuple[Replicate, ...]:
    """Draw the replicates of an experiment.

    Parameters
    ----------
    kind
        ``subsample``: disjoint parts of ``fraction`` of each stratum, so that replicates 2i and 2i+1 share
        no cell. ``seed``: the same cells in every replicate, less a fixed tenth held out. ``bootstrap``:
        as many cells as there are, drawn with replacement within strata. ``donor``: disjoint halves of the
        samples. ``thin``: as ``subsample``; what is thinned are the counts.
    n_replicates
        Number of replicates.
    strata
        (n_cells,) code of each cell's population; negative where it has none (a stratum of its own).
    stratum_names
        Name by code; a stratum's draw depends on its name, so adding a population changes no other.
    seed
        The experiment's seed.
    fraction
        Share of the cells in a replicate, for ``subsample``.
    samples
        (n_cells,) code of each cell's sample, for ``donor``.
    conditions
        (n_cells,) code of each cell's condition, negative: none. Where every sample has one, ``donor`` halves the
        samples of each, so that both halves have all conditions.

    Raises
    ------
    DataError
        ``donor`` with fewer than two samples.

    Examples
    --------
    >>> codes = np.repeat([0, 1], 4)
    >>> first, second = draw_replicates("subsample", 2, codes, ("B", "T"), seed=0, fraction=0.5)
    >>> first.cells, second.cells
    (array([1, 3, 4, 5]), array([0, 2, 6, 7]))
    """
    if kind == "donor":
        return _donor_halves(n_replicates, samples, conditions, seed)
    groups = _strata_positions(strata, stratum_names)
    if kind == "seed":
        return _same_cells(n_replicates, groups, seed)
    if kind == "bootstrap":
        return tuple(_bootstrap(number, groups, len(strata), seed) for number in range(n_replicates))
    return tuple(_part(number, groups, seed, fraction) for number in range(n_replicates))


def _strata_positions(strata: IntArray, names: Sequence[str]) -> dict[str, IntArray]:
    groups = {name: np.flatnonzero(strata == code) for code, name in enumerate(names)}
    # No category can be called so: names of populations hold no control characters of this kind.
    groups["\x00unlabelled"] = np.flatnonzero(strata < 0)
    return {name: cells for name, cells in groups.items() if cells.size}


def _part(number: int, groups: dict[str, IntArray], seed: int, fraction: float) -> Replicate:
    cells: list[IntArray] = []
    heldout: list[IntArray] = []
    pair, second = divmod(number, 2)
    for name, members in groups.items():
        order = generator_for(seed, Stream.CELLS, pair, name).permutation(members)
        size = fraction * members.size
        # An odd cell goes to the first half in even pairs and to the second in odd ones.
        first_size = int(np.ceil(size)) if pair % 2 == 0 else int(np.floor(size))
        second_size = min(int(np.floor(size + 0.5)), members.size - first_size)
        second_size = members.size - first_size if fraction == 0.5 else second_size
        start, stop = (first_size, first_size + second_size) if second else (0, first_size)
        cells.append(order[start:stop])
        heldout.append(np.concatenate([order[:start], order[stop:]]))
    return Replicate(number, _sorted(cells), _sorted(heldout))


def _same_cells(n_replicates: int, groups: dict[str, IntArray], seed: int) -> tuple[Replicate, ...]:
    cells: list[IntArray] = []
    heldout: list[IntArray] = []
    for name, members in groups.items():
        order = generator_for(seed, Stream.HELDOUT, name).permutation(members)
        n_heldout = int(np.floor(SEED_HELDOUT_FRACTION * members.size))
        heldout.append(order[:n_heldout])
        cells.append(order[n_heldout:])
    shared, out = _sorted(cells), _sorted(heldout)
    return tuple(Replicate(number, shared, out) for number in range(n_replicates))


def _bootstrap(number: int, groups: dict[str, IntArray], n_cells: int, seed: int) -> Replicate:
    streams = {name: generator_for(seed, Stream.CELLS, number, name) for name in groups}
    drawn = _sorted([streams[name].choice(members, members.size) for name, members in groups.items()])
    return Replicate(number, drawn, np.setdiff1d(np.arange(n_cells), drawn))


def _donor_halves(
    n_replicates: int, samples: IntArray | None, conditions: IntArray | None, seed: int
) -> tuple[Replicate, ...]:
    present = np.unique(samples[samples >= 0]) if samples is not None else np.array([], dtype=int)
    if samples is None or present.size < 2:
        message = (
            "resample.kind=donor: 2 samples or more are needed for disjoint halves (4 or more to mean anything), and "
            f"the sample column has {present.size}. Name another data.sample_key, or use resample.kind=subsample."
        )
        raise DataError(message)
    groups = _samples_by_condition(samples, conditions) or {(): present}
    replicates = []
    for number in range(n_replicates):
        pair, second = divmod(number, 2)
        chosen: list[IntArray] = []
        for place, (identity, members) in enumerate(groups.items()):
            order = generator_for(seed, Stream.CELLS, pair, *identity).permutation(members)
            half = members.size // 2 + (members.size % 2) * ((pair + place) % 2 == 0)
            chosen.append(order[half:] if second else order[:half])
        inside = np.isin(samples, np.concatenate(chosen))
        replicates.append(Replicate(number, np.flatnonzero(inside), np.flatnonzero(~inside)))
    return tuple(replicates)


def _samples_by_condition(samples: IntArray, conditions: IntArray | None) -> dict[tuple[str, ...], IntArray] | None:
    """Return the samples of each condition, and those of none, by identity; None where a sample has several."""
    if conditions is None:
        return None
    known = (samples >= 0) & (conditions >= 0)
    pairs = np.unique(np.column_stack([samples[known], conditions[known]]), axis=0)
    present, times = np.unique(pairs[:, 0], return_counts=True)
    if (times > 1).any():
        return None
    groups: dict[tuple[str, ...], IntArray] = {
        (f"condition {code}",): pairs[pairs[:, 1] == code, 0] for code in np.unique(pairs[:, 1])
    }
    others = np.setdiff1d(samples[samples >= 0], present)
    if others.size:
        groups["no condition",] = others
    return groups


def _sorted(parts: Sequence[IntArray]) -> IntArray:
    return np.sort(np.concatenate(parts)).astype(np.int64)
