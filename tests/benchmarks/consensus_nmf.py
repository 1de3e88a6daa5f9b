"""Consensus NMF and plain NMF as methods of a benchmark: they are told the number of programs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from sklearn.decomposition import NMF

from scballast.errors import TrainingError
from scballast.models.consensus_nmf import consensus_nmf as programs_of


@dataclass(frozen=True)
class Components:
    """Gene scores (n_genes, k), by which top genes are read, and usages (n_cells, k)."""

    gene_scores: np.ndarray
    usages: np.ndarray


def consensus_nmf(counts: np.ndarray, k: int, *, n_iterations: int, seed: int) -> Components:
    """Return the family's programs with its authors' gene scores.

    Kotliar et al. (2019), see ``scballast.models.consensus_nmf``. No components where its runs agree on too little.
    """
    try:
        found = programs_of(sparse.csr_matrix(counts), k, [1000 * seed + run for run in range(n_iterations)])
    except TrainingError:
        return Components(np.zeros((counts.shape[1], 0)), np.zeros((counts.shape[0], 0)))
    return Components(found.gene_scores, found.usages)


def plain_nmf(counts: np.ndarray, k: int, *, seed: int) -> Components:
    """Run NMF once on genes at unit variance."""
    model = NMF(k, init="nndsvda", random_state=seed, max_iter=300, tol=1e-3)
    usages = model.fit_transform(_unit_variance(counts))
    return Components(model.components_.T, usages)


def _unit_variance(counts: np.ndarray) -> np.ndarray:
    depth = counts.sum(axis=1, keepdims=True)
    equal = counts / depth * depth.mean()
    deviation = equal.std(axis=0, ddof=1)
    return np.divide(equal, deviation, out=np.zeros_like(equal), where=deviation > 0)
