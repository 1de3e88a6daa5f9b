"""Any small AnnData with any settings ends in a valid data set or in a message."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from tests.helpers.fuzzing import examples

from scballast.config.schema import DataConfig
from scballast.data import Dataset, dataset_from_anndata
from scballast.errors import ConfigError, DataError

pytestmark = pytest.mark.filterwarnings("ignore:(Variable|Observation) names are not unique:UserWarning")

ODD_TEXT = st.sampled_from(
    [
        "", "nan", "a/b", "..", "x\ny", "<b>", "A", "a", "细胞", "+", "1", "\udc80", "B cell", " B cell", "B  cell",
        "b cell", "B\u00a0cell", "B\u2010cell", "\u200b", "X", "raw", "none", "null", "true", "ERCC-00002",
    ]
)  # fmt: skip
ODD_VALUES = st.sampled_from([np.nan, np.inf, -np.inf, -1.0, 0.5, 1 + 1e-8, 2.0**24, 2.0**25, 1e300])
DTYPES = st.sampled_from(
    ["float32", "float32", "float64", "float16", "int8", "uint16", "int64", "bool", "object", "str"]
)
STORAGES = st.sampled_from(["dense", "csr", "csc", "csr array", "fortran"])


@st.composite
def columns(draw: st.DrawFn, n_cells: int) -> Any:
    """Return a column of obs of any type."""
    kind = draw(st.sampled_from(["text", "text", "category", "few", "unique", "float", "bool", "constant", "mixed"]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    if kind == "unique":
        return [f"v{i}" for i in range(n_cells)]
    if kind == "float":
        return rng.normal(size=n_cells)
    if kind == "bool":
        return rng.random(n_cells) < 0.5
    if kind == "few":
        return rng.integers(0, draw(st.integers(1, 4)), n_cells)
    if kind == "constant":
        return ["same"] * n_cells
    pool: list[Any] = draw(st.lists(ODD_TEXT, min_size=1, max_size=4, unique=True))
    if kind == "mixed":
        pool = [*pool, None, 1, 2.5]
    values = np.empty(n_cells, dtype=object)
    values[:] = [pool[i] for i in rng.integers(0, len(pool), n_cells)]
    if kind == "category":
        return pd.Categorical(values, categories=[*pool, "unused"])
    return values


ODDITIES = [
    "size", "depth", "value", "dtype", "no X", "names", "labels", "groups", "keys", "layer", "duplicates", "fractions",
    "types", "symbols", "identifiers", "same names", "empty cells",
]  # fmt: skip
TYPES = st.sampled_from(
    [
        "Gene Expression", "gene_expression", "gene", "Antibody Capture", "Peaks", "spike-in", "protein_coding", "",
        None, 3,
    ]
)  # fmt: skip
SYMBOL_COLUMNS = st.sampled_from(["feature_name", "symbol", "x", "gene_ids", "none"])
FORMS = st.sampled_from(["{}", "ENSG{:011d}", "{}_at", "ERCC-{:05d}", "chr1:{0}000-{0}500", "HTO_{}", "CD{} "])
FRACTIONS: list[Callable[[Any], Any]] = [
    lambda x: x * 0.93,
    lambda x: x * np.linspace(0.7, 1, x.size).reshape(x.shape),
    lambda x: np.log1p(x),
    lambda x: np.log2(1 + x / max(1, x.sum())),
    lambda x: x / np.maximum(x.sum(axis=1, keepdims=True), 1),
    lambda x: x - 0.5 * (x > 3),
]


@st.composite
def variables(draw: st.DrawFn, odd: set[str], genes: list[str]) -> pd.DataFrame:
    """Return an annotation of the genes, with types and symbols in columns of all sorts of names."""
    columns: dict[str, Any] = {}
    if "types" in odd:
        pool = draw(st.lists(TYPES, min_size=1, max_size=3))
        key = draw(st.sampled_from(["feature_types", "Feature-Type", "feature_biotype", "modality", "type"]))
        columns[key] = [pool[i % len(pool)] for i in range(len(genes))]
    if "symbols" in odd:
        for key in draw(
            st.lists(st.sampled_from(["feature_name", "symbol", "x", "gene_ids", "none"]), max_size=3, unique=True)
        ):
            pool = draw(st.lists(ODD_TEXT, min_size=1, max_size=4))
            numbered = draw(st.booleans())
            columns[key] = [f"{pool[i % len(pool)]}{i if numbered else ''}" for i in range(len(genes))]
    return pd.DataFrame(columns, index=pd.Index(genes, dtype=object))


@st.composite
def cases(draw: st.DrawFn) -> tuple[ad.AnnData, DataConfig]:
    """Return a small AnnData and settings, with at most three oddities: with more, few would get far."""
    odd = draw(st.sets(st.sampled_from(ODDITIES), max_size=3))
    sizes = st.tuples(st.sampled_from([0, 1, 2, 7, 40]), st.sampled_from([0, 1, 2, 20, 60]))
    n_cells, n_genes = draw(sizes) if "size" in odd else (40, 60)
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    depth = draw(st.sampled_from([0.0, 0.02, 0.1])) if "depth" in odd else 3.0
    dense = rng.poisson(depth, (n_cells, n_genes)).astype(np.float64)
    if "empty cells" in odd:
        dense[:: draw(st.integers(1, 4))] = 0
    if "fractions" in odd:
        dense = draw(st.sampled_from(FRACTIONS))(dense)
    if dense.size and "value" in odd:
        dense[rng.integers(n_cells), rng.integers(n_genes)] = draw(ODD_VALUES)
    with np.errstate(all="ignore"):
        matrix: Any = dense.astype(draw(DTYPES) if "dtype" in odd else "float32")
    storage = draw(STORAGES)
    if matrix.dtype.kind not in "OU" and matrix.dtype != np.float16:
        convert = {"csr": sp.csr_matrix, "csc": sp.csc_matrix, "csr array": sp.csr_array, "fortran": np.asfortranarray}
        matrix = convert.get(storage, np.asarray)(matrix)
    names = [f"cell{i}" for i in range(n_cells)]
    genes = [f"gene{i}" for i in range(n_genes)]
    if "names" in odd:
        names[:3] = [draw(ODD_TEXT) for _ in names[:3]]
        genes[:3] = [draw(ODD_TEXT) for _ in genes[:3]]
    if "identifiers" in odd:
        form = draw(
            st.sampled_from(["{}", "ENSG{:011d}", "{}_at", "ERCC-{:05d}", "chr1:{0}000-{0}500", "HTO_{}", "CD{} "])
        )
        genes = [form.format(i) for i in range(n_genes)]
    if "duplicates" in odd:
        names, genes = [name[:5] for name in names], [gene[:5] for gene in genes]
    labels = [["T", "B", "NK"][i % 3] for i in range(n_cells)]
    groups = [["x", "y"][i % 2] for i in range(n_cells)]
    obs = pd.DataFrame(
        {
            "a": draw(columns(n_cells)) if "labels" in odd else labels,
            "b": draw(columns(n_cells)) if "groups" in odd else groups,
        },
        index=pd.Index(names, dtype=object),
    )
    adata = ad.AnnData(obs=obs, var=draw(variables(odd, genes)))
    if "no X" not in odd:
        adata.X = matrix
        if draw(st.booleans()):
            adata.raw = adata.copy()
    for name in draw(st.sets(st.sampled_from(["counts", "X", "raw"]), max_size=3 if "same names" in odd else 0)):
        adata.layers[name] = rng.poisson(2.0, (n_cells, n_genes))
    if "keys" in odd:
        keys = draw(st.tuples(*[st.sampled_from(["a", "b", "c", None])] * 3))
    else:
        keys = ("a", draw(st.sampled_from(["b", None])), draw(st.sampled_from(["b", None])))
    config = DataConfig(
        kind="file",
        name=draw(st.sampled_from([None, "../x", ""])),
        layer=draw(st.sampled_from(["counts", "raw", "X", "layers/X", "raw/X"])) if "layer" in odd else None,
        population_key=keys[0],
        batch_key=keys[1],
        sample_key=keys[2],
        gene_symbols=draw(st.sampled_from([None, "none", "symbol"])) if "symbols" in odd else None,
        unlabelled=draw(st.sampled_from(["keep", "drop"])),
        round=draw(st.booleans()),
        n_top_genes=draw(st.sampled_from([None, 2, 10, 45])),
        min_cells=draw(st.integers(2, 8)),
    )
    return adata, config


def check(dataset: Dataset, config: DataConfig) -> None:
    """Assert what every data set promises."""
    x, obs = dataset.adata.X, dataset.adata.obs
    n_cells, n_genes = x.shape
    assert isinstance(x, sp.csr_matrix)
    assert x.dtype == np.float32
    assert x.has_sorted_indices
    assert x.has_canonical_format
    assert np.array_equal(x.data, np.rint(x.data))
    assert (x.data > 0).all()
    assert (x.getnnz(axis=1) > 0).all()
    assert (x.getnnz(axis=0) > 0).all()
    assert config.n_top_genes is None or n_genes <= config.n_top_genes
    assert dataset.adata.obs_names.is_unique
    assert dataset.adata.var_names.is_unique
    assert dataset.total_counts.shape == (n_cells,)
    assert (dataset.total_counts >= np.asarray(x.astype(np.float64).sum(axis=1)).ravel() - 1e-6).all()
    assert dataset.gene_symbols is None or len(dataset.gene_symbols) == n_genes
    assert dataset.feature_types is None or len(dataset.feature_types) == n_genes
    assert config.unlabelled == "keep" or (dataset.label_codes >= 0).all()
    assert all(name == name.strip() for name in (*dataset.labels, *dataset.adata.obs_names))
    assert dataset.populations
    for code, population in enumerate(dataset.populations):
        mine = dataset.population_codes == code
        assert mine.sum() == population.n_cells >= config.min_cells
        assert (~mine).sum() >= config.min_cells
        assert {dataset.labels[label] for label in dataset.label_codes[mine]} == {population.name}
        assert set(obs[dataset.population_key][mine]) == {population.name}
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,60}", population.safe_name)
    names = [population.name for population in dataset.populations]
    assert names == sorted(names)
    assert set(dataset.label_codes.tolist()) <= {-1, *range(len(dataset.labels))}
    assert (dataset.population_codes[dataset.label_codes < 0] == -1).all()
    for key in (dataset.batch_key, dataset.sample_key):
        assert key is None or obs[key].notna().all()
    assert dataset.batch_key is None or obs[dataset.batch_key].nunique() > 1
    assert re.fullmatch(r"[0-9a-f]{64}", dataset.digest)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", dataset.name)
    for warning in dataset.warnings:
        assert "\n" not in warning
        warning.encode()


@settings(max_examples=examples(150), deadline=None, suppress_health_check=list(HealthCheck))
@given(case=cases())
def test_any_data_end_in_a_valid_data_set_or_a_message(case: tuple[ad.AnnData, DataConfig]) -> None:
    adata, config = case
    try:
        dataset = dataset_from_anndata(adata, config)
    except (DataError, ConfigError) as error:
        message = str(error)
    else:
        event("data set")
        check(dataset, config)
        assert dataset_from_anndata(adata, config).digest == dataset.digest
        return
    event("message")
    assert message.startswith("adata: ")
    assert "\n" not in message
    assert re.search(r"(Allowed:|Rename|Set|Point|set|Save|Write|Check|Lower|Use|fill) ", message), message
