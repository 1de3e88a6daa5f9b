"""A member as scvi-tools has it: its module at the start, and the ``LinearSCVI`` or ``SCVI`` that is trained."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from scballast.arrays import FloatArray
from scballast.engine import scvi_compat
from scballast.engine.members import MemberPlan
from scballast.engine.settings import scvi_arguments
from scballast.engine.trained import TRAIN_CURVES, VALIDATION_CURVES, TrainedMember

if TYPE_CHECKING:
    from anndata import AnnData
    from scvi.model import SCVI, LinearSCVI
    from scvi.module import LDVAE, VAE

_LOCK = threading.Lock()  # torch's generator is one per process


def initial_module(plan: MemberPlan) -> LDVAE | VAE:
    """Build the member's module with the weights that its seed gives; torch's generator is left as it was."""
    import torch
    from scvi.module import LDVAE, VAE

    arguments = scvi_arguments(plan.model)
    build: type[LDVAE | VAE] = LDVAE
    if plan.model.decoder == "nonlinear":
        build, arguments["n_labels"] = VAE, plan.n_labels
    else:
        arguments["n_layers_encoder"] = arguments.pop("n_layers")
    if not plan.model.use_observed_lib_size:
        arguments["library_log_means"] = plan.library_means.reshape(1, -1)
        arguments["library_log_vars"] = plan.library_vars.reshape(1, -1)
    with _LOCK, torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        return build(n_input=plan.n_genes, n_batch=plan.n_batch, **arguments)


def initial_state(plan: MemberPlan) -> dict[str, FloatArray]:
    """Weights and buffers of ``initial_module`` by ``state_dict`` name."""
    return {name: np.asarray(tensor) for name, tensor in initial_module(plan).state_dict().items()}


def export_member(
    trained: TrainedMember, adata: AnnData, batch_key: str | None, labels_key: str | None, layer: str | None
) -> LinearSCVI | SCVI:
    """Build the scvi-tools model of a trained member on its own cells.

    Parameters
    ----------
    adata
        The AnnData that the ensemble was trained on. A member of all its cells is registered on it as it is
        (as ``setup_anndata`` does); one of some cells, on a copy of those.

    Returns
    -------
    LinearSCVI or SCVI
        By its decoder; trained, in evaluation mode. What the member did not train keeps its initial values: the
        zero-inflation branch of the decoder under ``nb`` and ``poisson`` (in ``LinearSCVI`` its batch norm
        statistics move, without effect on any output), the library encoder when the library is observed.
    """
    import torch
    from scvi.model import SCVI, LinearSCVI

    plan = trained.plan
    model_class = LinearSCVI if plan.model.decoder == "linear" else SCVI
    with scvi_compat.quiet_scvi():
        whole = len(plan.cells) == adata.n_obs and np.array_equal(plan.cells, np.arange(adata.n_obs))
        member_adata = adata if whole and not adata.is_view else adata[plan.cells].copy()
        if not member_adata.obs_names.is_unique:
            member_adata.obs_names_make_unique()
        model_class.setup_anndata(member_adata, batch_key=batch_key, labels_key=labels_key, layer=layer)
        with torch.random.fork_rng(devices=[]):
            model = model_class(member_adata, **scvi_arguments(plan.model))
    state = dict(initial_module(plan).state_dict())
    state.update({name: torch.from_numpy(value) for name, value in trained.packed.state().items()})
    for name, value in state.items():
        if name.endswith("num_batches_tracked") and name.rsplit(".", 1)[0] + ".running_mean" in trained.packed.tensors:
            state[name] = torch.full_like(value, trained.n_steps)
    model.module.load_state_dict(state)
    model.module.eval()
    train, validation = plan.train_positions, plan.validation_positions
    test = np.setdiff1d(np.arange(len(plan.cells)), np.concatenate([train, validation]))
    scvi_compat.set_trained(model, _history(trained), train=train, validation=validation, test=test)
    return model


def _history(trained: TrainedMember) -> dict[str, Any]:
    import pandas as pd

    frames = {}
    for name, values in trained.history.items():
        epochs = trained.validation_epochs if name in VALIDATION_CURVES else range(len(values))
        index = pd.Index(epochs, name="epoch")
        frames[name] = pd.DataFrame({name: values}, index=index)
    assert set(frames) <= {*TRAIN_CURVES, *VALIDATION_CURVES}
    return frames
