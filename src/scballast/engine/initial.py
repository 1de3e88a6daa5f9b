"""The genuine scvi-tools module of a member, as scvi-tools would build it under the member's seed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from scballast.arrays import FloatArray
from scballast.engine.members import MemberPlan
from scballast.engine.settings import scvi_arguments

if TYPE_CHECKING:
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
