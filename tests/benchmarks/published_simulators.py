"""Simulators of other papers, written from their text: groups as in Splatter, and cNMF's identities and activity.

Both differ from their papers in size alone: cells, genes and depth are the benchmark's, and of three times as many
genes those with the highest rates are kept, as an analysis would keep them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

GENES_DRAWN = 3  # times as many as are kept
CHANGED = 0.05  # of a natural log: a gene that changes by less has not changed


@dataclass(frozen=True)
class Splat:
    """The settings of a simulation by Splatter's model.

    Attributes
    ----------
    mean_shape, mean_rate
        Of the gamma distribution of gene means.
    outlier_share, outlier_log_mean, outlier_log_sd
        Genes whose mean is the median times a lognormal factor.
    library_log_sd
        Of the lognormal library sizes.
    changed_share, down_share, factor_log_mean, factor_log_sd
        Genes that differ in a group, those of them that go down, and their lognormal factors.
    dispersion, freedom
        Common biological coefficient of variation, and degrees of freedom of its spread over genes.
    fold
        From this factor on a gene counts as planted; smaller changes are not judged.
    """

    mean_shape: float
    mean_rate: float
    outlier_share: float
    outlier_log_mean: float
    outlier_log_sd: float
    library_log_sd: float
    changed_share: float
    down_share: float
    factor_log_mean: float
    factor_log_sd: float
    dispersion: float
    freedom: float
    fold: float


# The defaults of Zappia, Phipson & Oshlack (2017), Genome Biology 18; a tenth of the genes in each group.
SPLATTER = Splat(0.6, 0.3, 0.05, 4.0, 0.5, 0.2, 0.1, 0.5, 0.1, 0.4, 0.1, 60.0, fold=1.5)
# Kotliar et al. (2019), eLife 8: fitted to organoid cells; genes go up alone.
COMPLEX = Splat(0.34, 7.68, 0.00286, 6.15, 0.49, 0.78, 0.025, 0.0, 1.0, 1.0, 0.448, 22.087, fold=2.0)
ACTIVITY_GENES, ACTIVE_CELLS, LEAST_USAGE, MOST_USAGE, DOUBLETS = 0.04, 0.35, 0.1, 0.7, 0.05


@dataclass(frozen=True)
class Simulated:
    """Counts and what was planted.

    Attributes
    ----------
    adata
        Counts; ``obs["population"]``.
    planted, judged
        By estimand: (n_populations, n_genes) bool. A gene that is planted or unchanged is judged; one that changes
        too little to be asked for is not.
    """

    adata: AnnData
    planted: dict[str, np.ndarray]
    judged: dict[str, np.ndarray]


def splatter_groups(sizes: Sequence[int], n_genes: int, depth: float, seed: int) -> Simulated:
    """Simulate groups by Splatter's model: markers alone, nothing varies within a group but noise."""
    rng = np.random.default_rng([seed, 1])
    base = _gene_means(SPLATTER, n_genes, rng)
    groups = base * _factors(SPLATTER, (len(sizes), n_genes), SPLATTER.changed_share, rng)
    population = np.repeat(np.arange(len(sizes)), sizes)
    library = _libraries(SPLATTER, population.size, depth, rng)
    counts = _counts(SPLATTER, groups[population], library, base, rng)
    return _simulated(counts, population, {"marker": _markers(groups, population, SPLATTER.fold)})


