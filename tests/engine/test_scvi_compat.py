"""What is used of scvi-tools beyond its documented interface is still there; see scballast.engine.scvi_compat."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from tests.helpers.engine_examples import QUIET_SCVI, small_adata

from scballast.engine import scvi_compat

MOVED = "scvi-tools has moved: adapt scballast/engine/scvi_compat.py"
pytestmark = [pytest.mark.filterwarnings(w) for w in QUIET_SCVI]
USED = {
    ("scvi.model", "LinearSCVI._make_data_loader"): {"adata", "indices", "batch_size"},
    ("scvi.model", "SCVI._make_data_loader"): {"adata", "indices", "batch_size"},
    ("scvi.model", "LinearSCVI._validate_anndata"): {"adata"},
    ("scvi.model", "SCVI._validate_anndata"): {"adata"},
    ("scvi.module", "VAE._get_inference_input"): {"tensors"},
    ("scvi.module", "LDVAE._get_inference_input"): {"tensors"},
    ("scvi.module", "VAE._compute_local_library_params"): {"batch_index"},
    ("scvi.model.base._differential", "estimate_pseudocounts_offset"): {
        "scales_a", "scales_b", "where_zero_a", "where_zero_b", "quantile",
    },
}  # fmt: skip


@pytest.fixture
def model() -> Any:
    from scvi.model import LinearSCVI

    adata = small_adata()
    LinearSCVI.setup_anndata(adata, batch_key="batch")
    return LinearSCVI(adata, n_hidden=8, n_latent=3)


@pytest.mark.parametrize(("module", "path"), USED)
def test_what_is_called_is_there_and_takes_its_arguments(module: str, path: str) -> None:
    owner: Any = import_module(module)
    for name in path.split("."):
        assert hasattr(owner, name), f"{module}.{path}: {MOVED}"
        owner = getattr(owner, name)
    assert USED[module, path] <= set(inspect.signature(owner).parameters), f"{module}.{path}: {MOVED}"


def test_minibatches_hold_the_asked_for_cells_in_order(model: Any) -> None:
    counts = model.adata.X.toarray()
    positions = np.array([7, 3, 90, 11, 4])
    parts = [part["X"].numpy() for part in scvi_compat.minibatches(model, model.adata, size=2, positions=positions)]
    assert [len(part) for part in parts] == [2, 2, 1], MOVED
    np.testing.assert_array_equal(np.concatenate(parts), counts[positions], err_msg=MOVED)
    other = scvi_compat.registered(model, small_adata(n_cells=40, seed=1))
    parts = [part["X"].numpy() for part in scvi_compat.minibatches(model, other, size=64)]
    np.testing.assert_array_equal(np.concatenate(parts), other.X.toarray(), err_msg=MOVED)


def test_encoders_give_the_posterior_of_the_documented_method(model: Any) -> None:
    model.module.eval()
    (tensors,) = scvi_compat.minibatches(model, model.adata, size=200)
    with torch.inference_mode():
        outputs = scvi_compat.encoded(model.module, tensors)
    assert {"qz", "ql", "library"} <= set(outputs), MOVED
    scvi_compat.set_trained(model, {}, train=np.arange(90), validation=np.arange(90, 120), test=np.zeros(0, dtype=int))
    means, variances = model.get_latent_representation(return_dist=True)
    np.testing.assert_allclose(outputs["qz"].loc.numpy(), means, atol=1e-6, err_msg=MOVED)
    np.testing.assert_allclose(outputs["qz"].scale.numpy() ** 2, variances, rtol=1e-5, err_msg=MOVED)


def test_the_prior_of_the_library_is_that_of_each_batch() -> None:
    from scvi.module import LDVAE

    means, variances = np.array([[5.0, 7.0]]), np.array([[0.25, 4.0]])
    sizes = {"n_input": 4, "n_batch": 2, "n_hidden": 8, "n_latent": 2}
    module = LDVAE(**sizes, use_observed_lib_size=False, library_log_means=means, library_log_vars=variances)
    prior = scvi_compat.library_prior(module, torch.tensor([[1], [0], [1]]))
    np.testing.assert_allclose(prior.loc.numpy(), [[7.0], [5.0], [7.0]], err_msg=MOVED)
    np.testing.assert_allclose(prior.scale.numpy(), [[2.0], [0.5], [2.0]], err_msg=MOVED)


def test_the_pseudocount_is_that_of_the_documented_formula() -> None:
    # The 0.9 quantile, over genes absent from a side, of the largest draw; the larger side; over the number of genes.
    rng = np.random.default_rng(0)
    scales, rest = rng.dirichlet(np.ones(6), 20), rng.dirichlet(np.ones(6), 20)
    unexpressed, unexpressed_rest = np.arange(6) < 2, np.arange(6) == 5
    largest = max(np.quantile(scales.max(axis=0)[:2], 0.9), rest.max(axis=0)[5])
    draws = torch.from_numpy(scales), torch.from_numpy(rest)
    pseudocount = scvi_compat.estimated_pseudocount(*draws, unexpressed, unexpressed_rest)
    assert pseudocount == pytest.approx(largest / 6, rel=1e-12), MOVED
    nowhere = np.zeros(6, dtype=bool)
    assert scvi_compat.estimated_pseudocount(*draws, nowhere, nowhere) == pytest.approx(1e-10), MOVED


def test_a_model_that_is_set_trained_counts_as_trained(model: Any) -> None:
    assert not model.is_trained, MOVED
    curves = {"elbo_train": [3.0, 2.0]}
    scvi_compat.set_trained(model, curves, train=np.arange(80), validation=np.arange(80, 100), test=np.arange(100, 120))
    assert model.is_trained, MOVED
    assert model.history == curves, MOVED
    parts = (model.train_indices, model.validation_indices, model.test_indices)
    assert [len(part) for part in parts] == [80, 20, 20], MOVED
