"""Which matrix is read: a name with a fixed meaning may also be a layer's."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from tests.helpers.data_examples import file_config, small_adata

from scballast.config.compose import compose_config
from scballast.config.schema import DataConfig
from scballast.data import dataset_from_anndata, load_dataset
from scballast.errors import DataError

MEMORY = DataConfig(kind="file", population_key="cell_type", n_top_genes=None, min_cells=5)


def thinned(adata: ad.AnnData) -> np.ndarray:
    """Return other counts of the same cells: about half of each."""
    return np.random.default_rng(1).binomial(adata.X.toarray().astype(int), 0.5).astype(float)


def with_layers(*names: str, raw: bool = False) -> ad.AnnData:
    """Return the small data with other counts in these layers, and thrice the counts in ``.raw``."""
    adata = small_adata()
    if raw:
        adata.raw = adata.copy()
        adata.raw.X[:] = adata.raw.X * 3
    for name in names:
        adata.layers[name] = thinned(adata)
    return adata


def counts_read(adata: ad.AnnData, layer: str | None) -> tuple[str, tuple[str, ...]]:
    dataset = dataset_from_anndata(adata, replace(MEMORY, layer=layer))
    total, x = dataset.total_counts.sum(), adata.X.sum()
    names = {x: "X", x * 3: ".raw", thinned(adata).sum(): "layer"}
    return names[total], dataset.warnings


@pytest.mark.parametrize(
    ("layers", "raw", "layer", "read"),
    [
        (("X",), False, None, "X"),
        (("X", "raw"), True, None, "X"),
        (("X",), False, "layers/X", "layer"),
        (("raw",), False, "raw", "layer"),
        (("raw",), True, "raw/X", ".raw"),
        (("raw",), True, "layers/raw", "layer"),
        (("counts",), True, "raw", ".raw"),
        (("null",), False, "layers/null", "layer"),
        (("counts",), False, "X", "X"),
    ],
)
def test_each_matrix_has_a_setting_that_means_it_alone(
    layers: tuple[str, ...], raw: bool, layer: str | None, read: str
) -> None:
    assert counts_read(with_layers(*layers, raw=raw), layer)[0] == read


@pytest.mark.parametrize(
    ("layers", "raw", "layer", "meanings"),
    [
        (("X",), False, "X", "X (data.layer=null) or layer 'X' (data.layer=layers/X)"),
        (("raw",), True, "raw", ".raw (data.layer=raw/X) or layer 'raw' (data.layer=layers/raw)"),
        (("X", "raw"), True, "X", "X (data.layer=null) or layer 'X' (data.layer=layers/X)"),
    ],
)
def test_a_name_that_can_mean_two_matrices_is_refused(
    layers: tuple[str, ...], raw: bool, layer: str, meanings: str
) -> None:
    with pytest.raises(DataError) as caught:
        counts_read(with_layers(*layers, raw=raw), layer)
    assert f"data.layer={layer} can mean {meanings}. Set data.layer to" in str(caught.value)


@pytest.mark.parametrize(("layer", "absent"), [("raw", ".raw"), ("X", "X")])
def test_a_layer_that_is_read_for_want_of_what_its_name_means_is_named(layer: str, absent: str) -> None:
    adata = with_layers(layer)
    if layer == "X":
        adata.X = None
    warnings = dataset_from_anndata(adata, replace(MEMORY, layer=layer)).warnings
    assert warnings == (f"adata: layer {layer!r} is read; there is no {absent}.",)


@pytest.mark.parametrize("write", [ad.AnnData.write_h5ad, ad.AnnData.write_zarr])
@pytest.mark.filterwarnings("ignore:zarr v3 autosharding:UserWarning")
@pytest.mark.filterwarnings("ignore:Writing zarr v2 data will no longer be the default:UserWarning")
def test_a_layer_called_x_in_a_file_does_not_take_the_place_of_x(
    write: Callable[[ad.AnnData, Path], None], tmp_path: Path
) -> None:
    adata = with_layers("X")
    path = tmp_path / ("a.zarr" if write is ad.AnnData.write_zarr else "a.h5ad")
    write(adata, path)
    dataset = load_dataset(file_config(path))
    assert dataset.total_counts.sum() == adata.X.sum()
    assert dataset.warnings == (f"{path.name}: X is read; layer 'X' is another matrix (data.layer=layers/X).",)


def test_the_remedy_names_settings_that_are_not_ambiguous() -> None:
    adata = with_layers("X", "raw", raw=True)
    adata.X = np.log1p(adata.X.toarray())
    with pytest.raises(DataError) as caught:
        dataset_from_anndata(adata, MEMORY)
    assert (
        "Counts are in .raw, layer 'X', layer 'raw': set data.layer=raw/X or data.layer=layers/X or "
        "data.layer=layers/raw." in str(caught.value)
    )


@pytest.mark.parametrize("layer", ["counts ", "a=b c", "true", "1", "it's", "${x}"])
def test_the_remedy_can_be_pasted_whatever_the_name_of_the_layer(layer: str) -> None:
    adata = with_layers(layer)
    adata.X = np.log1p(adata.X.toarray())
    with pytest.raises(DataError) as caught:
        dataset_from_anndata(adata, MEMORY)
    (word,) = shlex.split(str(caught.value).rpartition(": set ")[2].removesuffix("."))
    config = compose_config(["data=h5ad", "data.path=x.h5ad", "data.population_key=cell_type", word]).data
    dataset = dataset_from_anndata(adata, replace(MEMORY, layer=config.layer))
    assert dataset.total_counts.sum() == adata.layers[layer].sum()
