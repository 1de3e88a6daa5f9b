"""Consensus NMF: what many random starts of a factorisation agree on, as programs and their usage."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from scballast.arrays import FloatArray
from scballast.engine.interface import TrainedEnsemble
from scballast.errors import TrainingError
from scballast.models.decomposition import Cells, fitted_by
from scballast.models.family import FitRequest, ModelFamily
from scballast.threads import one_thread

# The defaults of the authors' package (cnmf 1.7), as are those of the factorisations below.
DENSITY_THRESHOLD, NEIGHBOURHOOD = 0.5, 0.3
TOLERANCE, MOST_ITERATIONS = 1e-4, 1000
_MILLION = 1e6


@dataclass(frozen=True)
class ConsensusNMF:
    """Programs that come back from random start to random start.

    Attributes
    ----------
    loadings
        (n_genes, n_programs) counts per million over the gene's standard deviation, per unit of usage.
    usages
        (n_cells, n_programs) not negative; 0 for a cell without counts.
    gene_scores
        (n_genes, n_programs) by which the authors rank a program's genes: coefficients of the standardised counts per
        million on the usages of the scaled counts; 0 for a gene without counts.
    n_kept
        Components of all runs that passed the density filter.
    """

    loadings: FloatArray
    usages: FloatArray
    gene_scores: FloatArray
    n_kept: int


def consensus_nmf(counts: sparse.csr_matrix, n_programs: int, seeds: Sequence[int]) -> ConsensusNMF:
    """Factorise many times, drop the components without a like, cluster the others, and refit.

    Counts are scaled to unit variance per gene and not centred; each run is NMF under the Frobenius norm from a random
    start. All runs' components at length 1; those whose mean distance to their nearest 30 % of the number of runs is
    0.5 or more are dropped; k-means into ``n_programs`` clusters, whose medians are the programs. Usages are refitted
    to the scaled counts; programs are refitted to the counts per million, with usages as shares; usages once more, to
    the counts per million over their standard deviation.

    Parameters
    ----------
    counts
        (n_cells, n_genes) raw counts; all genes given are used.
    n_programs
        Below the numbers of cells and genes.
    seeds
        One per run, two or more.

    Returns
    -------
    ConsensusNMF
        ``usages @ loadings.T`` approximates counts per million over standard deviations.

    Raises
    ------
    TrainingError
        Fewer components than programs passed the density filter: the runs agree on too little.

    References
    ----------
    Kotliar et al. (2019), Identifying gene expression programs of cell-type identity and cellular activity with
    single-cell RNA-Seq, eLife 8:e43803.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    seen = np.asarray(counts.sum(axis=1)).ravel() > 0
    dense = counts[seen].toarray().astype(np.float64)
    per_million = dense / dense.sum(axis=1, keepdims=True) * _MILLION
    scaled, deviation = _over_deviation(dense), per_million.std(axis=0)
    with warnings.catch_warnings():
        # The iterations are a budget, as in the authors' package.
        warnings.filterwarnings("ignore", category=ConvergenceWarning)
        spectra = np.concatenate(_runs(scaled, n_programs, seeds))
        spectra = spectra[_density(spectra, len(seeds)) < DENSITY_THRESHOLD]
        if len(spectra) < n_programs:
            message = (
                f"cnmf: of the {n_programs * len(seeds)} components of {len(seeds)} runs, {len(spectra)} have others "
                f"like them, fewer than the {n_programs} programs asked for. Lower model.n_latent."
            )
            raise TrainingError(message)
        unit = spectra / np.linalg.norm(spectra, axis=1, keepdims=True)
        labels = KMeans(n_programs, n_init=10, random_state=1).fit_predict(unit)
        medians = np.stack([np.median(unit[labels == cluster], axis=0) for cluster in range(n_programs)])
        medians /= medians.sum(axis=1, keepdims=True)
        usages = _refitted(scaled, medians)
        shares = _ratio(usages, usages.sum(axis=1, keepdims=True))
        order = np.argsort(-shares.sum(axis=0), kind="stable")
        standardised = _ratio(per_million - per_million.mean(axis=0), deviation)
        gene_scores = np.linalg.lstsq(usages[:, order], standardised, rcond=None)[0]
        programs = _refitted(per_million.T, shares[:, order].T).T  # (program, gene)
        loadings = _ratio(programs, deviation)
        usages = np.zeros((len(seen), n_programs))
        usages[seen] = _refitted(_over_deviation(per_million), loadings)
    return ConsensusNMF(loadings.T, usages, gene_scores.T, len(spectra))


