"""Consensus NMF, written from its paper, to compare with: it is told the number of programs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls
from sklearn.cluster import KMeans
from sklearn.decomposition import NMF

DENSITY_THRESHOLD, NEIGHBOURHOOD = 0.5, 0.3  # the defaults of the authors' package


@dataclass(frozen=True)
class Components:
    """Gene scores (n_genes, k), by which top genes are read, and usages (n_cells, k)."""

    gene_scores: np.ndarray
    usages: np.ndarray


def consensus_nmf(counts: np.ndarray, k: int, *, n_iterations: int, seed: int) -> Components:
    """Run NMF many times, drop outlying components, cluster the others, and refit.

    Kotliar et al. (2019), Identifying gene expression programs of cell-type identity and cellular activity with
    single-cell RNA-Seq, eLife: genes at unit variance and not centred; random starts; components at length 1; those
    whose mean distance to their nearest 30 % of a run's number exceeds 0.5 dropped; k-means, median of each cluster,
    usages by non-negative least squares; gene scores as regression of standardised TPM on standardised usages.
    """
    scaled = _unit_variance(counts)
    spectra = np.concatenate(
        [
            NMF(k, init="random", random_state=1000 * seed + i, max_iter=200, tol=1e-3).fit(scaled).components_
            for i in range(n_iterations)
        ]
    )
    spectra /= np.maximum(np.linalg.norm(spectra, axis=1, keepdims=True), 1e-12)
    distance = np.sqrt(np.maximum(2 - 2 * spectra @ spectra.T, 0.0))
    n_neighbours = max(1, int(NEIGHBOURHOOD * n_iterations))
    density = np.sort(distance, axis=1)[:, 1 : n_neighbours + 1].mean(axis=1)
    spectra = spectra[density < DENSITY_THRESHOLD]
    if len(spectra) < k:
        return Components(np.zeros((counts.shape[1], 0)), np.zeros((counts.shape[0], 0)))
    labels = KMeans(k, n_init=10, random_state=1).fit_predict(spectra)
    medians = np.stack([np.median(spectra[labels == cluster], axis=0) for cluster in range(k)])
    medians /= np.maximum(medians.sum(axis=1, keepdims=True), 1e-12)
    usages = np.stack([nnls(medians.T, row)[0] for row in scaled])
    usages /= np.maximum(usages.sum(axis=1, keepdims=True), 1e-12)
    return Components(_gene_scores(counts, usages), usages)


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


def _gene_scores(counts: np.ndarray, usages: np.ndarray) -> np.ndarray:
    tpm = counts / counts.sum(axis=1, keepdims=True) * 1e6
    standard = (tpm - tpm.mean(axis=0)) / np.maximum(tpm.std(axis=0), 1e-12)
    design = (usages - usages.mean(axis=0)) / np.maximum(usages.std(axis=0), 1e-12)
    return np.linalg.lstsq(design, standard, rcond=None)[0].T
