"""Whole numbers that are no counts are asked about; counts of every kind are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from scipy import stats

from scballast.config.schema import DataConfig
from scballast.data import dataset_from_anndata
from scballast.data.dispersion import dispersion
from scballast.data.row_sample import MAX_ROWS, RowSample
from scballast.data.whole_values import doubts

Change = Callable[[np.ndarray], np.ndarray]


def simulated(
    n_cells: int = 100, n_genes: int = 300, depth: float = 2000, *, shape: float = 2.0, spread: float = 0.4, of: int = 3
) -> np.ndarray:
    """Return counts of ``of`` populations, the cells' depths log-normal, negative binomial about them.

    ``shape=inf`` is Poisson; ``spread=0`` is one depth.
    """
    rng = np.random.default_rng(5)
    profiles = rng.lognormal(0, 1.6, n_genes) * np.where(rng.random((of, n_genes)) < 0.1, rng.lognormal(0, 1), 1)
    profiles /= profiles.sum(axis=1, keepdims=True)
    rates = profiles[rng.integers(of, size=n_cells)] * depth * rng.lognormal(0, spread, (n_cells, 1))
    return rng.poisson(rates if np.isinf(shape) else rng.gamma(shape, rates / shape)).astype(float)


def reads() -> np.ndarray:
    """Return reads without UMIs: each molecule's number of copies differs."""
    rng = np.random.default_rng(6)
    molecules = simulated(depth=3000)
    return rng.poisson(molecules * rng.gamma(1.5, 100, molecules.shape)).astype(float)


def downsampled(depth: int, n_genes: int) -> np.ndarray:
    rng = np.random.default_rng(7)
    return np.array([rng.multinomial(depth, rng.dirichlet(np.full(n_genes, 50.0))) for _ in range(100)]).astype(float)


COUNTS: dict[str, Callable[[], np.ndarray]] = {
    "UMI": simulated,
    "UMI, deep": lambda: simulated(depth=20000),
    "UMI, shallow": lambda: simulated(depth=100),
    "UMI, very shallow": lambda: simulated(depth=15),
    "few cells": lambda: simulated(12),
    "Poisson": lambda: simulated(shape=np.inf),
    "Poisson, all cells alike": lambda: simulated(shape=np.inf, spread=0, of=1),
    "Poisson, all cells alike, few cells": lambda: simulated(20, shape=np.inf, spread=0, of=1),
    "reads": reads,
    "downsampled to one total": lambda: downsampled(2000, 300),
    "five genes": lambda: simulated(n_genes=5, depth=100),
    "five genes, one total": lambda: downsampled(50, 5),
    "two genes, one total": lambda: downsampled(30, 2),
    "one gene in all but name": lambda: np.array([[30.0, 0.0]] * 60 + [[0.0, 30.0]] * 40),
    "panel": lambda: simulated(n_genes=20, depth=20000, shape=20),
    "in situ": lambda: simulated(n_genes=150, depth=200),
    "ambient RNA taken off": lambda: np.rint(simulated() * np.random.default_rng(8).uniform(0.7, 1, (100, 300))),
}  # fmt: skip


def totals(x: np.ndarray) -> np.ndarray:
    return np.maximum(x.sum(axis=1, keepdims=True), 1)


def logged(x: np.ndarray) -> np.ndarray:
    return np.log1p(x / totals(x) * 1e4)


