"""Whole trainings against scvi-tools' own on real cells: held-out ELBO and stability of a contrast."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from tests.helpers.engine_comparison import Comparison, train_with_scvi
from tests.helpers.engine_examples import QUIET_SCVI

from scballast.engine import Member, fit_ensemble

pytestmark = [pytest.mark.slow, *(pytest.mark.filterwarnings(w) for w in QUIET_SCVI)]


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"gene_likelihood": "zinb", "latent_distribution": "ln", "use_observed_lib_size": True},
        {"decoder": "nonlinear", "gene_likelihood": "nb", "use_observed_lib_size": True},
    ],
    ids=["nb-normal", "zinb-ln-observed", "nonlinear-nb-observed"],
)
def test_trainings_differ_from_those_of_scvi_by_noise_only(real_data: Path, model: dict[str, object]) -> None:
    kang = ad.read_h5ad(real_data / "kang18_subset.h5ad")
    abundant = np.argsort(-np.asarray(kang.X.sum(0)).ravel())[:150]
    adata = kang[:, np.sort(abundant)].copy()
    order = np.random.default_rng(0).permutation(adata.n_obs)
    train_cells, heldout = order[:900], order[900:1300]
    train, seeds = {"max_epochs": 14, "batch_size": 64, "kl_warmup_epochs": 0.5}, range(5)
    ours = fit_ensemble(adata, [Member(train_cells, seed) for seed in seeds], model, train, "donor")
    theirs = [train_with_scvi(adata[train_cells].copy(), model, train, seed, "donor") for seed in seeds]
    comparison = Comparison(ours, theirs, heldout, adata.obs["cell_type"] == "B cells", k=30)
    assert comparison.elbo_z() < 4
    assert comparison.stability_z() < 4
    # The same start on the same cells: the ends of the training curves are near each other, seed by seed.
    for seed in seeds:
        curve = theirs[seed].history["elbo_train"]["elbo_train"].astype(float)
        assert ours.history(seed)["elbo_train"][-1] == pytest.approx(curve.iloc[-1], rel=0.06)
        assert ours.history(seed)["elbo_train"][0] == pytest.approx(curve.iloc[0], rel=0.06)
