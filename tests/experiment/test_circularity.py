"""Labels made of noise are named; labels that are there are not."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scballast.config.compose import compose_config
from scballast.data import load_dataset
from scballast.experiment.circularity import circular_warnings, circularity_table, thin_dataset
from scballast.methods.reclustering import cluster_again

pytestmark = pytest.mark.filterwarnings("default")
WORDS = ("data.population_key=label", "resample.kind=thin", "resample.n_replicates=4", "rank.top_k=30", "data=h5ad")


def written(folder: Path, *, groups: bool) -> Path:
    """Counts of 3 groups, or of one; labels from the groups, or from clustering the same counts into 2."""
    rng = np.random.default_rng(0)
    codes = np.repeat([0, 1, 2], [200, 150, 100])
    level = rng.normal(0.0, 0.8, 300)
    rates = np.tile(level, (450, 1))
    if groups:
        for group in range(3):
            rates[codes == group, 30 * group : 30 * group + 30] += 1.2
    depth = rng.lognormal(0.0, 0.3, (450, 1))
    counts = sparse.csr_matrix(rng.poisson(depth * np.exp(rates) * rng.gamma(2.0, 0.5, (450, 300))).astype(np.float32))
    labels = codes if groups else cluster_again(counts, 2, seed=1)
    names = pd.Categorical(np.char.add("c", labels.astype(str)))
    adata = anndata.AnnData(
        counts,
        obs=pd.DataFrame({"label": names}, index=[f"cell{i}" for i in range(450)]),
        var=pd.DataFrame(index=[f"GENE{i}" for i in range(300)]),
    )
    path = folder / "counts.h5ad"
    adata.write_h5ad(path)
    return path


def table_of(path: Path) -> pd.DataFrame:
    config = compose_config([*WORDS, f"data.path={path}"])
    return circularity_table(config, thin_dataset(load_dataset(config.data, seed=0), 0))


def test_one_population_clustered_into_two_is_named(tmp_path: Path) -> None:
    table = table_of(written(tmp_path, groups=False))
    assert table["circular"].all()
    assert (table["lower_again"] < 0.05).all()
    assert (table["recurrence"] < 0.5).all()
    assert "c0, c1" in circular_warnings(table)[0]


def test_groups_that_are_there_are_not_named(tmp_path: Path) -> None:
    table = table_of(written(tmp_path, groups=True))
    assert not table["circular"].any()
    assert (table["recurrence"] > 0.9).all()
    assert (table["confirmed_left"] > 0.9).all()
    assert (table["phi_left"] > 0.8).all()
    assert circular_warnings(table) == ()
