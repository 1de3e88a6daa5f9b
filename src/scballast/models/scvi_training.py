"""Training one after another through scvi-tools' own trainer, for comparison."""

from __future__ import annotations

import io
import math
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scballast.arrays import FloatArray, IntArray
from scballast.engine import scvi_compat
from scballast.engine.interface import HeldoutFit, Member
from scballast.engine.schedule import default_max_epochs
from scballast.engine.scvi_compat import quiet_scvi
from scballast.errors import TrainingError
from scballast.models.family import FitRequest

if TYPE_CHECKING:
    from anndata import AnnData

_OF_TRAIN = ("max_epochs", "train_size", "batch_size", "early_stopping", "early_stopping_patience")


def fit_sequential(
    request: FitRequest,
    model: Mapping[str, Any],
    train: Mapping[str, Any],
    *,
    kind: str = "LinearSCVI",
    ensemble: type[SequentialEnsemble] | None = None,
) -> SequentialEnsemble:
    """Train every member with the ``train`` of scvi-tools' model of that name.

    Parameters
    ----------
    request
        Cells, members and device.
    model, train
        Settings by scvi-tools' names, as in :class:`scballast.config.schema.ModelConfig` and ``TrainConfig``.
    kind
        A key of :data:`scballast.engine.scvi_compat.MODEL_CLASSES`.
    ensemble
        What reads the models out; default: :class:`SequentialEnsemble`.

    Raises
    ------
    ConfigError
        The device is not there.
    TrainingError
        Not one member ended with a finite loss.
    """
    import scvi

    from scballast.engine.ensemble import choose_device

    accelerator = choose_device(request.config.device).type
    model_class = scvi_compat.model_class(kind)
    trained: dict[int, Any] = {}
    failures: dict[int, str] = {}
    warmups: list[float | None] = []
    for position, member in enumerate(request.members):
        part = request.adata if member.cells is None else request.adata[member.cells]
        settings = in_epochs({**model, **train, **member.overrides}, part.n_obs)
        warmups.append(settings["kl_warmup_epochs"])
        part = part.copy()
        with quiet_scvi():
            scvi.settings.seed = member.seed
            part.obs_names_make_unique()
            model_class.setup_anndata(part, batch_key=request.batch_key)
            fitted = model_class(part, **{name: settings[name] for name in model})
            plan = {name: settings[name] for name in ("lr", "weight_decay")}
            fit(fitted, settings, accelerator, plan, devices=1)
        last = fitted.history["elbo_train"].iloc[-1].item()
        if np.isfinite(last):
            trained[position] = fitted
        else:
            failures[position] = f"the loss became {last} (lr={settings['lr']}, n_latent={settings['n_latent']})"
        if request.on_progress is not None:
            request.on_progress(1)
    if not trained:
        message = f"training: the loss of all {len(request.members)} members became non-finite. Lower train.lr."
        raise TrainingError(message)
    return (ensemble or SequentialEnsemble)(
        request.adata, request.members, trained, failures, warmups, int(train["batch_size"])
    )


def in_epochs(settings: Mapping[str, Any], n_cells: int) -> dict[str, Any]:
    """Return settings with ``max_epochs``, and the KL warm-up, which may be a share of them, in epochs."""
    max_epochs, warmup = settings["max_epochs"] or default_max_epochs(n_cells), settings["kl_warmup_epochs"]
    if isinstance(warmup, float):
        warmup = warmup * max_epochs  # not rounded: the engine's weights are the same
    return {**settings, "max_epochs": max_epochs, "kl_warmup_epochs": warmup}


def kl_weights(warmup: float | None, n_epochs: int) -> list[float]:
    """Return the KL weight of each epoch."""
    return [min(1.0, epoch / warmup) if warmup else 1.0 for epoch in range(n_epochs)]


def fit(model: Any, settings: Mapping[str, Any], accelerator: str, plan: Mapping[str, Any], **further: Any) -> int:
    """Have a model of scvi-tools train itself; returns how many cells it is trained on.

    Parameters
    ----------
    model
        Set up with its cells.
    settings
        As `in_epochs` returns them.
    accelerator
        Lightning's name of the device.
    plan
        Arguments of the training plan beside the KL warm-up.
    further
        Arguments of this model's ``train``.
    """
    n_train = int(np.ceil(settings["train_size"] * model.adata.n_obs))
    batch_size = settings["batch_size"]
    with interruptible(), alone():
        model.train(
            accelerator=accelerator,
            # A last minibatch of one cell has no variance for the batch norm.
            datasplitter_kwargs={"drop_last": n_train > batch_size and n_train % batch_size == 1},
            plan_kwargs={"n_epochs_kl_warmup": settings["kl_warmup_epochs"], **plan},
            enable_progress_bar=False,
            enable_model_summary=False,
            **{name: settings[name] for name in _OF_TRAIN},
            **further,
        )
    return n_train