def _runs(scaled: FloatArray, n_programs: int, seeds: Sequence[int]) -> list[FloatArray]:
    """Return the components (n_programs, n_genes) of a run from each seed; zero ones are left out."""
    import torch

    def components(seed: int) -> FloatArray:
        _, loadings = _factorised(scaled, n_programs, random_state=seed)
        return loadings[loadings.any(axis=1)]

    n_threads = torch.get_num_threads()  # what this process is given, also where workers share the machine
    with one_thread(), ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(components, seeds))


def _density(spectra: FloatArray, n_runs: int) -> FloatArray:
    """Return each component's mean distance to its nearest others, all at length 1."""
    from sklearn.metrics.pairwise import euclidean_distances

    distance = euclidean_distances(spectra / np.linalg.norm(spectra, axis=1, keepdims=True))
    n_neighbours = min(max(1, int(NEIGHBOURHOOD * n_runs)), len(spectra) - 1)
    nearest = np.partition(distance, n_neighbours, axis=1)[:, : n_neighbours + 1]  # itself, at 0, and the others
    return np.asarray(nearest.sum(axis=1) / n_neighbours)


def _refitted(values: FloatArray, spectra: FloatArray) -> FloatArray:
    """Return the non-negative usages (n_rows, n_programs) of fixed components."""
    return _factorised(values, len(spectra), H=np.ascontiguousarray(spectra), update_H=False)[0]


def _factorised(values: FloatArray, n_programs: int, **given: Any) -> tuple[FloatArray, FloatArray]:
    from sklearn.decomposition import non_negative_factorization

    usages, spectra, _ = non_negative_factorization(
        values, n_components=n_programs, init="random", solver="cd", tol=TOLERANCE, max_iter=MOST_ITERATIONS, **given
    )
    return usages, spectra


def _over_deviation(values: FloatArray) -> FloatArray:
    return _ratio(values, values.std(axis=0, ddof=1))


def _ratio(values: FloatArray, divisor: FloatArray) -> FloatArray:
    return np.asarray(np.divide(values, divisor, out=np.zeros_like(values), where=divisor > 0))


def _fit(request: FitRequest) -> TrainedEnsemble:
    def decompose(cells: Cells) -> tuple[FloatArray, FloatArray]:
        # Not conditional: the data's batches have no part in the published algorithm.
        seeds = np.random.SeedSequence(cells.seed).generate_state(request.config.model.n_runs) >> 1
        factorization = consensus_nmf(cells.values, cells.n_factors, [int(number) for number in seeds])
        return factorization.loadings, factorization.usages

    return fitted_by(decompose, of_counts=True)(request)


def _methods_text(config: Mapping[str, Any]) -> str:
    model = config["model"]
    return (
        f"consensus non-negative matrix factorisation (Kotliar et al. 2019) with {model['n_latent']} programs: "
        f"{model['n_runs']} factorisations (scikit-learn) of the counts at unit variance from random starts, "
        f"components with a mean distance below {DENSITY_THRESHOLD} to their nearest {NEIGHBOURHOOD:.0%} of the runs "
        "clustered by k-means, programs and usages refitted to counts per million of the analysed genes."
    )


CNMF = ModelFamily("cnmf", fit=_fit, methods_text=_methods_text)
