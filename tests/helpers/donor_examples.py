"""Cells of donors that differ, under labels that mean nothing, and how often a test of the labels errs."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from scballast.agreement.association import association

Draw = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray, np.ndarray]]
N_DIMENSIONS = 100


def donor_effects(rng: np.random.Generator, n_dimensions: int, n_donors: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Cells of donors that differ, unequal in number: scores (cell, dimension) and the donor of each cell."""
    donors = np.repeat(np.arange(n_donors), rng.integers(10, 60, n_donors))
    effects = rng.normal(0, 1, (n_donors, n_dimensions))
    return effects[donors] + rng.normal(0, 1, (donors.size, n_dimensions)), donors


def of_whole_donors(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores, a label of 6 of 12 donors, whose arrangements are enumerated, and donors."""
    scores, donors = donor_effects(rng, N_DIMENSIONS)
    return scores, rng.permutation(np.arange(12) % 2)[donors], donors


def of_many_donors(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores, a label of 8 of 24 donors, whose arrangements are drawn, and donors."""
    scores, donors = donor_effects(rng, N_DIMENSIONS, n_donors=24)
    return scores, rng.permutation(np.arange(24) % 3 == 0).astype(int)[donors], donors


def within_donors(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores, a label that 4 donors have unequally often, and donors."""
    scores, donors = donor_effects(rng, N_DIMENSIONS, n_donors=4)
    return scores, (rng.random(donors.size) < np.array([0.1, 0.4, 0.6, 0.9])[donors]).astype(int), donors


def error_rate(draw: Draw, *, by_donor: bool, seeds: Iterable[int] = range(20)) -> float:
    """Share of p-values at most 0.05 in data sets of 100 dimensions without a difference."""
    found = []
    for seed in seeds:
        rng = np.random.default_rng([seed, 77])
        scores, codes, donors = draw(rng)
        tested = association(scores, codes, 2, n_permutations=199, generator=rng, donors=donors if by_donor else None)
        found.append(tested.p_value[:, 1] <= 0.05)
    return float(np.mean(found))