NO_COUNTS: dict[str, tuple[Change, str]] = {
    "per 10,000": (lambda x: x / totals(x) * 1e4, "some small number is missing although the next ones are common"),
    "per median": (lambda x: x / totals(x) * np.median(totals(x)), "were they normalised or multiplied, and rounded?"),
    "per 10,000, half of the genes": (lambda x: (x / totals(x) * 1e4)[:, ::2], "some small number is missing"),
    "twice": (lambda x: 2 * x, "all are multiples of 2: were counts multiplied, or reads of pairs counted twice?"),
    "log1p per 10,000": (logged, "were they logged or scaled, and rounded?"),
    "log2 of CPM": (lambda x: np.log2(x / totals(x) * 1e6 + 1), "were they logged or scaled, and rounded?"),
    "log2 of counts": (lambda x: np.log2(x + 1), "were they logged or scaled, and rounded?"),
    "log1p, cut off": (lambda x: np.floor(logged(x)), "were they logged or scaled, and rounded?"),
    "scaled": (lambda x: logged(x) / np.maximum(logged(x).std(axis=0), 0.05), "were they logged or scaled"),
}


def sampled(x: np.ndarray) -> RowSample:
    sample = RowSample()
    sample.add(sp.csr_matrix(x.astype(np.float32)))
    return sample


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_not_doubted(name: str) -> None:
    assert doubts(sampled(COUNTS[name]())) == []


@pytest.mark.parametrize("file", ["pbmc3k.h5ad", "kang18_subset.h5ad"])
def test_counts_of_real_cells_are_not_doubted_and_their_rounded_logarithms_are(file: str, real_data: Path) -> None:
    x = ad.read_h5ad(real_data / file).X[::20].toarray().astype(float)
    assert doubts(sampled(x)) == []
    for name, (change, said) in NO_COUNTS.items():
        assert said in " ".join(doubts(sampled(np.rint(change(x))))), name


@pytest.mark.parametrize("name", NO_COUNTS)
def test_whole_numbers_that_are_no_counts_are_asked_about(name: str) -> None:
    change, said = NO_COUNTS[name]
    adata = ad.AnnData(X=sp.csr_matrix(np.rint(change(simulated()).astype(np.float32))))
    adata.obs["cell_type"] = ["T", "B"] * 50
    adata.var_names = [f"G{i}x" for i in range(adata.n_vars)]
    config = DataConfig(kind="file", population_key="cell_type", n_top_genes=None, min_cells=5)
    warnings = dataset_from_anndata(adata, config).warnings
    assert any(w.startswith("adata: X: the values are whole, but ") and said in w for w in warnings)


def test_totals_that_are_all_but_the_same_are_asked_about() -> None:
    x = simulated(depth=5000)
    (doubt,) = [d for d in doubts(sampled(np.rint(x / totals(x) * 3000))) if "totals" in d]
    assert "the totals of the cells are all but the same (2," in doubt


def test_dispersion_is_that_of_the_truncated_distribution() -> None:
    rng = np.random.default_rng(0)
    rates = np.array([1.2, 2.0, 5.0])
    x = rng.poisson(rates, (4000, 3)).astype(float)
    # From the distribution's own table: what is expected of values above 0, by gene.
    support = np.arange(1, 60)
    chances = stats.poisson.pmf(support[:, None], rates)
    chances /= chances.sum(axis=0)
    mean = support @ chances
    variance = np.square(support) @ chances - np.square(mean)
    share = x.sum(axis=0) / x.sum()
    n = (x > 0).sum(axis=0) - 1
    spread = np.array([x[:, g][x[:, g] > 0].var(ddof=1) * n[g] for g in range(3)])
    expected = n * variance * (1 - share)
    least = min(spread.sum() / expected.sum(), spread[2] / expected[2])
    assert dispersion(sp.csr_matrix(x)) == pytest.approx(least, rel=0.03)
    assert np.isnan(dispersion(sp.csr_matrix(np.minimum(x, 1))))


def test_a_sample_comes_from_all_over_a_matrix_of_many_blocks() -> None:
    sample = RowSample()
    for block in range(50):
        sample.add(sp.csr_matrix(np.full((200, 1), block + 1.0)))
    assert len(sample.rows) <= MAX_ROWS
    seen = np.unique(np.concatenate(sample.values))
    assert seen.size == 50
    assert np.bincount(np.concatenate(sample.values).astype(int)).max() < 10 * MAX_ROWS / 50
