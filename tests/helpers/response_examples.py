"""Counts of donors under two conditions that do nothing, or raise some genes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from scballast.methods.cell_view import CellView


@dataclass(frozen=True, eq=False)
class Example:
    """Cells of one population."""

    counts: sparse.csr_matrix
    donors: np.ndarray
    conditions: np.ndarray

    @property
    def total_counts(self) -> np.ndarray:
        return np.asarray(self.counts.sum(axis=1), dtype=float).ravel()

    @property
    def codes(self) -> np.ndarray:
        return np.zeros(self.donors.size, dtype=np.int64)

    def view(self, cells: np.ndarray | None = None) -> CellView:
        cells = np.arange(self.donors.size) if cells is None else cells
        return CellView(
            counts=self.counts[cells],
            total_counts=self.total_counts[cells],
            codes=self.codes[cells],
            n_populations=1,
            populations=("A",),
            samples=self.donors[cells],
            seed=0,
            conditions=self.conditions[cells],
        )

    def with_conditions(self, conditions: np.ndarray) -> Example:
        return replace(self, conditions=conditions)


def donors_example(
    seed: int,
    *,
    paired: bool,
    n_donors: int = 12,
    n_genes: int = 200,
    n_cells: int = 30,
    preparation_sd: float = 0.3,
    effect: float = 0.0,
) -> Example:
    """Donors that differ, and preparations of their cells that differ; conditions dealt to donors at random.

    Parameters
    ----------
    seed
        Of the draws.
    paired
        Whether each donor has cells of both conditions, ``n_cells`` of each; otherwise of one.
    n_donors, n_genes, n_cells
        Sizes.
    preparation_sd
        Standard deviation of the log rate of a gene between preparations (donor and condition).
    effect
        Natural log by which the condition raises the first 20 genes.
    """
    rng = np.random.default_rng([seed, 5])
    if paired:
        donors = np.repeat(np.arange(n_donors), 2 * n_cells)
        side = np.tile(np.repeat([0, 1], n_cells), n_donors)
        preparation = 2 * donors + side
        conditions = np.where(rng.integers(0, 2, n_donors)[donors] == 1, 1 - side, side)
    else:
        donors = preparation = np.repeat(np.arange(n_donors), n_cells)
        conditions = rng.permutation(np.arange(n_donors) % 2)[donors]
    log_rates = rng.normal(0, 1, n_genes) + rng.normal(0, 0.5, (n_donors, n_genes))[donors]
    log_rates += rng.normal(0, preparation_sd, (2 * n_donors, n_genes))[preparation]
    log_rates[:, :20] += effect * conditions[:, None]
    depth = rng.lognormal(0, 0.3, donors.size)[:, None]
    counts = rng.negative_binomial(2, 2 / (2 + np.exp(log_rates) * depth))
    return Example(sparse.csr_matrix(counts.astype(np.float32)), donors, conditions)