@dataclass(frozen=True, eq=False)
class SequentialEnsemble:
    """Models trained one by one, behind the interface of :class:`scballast.engine.interface.TrainedEnsemble`.

    Attributes
    ----------
    adata, members
        What they were trained on.
    models, failures
        Those that have a result, and why the others have none, by member.
    warmups
        Epochs until each member's KL weight is 1.
    minibatch
        Cells that are evaluated at a time.
    """

    adata: AnnData
    members: Sequence[Member]
    models: Mapping[int, Any]
    failures: Mapping[int, str]
    warmups: Sequence[float | None]
    minibatch: int

    def loadings(self, member: int) -> FloatArray:
        """Return ``get_loadings()`` as an array, (n_genes, n_latent)."""
        return np.asarray(self.models[member].get_loadings().to_numpy(), dtype=np.float64)

    def posterior_means(self, member: int, cells: IntArray | None = None) -> FloatArray:
        """Return posterior means (n, n_latent); under ``ln`` scvi-tools averages 5,000 seeded draws."""
        chosen = self.members[member].cells if cells is None else cells
        with quiet_scvi(), seeded(self.members[member].seed):
            means = self.models[member].get_latent_representation(self._part(chosen))
        return np.asarray(means, dtype=np.float64)

    def heldout_fit(self, member: int, cells: IntArray, n_mc_samples: int) -> HeldoutFit:
        """Return importance-weighted fit on ``cells``."""
        model = self.models[member]
        with quiet_scvi(), seeded(self.members[member].seed):
            part = scvi_compat.registered(model, self._part(cells))
            fits = [
                importance_weighted_fit(model.module, tensors, n_mc_samples)
                for tensors in scvi_compat.minibatches(model, part, size=self.minibatch)
            ]
        return HeldoutFit(
            nll=np.concatenate([fit.nll for fit in fits]), elbo=np.concatenate([fit.elbo for fit in fits])
        )

    def history(self, member: int) -> Mapping[str, Sequence[float]]:
        """Return scvi-tools' training curves by epoch, and the KL weight, which it logs every 50 steps only."""
        frames = self.models[member].history
        names = ("elbo_train", "reconstruction_loss_train", "kl_local_train")
        curves = {name: frames[name].iloc[:, 0].astype(float).tolist() for name in names if name in frames}
        return {**curves, "kl_weight": kl_weights(self.warmups[member], len(curves["elbo_train"]))}

    def n_steps(self, member: int) -> int:
        """Return the number of gradient steps."""
        return int(self.models[member].trainer.global_step)

    def export(self, member: int) -> Any:
        """Return the scvi-tools model."""
        return self.models[member]

    def _part(self, cells: IntArray | None) -> AnnData:
        return self.adata.copy() if cells is None else self.adata[cells].copy()


@contextmanager
def alone() -> Iterator[None]:
    """Train in this process, whatever a Slurm allocation of several tasks says (SLURM_NTASKS).

    Lightning leaves a job of this name alone; scvi-tools makes parts of Lightning that take no such setting.
    """
    name = os.environ.get("SLURM_JOB_NAME")
    os.environ["SLURM_JOB_NAME"] = "interactive"
    try:
        yield
    finally:
        if name is None:
            del os.environ["SLURM_JOB_NAME"]
        else:
            os.environ["SLURM_JOB_NAME"] = name


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C out of training; Lightning makes it an exit of the program, and ignores every further one."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        with redirect_stdout(io.StringIO()):  # scvi-tools prints what it raises
            yield
    except SystemExit as error:
        raise KeyboardInterrupt from error
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's generators for the block, and put their state back afterwards."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def importance_weighted_fit(module: Any, tensors: Any, n_mc_samples: int) -> HeldoutFit:
    r"""Estimate ``-log p(x)`` and the negative ELBO of each cell of a minibatch.

    .. math:: \log p(x) \approx \log \frac1S \sum_s \frac{p(x|z_s,\ell_s)\,p(z_s)\,p(\ell_s)}{q(z_s|x)\,q(\ell_s|x)}

    scvi-tools' own ``marginal_ll`` evaluates prior and posterior of ``z`` after the softmax under
    ``latent_distribution="ln"``, where they are densities of ``z`` before it; here they are taken before it.

    Parameters
    ----------
    module
        A trained ``scvi.module.VAE`` or ``LDVAE`` in evaluation mode.
    tensors
        A minibatch from the model's data loader.
    n_mc_samples
        Number S of draws; both figures use the same draws.

    References
    ----------
    Burda, Grosse & Salakhutdinov (2016), Importance weighted autoencoders.
    """
    import torch
    from scvi import REGISTRY_KEYS
    from torch.distributions import Normal, kl_divergence

    with torch.inference_mode():
        counts = tensors[REGISTRY_KEYS.X_KEY].to(module.device)
        batch_index = tensors[REGISTRY_KEYS.BATCH_KEY].to(module.device)
        inferred = scvi_compat.encoded(module, {k: v.to(module.device) for k, v in tensors.items()})
        q_z, q_l = inferred["qz"], inferred["ql"]
        prior_z = Normal(torch.zeros_like(q_z.loc), torch.ones_like(q_z.scale))
        divergence = kl_divergence(q_z, prior_z).sum(-1)
        prior_l = None
        if q_l is not None:
            prior_l = scvi_compat.library_prior(module, batch_index)
            divergence = divergence + kl_divergence(q_l, prior_l).sum(-1)
        log_weights, log_likelihoods = [], []
        for _ in range(n_mc_samples):
            z = q_z.sample()
            library = inferred["library"] if q_l is None else q_l.sample()
            generated = module.generative(
                z=module.z_encoder.z_transformation(z), library=library, batch_index=batch_index
            )
            log_likelihood = generated["px"].log_prob(counts).sum(-1)
            weight = log_likelihood + prior_z.log_prob(z).sum(-1) - q_z.log_prob(z).sum(-1)
            if prior_l is not None:
                weight = weight + (prior_l.log_prob(library) - q_l.log_prob(library)).sum(-1)
            log_weights.append(weight)
            log_likelihoods.append(log_likelihood)
        nll = math.log(n_mc_samples) - torch.logsumexp(torch.stack(log_weights), dim=0)
        elbo = divergence - torch.stack(log_likelihoods).mean(0)
    return HeldoutFit(nll=nll.double().cpu().numpy(), elbo=elbo.double().cpu().numpy())