def cnmf_programs(sizes: Sequence[int], without: Sequence[int], n_genes: int, depth: float, seed: int) -> Simulated:
    """Simulate identities and one activity program that populations share, by cNMF's simulator.

    A third of the cells of each population that has the program spend 10 to 70 % of their counts on it, and as much
    less on their identity. Planted as genes of the program within a population: those that its cells would have twice
    as often, or half as often, in the program alone as in their identity alone.

    Parameters
    ----------
    sizes
        Cells in each population.
    without
        Numbers (from 1) of the populations that do not have the program.
    n_genes, depth, seed
        Genes kept, mean counts per cell, and the seed.
    """
    rng = np.random.default_rng([seed, 2])
    base = _gene_means(COMPLEX, n_genes, rng)
    groups = base * _factors(COMPLEX, (len(sizes), n_genes), COMPLEX.changed_share, rng)
    activity = base * _factors(COMPLEX, (1, n_genes), ACTIVITY_GENES, rng)[0]
    population = np.repeat(np.arange(len(sizes)), sizes)
    has_program = ~np.isin(np.arange(len(sizes)) + 1, without)
    active = (rng.random(population.size) < ACTIVE_CELLS) & has_program[population]
    usage = np.where(active, rng.uniform(LEAST_USAGE, MOST_USAGE, population.size), 0.0)[:, None]
    identity = groups[population]
    profile = (1 - usage) * identity / identity.sum(axis=1, keepdims=True) + usage * activity / activity.sum()
    library = _libraries(COMPLEX, population.size, depth, rng)
    # A doublet is half of each of two cells, under the larger of their libraries.
    doublets = np.flatnonzero(rng.random(population.size) < DOUBLETS)
    others = rng.integers(population.size, size=doublets.size)
    mixed = (profile[doublets] + profile[others]) / 2
    profile[doublets], library[doublets] = mixed, np.maximum(library[doublets], library[others])
    counts = _counts(COMPLEX, profile, library, base, rng)
    planted, judged = _markers(groups, population, COMPLEX.fold)
    judged &= activity <= base * (1 + CHANGED)  # more of it where more cells are active: no marker, nor none
    change = np.abs(np.log(activity / groups)) * has_program[:, None]
    programs = change >= np.log(COMPLEX.fold)
    told = programs | (change < CHANGED)
    return _simulated(counts, population, {"marker": (planted & judged, judged), "program": (programs, told)})


def _gene_means(splat: Splat, n_genes: int, rng: np.random.Generator) -> np.ndarray:
    means = rng.gamma(splat.mean_shape, 1 / splat.mean_rate, GENES_DRAWN * n_genes)
    outlier = rng.random(means.size) < splat.outlier_share
    factors = rng.lognormal(splat.outlier_log_mean, splat.outlier_log_sd, means.size)
    means = np.where(outlier, np.median(means) * factors, means)
    return rng.permutation(np.sort(means)[-n_genes:])


def _factors(splat: Splat, shape: tuple[int, int], share: float, rng: np.random.Generator) -> np.ndarray:
    """Return the factor of each gene in each group: 1, or lognormal, turned to the side that its gene goes."""
    changed, down = rng.random(shape) < share, rng.random(shape) < splat.down_share
    size = np.abs(rng.normal(splat.factor_log_mean, splat.factor_log_sd, shape))
    return np.exp(np.where(changed, np.where(down, -size, size), 0.0))


def _libraries(splat: Splat, n_cells: int, depth: float, rng: np.random.Generator) -> np.ndarray:
    return depth * rng.lognormal(-(splat.library_log_sd**2) / 2, splat.library_log_sd, n_cells)


def _counts(
    splat: Splat, profile: np.ndarray, library: np.ndarray, base: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return Poisson counts around gamma means whose coefficient of variation falls with the mean."""
    means = library[:, None] * profile / profile.sum(axis=1, keepdims=True)
    spread = np.sqrt(splat.freedom / rng.chisquare(splat.freedom, base.size))
    variation = (splat.dispersion + 1 / np.sqrt(np.maximum(means, 1e-12))) * spread
    return rng.poisson(rng.gamma(1 / variation**2, means * variation**2))


def _markers(groups: np.ndarray, population: np.ndarray, fold: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the planted and the judged genes of each group: up against the mean log rate of all other cells."""
    log_rate = np.log(groups)
    n_cells = np.bincount(population)[:, None]
    others = ((n_cells * log_rate).sum(axis=0) - n_cells * log_rate) / (n_cells.sum() - n_cells)
    effect = log_rate - others
    planted = effect >= np.log(fold)
    return planted, planted | (effect < CHANGED)


def _simulated(
    counts: np.ndarray, population: np.ndarray, truth: dict[str, tuple[np.ndarray, np.ndarray]]
) -> Simulated:
    n_cells, n_genes = counts.shape
    names = [f"population_{code + 1}" for code in population]
    adata = AnnData(
        X=sparse.csr_matrix(counts, dtype=np.float32),
        obs=pd.DataFrame({"population": pd.Categorical(names)}, index=[f"cell_{cell}" for cell in range(n_cells)]),
        var=pd.DataFrame(index=[f"gene_{gene}" for gene in range(n_genes)]),
    )
    return Simulated(adata, *({kind: pair[part] for kind, pair in truth.items()} for part in (0, 1)))
