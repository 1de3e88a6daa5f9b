"""The column of conditions: what is read, which is the reference, and what the design of the data allows."""

from __future__ import annotations

from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scballast.config.schema import DataConfig
from scballast.data.dataset import Dataset
from scballast.data.load import dataset_from_anndata
from scballast.errors import ConfigError, DataError


def loaded(column: Any, *, key: str | None = "treatment", **settings: Any) -> Dataset:
    """Load 60 cells of two populations, three donors and two batches with this column."""
    rng = np.random.default_rng(0)
    obs = {"cell_type": ["B", "T"] * 30, "donor": np.repeat(["d1", "d2", "d3"], 20), "treatment": column}
    obs["lane"] = np.where(np.asarray(column, dtype=object) == "stim", "l1", "l2")
    adata = anndata.AnnData(
        sparse.csr_matrix(rng.poisson(2.0, (60, 30)), dtype=np.float32),
        obs=pd.DataFrame(obs, index=[f"cell{i}" for i in range(60)]),
        var=pd.DataFrame(index=[f"gene{i}" for i in range(30)]),
    )
    config = DataConfig(
        kind="file", population_key="cell_type", condition_key=key, min_cells=5, n_top_genes=None, **settings
    )
    return dataset_from_anndata(adata, config)


TWO = np.tile(["stim", "ctrl"], 30)


def test_the_reference_comes_first() -> None:
    found = loaded(TWO, sample_key="donor")
    assert found.conditions == ("ctrl", "stim")
    assert found.condition_codes is not None
    np.testing.assert_array_equal(found.condition_codes, (TWO == "stim").astype(int))
    assert any("response genes compare 'stim' with 'ctrl', the reference" in note for note in found.warnings)
    assert loaded(TWO, condition_reference="stim").conditions == ("stim", "ctrl")
    # "aged" would come first by name; "WT" is named like a control. Without such a name, the order of names decides.
    assert loaded(np.where(TWO == "stim", "aged", "WT")).conditions == ("WT", "aged")
    assert loaded(np.where(TWO == "stim", "young", "aged")).conditions == ("aged", "young")


def test_without_the_key_there_are_no_conditions() -> None:
    found = loaded(TWO, key=None)
    assert found.condition_codes is None
    assert found.conditions == ()
    assert not any("response" in note for note in found.warnings)


def test_cells_without_a_value_take_no_part() -> None:
    column = TWO.astype(object).copy()
    column[[0, 5]] = None
    found = loaded(column, sample_key="donor")
    assert found.condition_codes is not None
    assert found.condition_codes[[0, 5]].tolist() == [-1, -1]
    assert found.condition_codes.size == 60
    assert any("2 cells have no value in obs['treatment'] and take no part" in note for note in found.warnings)


def test_cells_that_are_left_out_keep_the_others_in_step() -> None:
    found = loaded(TWO)
    adata = found.adata
    adata.X = sparse.csr_matrix(sparse.diags((np.arange(60) != 3) * 1.0) @ adata.X, dtype=np.float32)
    again = dataset_from_anndata(
        adata,
        DataConfig(kind="file", population_key="cell_type", condition_key="treatment", min_cells=5, n_top_genes=None),
    )
    assert again.condition_codes is not None
    np.testing.assert_array_equal(again.condition_codes, np.delete(found.condition_codes, 3))


@pytest.mark.parametrize(
    ("column", "settings", "error", "words"),
    [
        (np.tile(["a", "b", "c"], 20), {}, DataError, "holds 3 conditions ('a', 'b', 'c')"),
        (np.full(60, "a"), {}, DataError, "holds 1 conditions"),
        (TWO, {"condition_reference": "mock"}, ConfigError, "'mock' is not one of the conditions: 'ctrl', 'stim'"),
        (TWO, {"key": "donor", "sample_key": "donor"}, ConfigError, "data.condition_key and data.sample_key are both"),
        (TWO, {"key": "trtment"}, DataError, "Nearest: 'treatment'"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    column: Any, settings: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words.replace("(", r"\(").replace(")", r"\)")):
        loaded(column, **settings)


def test_what_cannot_be_told_apart_is_noted() -> None:
    def notes(*words: str, column: Any = TWO, **settings: Any) -> list[bool]:
        found = loaded(column, **settings).warnings
        return [any(word in note for note in found) for word in words]

    by_donor = np.repeat(["stim", "ctrl", "stim"], 20)
    words = (
        "data.sample_key is not set",
        "every donor of obs['donor'] has one condition",
        "every batch of obs['lane']",
    )
    assert notes(*words) == [True, False, False]
    assert notes(*words, sample_key="donor") == [False, False, False]
    assert notes(*words, column=by_donor, sample_key="donor") == [False, True, False]
    assert notes(*words, sample_key="donor", batch_key="lane") == [False, False, True]


def test_conditions_that_only_look_different_are_told_and_counted_with_the_reason() -> None:
    found = loaded(np.tile(["stim", "ctrl", "ctrl "], 20), sample_key="donor")
    assert found.conditions == ("ctrl", "stim")
    assert any("blanks at the ends" in note and "'treatment'" in note for note in found.warnings)
    with pytest.raises(DataError, match=r"holds 3 conditions .* Noticed before: .* differ only in case"):
        loaded(np.tile(["stim", "ctrl", "Ctrl"], 20), sample_key="donor")
