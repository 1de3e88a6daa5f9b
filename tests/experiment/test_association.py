"""What an experiment's latent dimensions go with, where the cells come from donors."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scballast

pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("spared_work")]


def donors_file(path: Path, n_donors: int) -> Path:
    """Write cells of two populations from donors that differ; half of the donors are treated, which does nothing."""
    rng = np.random.default_rng(5)
    n_cells = 40 * n_donors
    donor = np.repeat(np.arange(n_donors), 40)
    population = rng.integers(0, 2, n_cells)
    log_rates = rng.normal(0, 1, 80) + rng.normal(0, 0.7, (n_donors, 80))[donor]
    log_rates[:, :10] += 1.5 * population[:, None]
    names = np.array([f"d{number}" for number in range(n_donors)])
    obs = {"cell_type": np.array(["B", "T"])[population], "donor": names[donor]}
    obs["treatment"] = np.array(["control", "treated"])[donor % 2]
    adata = anndata.AnnData(
        sparse.csr_matrix(rng.poisson(np.exp(log_rates)), dtype=np.float32),
        obs=pd.DataFrame(obs, index=[f"cell{i}" for i in range(n_cells)]),
        var=pd.DataFrame(index=[f"gene{i}" for i in range(80)]),
    )
    adata.write_h5ad(path)
    return path


def associations(path: Path, runs: Path, *words: str) -> pd.DataFrame:
    result = scballast.run(
        [
            "data=h5ad", f"data.path={path}", "data.population_key=cell_type", "association.keys=[treatment]",
            "model=pca", "model.n_latent=4", "resample.n_replicates=2", "rank.top_k=10", "methods=[contrast]",
            "programs.find=false", "association.n_permutations=199", f"runs_dir={runs}", *words,
        ]
    )  # fmt: skip
    return result.tables["association"]


def test_donors_are_permuted_where_the_data_have_them(tmp_path: Path) -> None:
    path = donors_file(tmp_path / "counts.h5ad", 10)
    table = associations(path, tmp_path / "runs", "data.sample_key=donor")
    by_key = table.groupby("key")["permuted"].unique().map(list).to_dict()
    assert by_key == {"cell_type": ["cells within donors"], "treatment": ["donors"]}
    # Ten donors in two halves: p-values are multiples of 2 in 252.
    steps = table.loc[table["key"] == "treatment", "p_value"] * 126
    np.testing.assert_allclose(steps, steps.round(), atol=1e-9)
    assert (table.loc[table["key"] == "treatment", "q_value"] > 0.05).all()
    assert table.loc[table["key"] == "cell_type", "q_value"].min() < 0.05
    # Without donors the differences between them pass for effects of the treatment.
    cells = associations(path, tmp_path / "runs", "data.sample_key=null")
    assert set(cells["permuted"]) == {"cells"}
    assert (cells.loc[cells["key"] == "treatment", "q_value"] < 0.05).any()


def test_too_few_donors_are_said(tmp_path: Path) -> None:
    path = donors_file(tmp_path / "counts.h5ad", 6)
    table = associations(path, tmp_path / "runs", "data.sample_key=donor")
    own = table[table["key"] == "treatment"]
    assert own["p_value"].isna().all()
    assert own["q_value"].isna().all()
    assert own["reason"].str.startswith("3 of 6 donors: ").all()
    assert table.loc[table["key"] == "cell_type", "p_value"].notna().all()
