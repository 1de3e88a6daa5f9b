"""Values that are not whole: corrected counts are told from normalised and logged ones, and rounded if asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from scballast.config.schema import DataConfig
from scballast.data import dataset_from_anndata
from scballast.data.fractions import kind_of
from scballast.data.raw_counts import ROUNDABLE
from scballast.data.row_sample import RowSample
from scballast.errors import DataError

CONFIG = DataConfig(kind="file", population_key="cell_type", n_top_genes=None, min_cells=5)
RNG = np.random.default_rng(7)
Change = Callable[[np.ndarray], np.ndarray]


def counts(depth: float) -> np.ndarray:
    rng = np.random.default_rng(3)
    rates = rng.gamma(0.6, 2.0, 200) * depth * rng.gamma(8, 1 / 8, (80, 1))
    return rng.poisson(rng.gamma(2, rates / 2)).astype(float)


def totals(x: np.ndarray) -> np.ndarray:
    return np.maximum(x.sum(axis=1, keepdims=True), 1)


def shared_reads(x: np.ndarray) -> np.ndarray:
    """Most counts whole, some with a half or a third (alevin, STARsolo's EM)."""
    chosen = RNG.random(x.shape) < 0.15
    return np.where(chosen & (x > 0), x - RNG.choice([0.5, 1 / 3, 2 / 3], x.shape), x)


def expected_counts(x: np.ndarray) -> np.ndarray:
    """RSEM: whole for genes with one transcript, any fraction for others."""
    return np.where(RNG.random(200) < 0.4, x + (x > 0) * RNG.uniform(-0.49, 0.49, x.shape), x)


CORRECTED: dict[str, Change] = {
    "SoupX": lambda x: x * RNG.uniform(0.9, 1, x.shape),
    "SoupX, much soup": lambda x: x * RNG.uniform(0.75, 1, x.shape),
    "a fixed profile taken off": lambda x: np.maximum(x - 0.05 * totals(x) * x.mean(axis=0) / x.mean(axis=0).sum(), 0),
    "alevin": shared_reads,
    "RSEM": expected_counts,
    "CellBender, a tail on every zero": lambda x: np.where(x == 0, 1e-4 * RNG.random(x.shape), x),
    "CellBender, posterior means": lambda x: np.where(
        x > 0, x - RNG.beta(1, 20, x.shape), RNG.gamma(0.1, 0.02, x.shape)
    ),
    "noise": lambda x: np.abs(x + (x > 0) * 1e-4 * RNG.standard_normal(x.shape)),
    "one value": lambda x: np.where(np.arange(x.size).reshape(x.shape) == np.argmax(x), 2.5, x),
}
LENGTHS = RNG.uniform(0.5, 8, 200)
NORMALISED: dict[str, tuple[str, Change]] = {
    "per 10,000": ("normalised", lambda x: x / totals(x) * 1e4),
    "CPM": ("normalised", lambda x: x / totals(x) * 1e6),
    "size factors": ("normalised", lambda x: x / RNG.uniform(0.3, 3, (x.shape[0], 1))),
    "log1p per 10,000": ("log-normalised", lambda x: np.log1p(x / totals(x) * 1e4)),
    "log1p of counts": ("log-normalised", np.log1p),
    "log2": ("log-normalised (base 2)", lambda x: np.log2(x / totals(x) * 1e4 + 1)),
    "log10": ("log-normalised (base 10)", lambda x: np.log10(x / totals(x) * 1e4 + 1)),
    "TPM": ("normalised", lambda x: x / LENGTHS / totals(x / LENGTHS) * 1e6),
    "RPKM": ("normalised", lambda x: x / LENGTHS / totals(x) * 1e9),
    "log1p of TPM": ("log-normalised", lambda x: np.log1p(x / LENGTHS / totals(x / LENGTHS) * 1e6)),
    "log2 of counts": ("log-normalised (base 2)", lambda x: np.log2(x + 1)),
    "root of counts": ("square-root transformed", np.sqrt),
    "root per 10,000": ("square-root transformed", lambda x: np.sqrt(x / totals(x) * 1e4)),
    "arcsinh of counts": ("arcsinh-transformed", np.arcsinh),
    "counts of each gene over their deviation": ("scaled", lambda x: x / np.maximum(x.std(axis=0), 1e-3)),
    "half of the genes": ("log-normalised", lambda x: np.log1p(x / totals(x) * 1e4)[:, ::2]),
}


def as_adata(x: np.ndarray, *, sparse: bool) -> ad.AnnData:
    adata = ad.AnnData(X=sp.csr_matrix(x.astype(np.float32)) if sparse else x.astype(np.float32))
    adata.var_names = [f"G{i}x" for i in range(x.shape[1])]
    adata.obs["cell_type"] = ["T", "B"] * (x.shape[0] // 2)
    return adata


@pytest.mark.parametrize("depth", [0.3, 1.0, 10.0])
@pytest.mark.parametrize("name", CORRECTED)
def test_corrected_counts_are_recognised_and_rounded_if_asked(name: str, depth: float) -> None:
    values = CORRECTED[name](counts(depth))
    for sparse in (True, False):
        adata = as_adata(values, sparse=sparse)
        with pytest.raises(DataError) as caught:
            dataset_from_anndata(adata, CONFIG)
        assert "(counts after a correction, as SoupX, CellBender, RSEM or alevin give them?)" in str(caught.value)
        assert "Set data.round=true to round them." in str(caught.value)
        assert "normalised" not in str(caught.value)
    dataset = dataset_from_anndata(adata, replace(CONFIG, round=True))
    whole = np.rint(values.astype(np.float32))
    kept = np.ix_(whole.sum(axis=1) > 0, whole.sum(axis=0) > 0)
    assert np.array_equal(dataset.adata.X.toarray(), whole[kept])
    stored = values.astype(np.float32).astype(float)
    fractional = np.abs(stored - whole) > np.maximum(1e-6, 8 * np.finfo(np.float32).eps * stored)
    n_vanishing = int((fractional & (values > 0) & (whole == 0)).sum())
    assert any(
        f"X: {fractional.sum():,} of " in w and f"rounded (data.round=true), {n_vanishing:,} of them to 0." in w
        for w in dataset.warnings
    )


@pytest.mark.parametrize("depth", [0.3, 1.0, 10.0])
@pytest.mark.parametrize("name", NORMALISED)
def test_normalised_values_are_recognised_and_never_rounded(name: str, depth: float) -> None:
    kind, change = NORMALISED[name]
    adata = as_adata(change(counts(depth)), sparse=True)
    for config in (CONFIG, replace(CONFIG, round=True)):
        with pytest.raises(DataError) as caught:
            dataset_from_anndata(adata, config)
        assert f"({kind} values?)" in str(caught.value)
        assert ("of which data.round=true makes no counts" in str(caught.value)) == config.round
        assert "Point data.layer at a matrix that holds raw counts" in str(caught.value)


LOGGED: dict[str, Change] = {
    "log1p per 10,000": NORMALISED["log1p per 10,000"][1],
    "log1p of counts": np.log1p,
    "log2": NORMALISED["log2"][1],
    "log10": NORMALISED["log10"][1],
    "log2 of TPM": lambda x: np.log2(x / LENGTHS / totals(x / LENGTHS) * 1e6 + 1),
    "arcsinh": np.arcsinh,
    "square root of counts": np.sqrt,
    "scaled": lambda x: scaled(np.log1p(x / totals(x) * 1e4)),
    "per 10,000": NORMALISED["per 10,000"][1],
}


def scaled(x: np.ndarray) -> np.ndarray:
    """Scale without centring, as some do to keep zeros."""
    return x / np.maximum(x.std(axis=0), 0.05)


def sampled(x: np.ndarray) -> RowSample:
    sample = RowSample()
    sample.add(sp.csr_matrix(x.astype(np.float32)))
    return sample


@pytest.mark.parametrize("depth", [1.0, 10.0])
@pytest.mark.parametrize("name", LOGGED)
def test_logged_and_scaled_values_are_never_rounded_however_few_their_decimals(name: str, depth: float) -> None:
    x = LOGGED[name](counts(depth))
    for decimals in (1, 2, 3):
        assert kind_of(sampled(np.round(x, decimals))) not in ROUNDABLE
    assert kind_of(sampled(x)) not in ROUNDABLE


def test_logged_values_with_few_decimals_are_refused_by_what_they_are() -> None:
    x = counts(1.0)
    adata = as_adata(np.round(np.log1p(x / totals(x) * 1e4), 1), sparse=True)
    with pytest.raises(DataError, match=r"\(log-normalised values\?\), of which data\.round=true makes no counts"):
        dataset_from_anndata(adata, replace(CONFIG, round=True))


@pytest.mark.parametrize("decimals", [1, 2, 3])
def test_a_part_of_the_genes_of_normalised_values_with_few_decimals_is_recognised(decimals: int) -> None:
    x = counts(1.0)
    x = np.round(x / totals(x) * np.median(totals(x)), decimals)[:, ::2]
    assert kind_of(sampled(x)) == "normalised"


def test_one_study_with_counts_and_one_with_logarithms_are_not_rounded() -> None:
    x = counts(1.0)
    x[40:] = np.log1p(x[40:] / totals(x[40:]) * 1e4)
    with pytest.raises(DataError, match=r"log-normalised values\?"):
        dataset_from_anndata(as_adata(x, sparse=True), replace(CONFIG, round=True))


def test_counts_that_came_back_from_logarithms_are_counts() -> None:
    x = counts(10.0)
    back = np.expm1(np.log1p(x.astype(np.float32)))
    assert np.abs(back - x).max() > 1e-5
    dataset = dataset_from_anndata(as_adata(back, sparse=True), CONFIG)
    assert np.array_equal(dataset.adata.X.toarray(), x[np.ix_(x.sum(axis=1) > 0, x.sum(axis=0) > 0)])
    assert "differed from an integer by no more than the precision of their storage" in dataset.warnings[0]


def test_values_of_no_known_kind_are_called_neither() -> None:
    x = RNG.gamma(2.0, 0.1, (80, 200))
    with pytest.raises(DataError) as caught:
        dataset_from_anndata(as_adata(x, sparse=False), CONFIG)
    assert "are not integers, first" in str(caught.value)
    assert "If they are counts after a correction, data.round=true rounds them." in str(caught.value)


def test_rounding_does_not_hide_other_problems() -> None:
    x = CORRECTED["SoupX"](counts(1.0))
    x[5, 5] = -1.5
    with pytest.raises(DataError, match=r"is negative"):
        dataset_from_anndata(as_adata(x, sparse=True), replace(CONFIG, round=True))


def test_where_the_counts_stand_elsewhere_both_ways_are_named() -> None:
    x = counts(1.0)
    adata = as_adata(CORRECTED["SoupX"](x), sparse=True)
    adata.layers["umi"] = x
    with pytest.raises(DataError, match=r"Set data\.round=true to round them\. Counts are in layer 'umi'"):
        dataset_from_anndata(adata, CONFIG)
