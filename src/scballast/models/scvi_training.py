"""Training one after another through scvi-tools' own trainer, for comparison."""

from __future__ import annotations

import io
import logging
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

import numpy as np

from scballast.arrays import FloatArray, IntArray
from scballast.engine import scvi_compat
from scballast.engine.interface import HeldoutFit, Member
from scballast.engine.schedule import default_max_epochs
from scballast.errors import ConfigError, TrainingError
from scballast.models.marginal_likelihood import importance_weighted_fit

if TYPE_CHECKING:
    from anndata import AnnData

_NOISY_LOGGERS = ("lightning.pytorch", "pytorch_lightning", "lightning.fabric", "scvi", "scvi.train")


def fit_sequential(
    adata: AnnData,
    members: Sequence[Member],
    model: Mapping[str, Any],
    train: Mapping[str, Any],
    *,
    kind: str = "LinearSCVI",
    ensemble: type[SequentialEnsemble] | None = None,
    batch_key: str | None = None,
    device: str = "auto",
    on_progress: Callable[[int], None] | None = None,
) -> SequentialEnsemble:
    """Train every member with the ``train`` of scvi-tools' model of that name.

    Parameters
    ----------
    adata
        Raw counts in ``X``.
    members
        Cells, seed and overrides of each.
    model, train
        Settings by scvi-tools' names, as in :class:`scballast.config.schema.ModelConfig` and ``TrainConfig``.
    kind
        A key of :data:`scballast.engine.scvi_compat.MODEL_CLASSES`.
    ensemble
        What reads the models out; default: :class:`SequentialEnsemble`.
    batch_key
        Column of ``adata.obs`` with the experimental batch.
    device
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    on_progress
        Called with the number of members finished since the last call.

    Raises
    ------
    ConfigError
        The device is not there.
    TrainingError
        Not one member ended with a finite loss.
    """
    accelerator = accelerator_for(device)
    model_class = scvi_compat.model_class(kind)
    trained: dict[int, Any] = {}
    failures: dict[int, str] = {}
    warmups: list[float | None] = []
    for position, member in enumerate(members):
        settings = {**model, **train, **member.overrides}
        part = adata if member.cells is None else adata[member.cells]
        max_epochs = settings["max_epochs"] or default_max_epochs(part.n_obs)
        warmup = settings["kl_warmup_epochs"]
        if isinstance(warmup, float):
            warmup = warmup * max_epochs  # not rounded: the engine's weights are the same
        settings |= {"max_epochs": max_epochs, "kl_warmup_epochs": warmup}
        warmups.append(warmup)
        with quiet_scvi():
            fitted = _train_one(model_class, part.copy(), settings, member.seed, batch_key, accelerator, model)
        last = fitted.history["elbo_train"].iloc[-1].item()
        if np.isfinite(last):
            trained[position] = fitted
        else:
            failures[position] = f"the loss became {last} (lr={settings['lr']}, n_latent={settings['n_latent']})"
        if on_progress is not None:
            on_progress(1)
    if not trained:
        message = f"training: the loss of all {len(members)} members became non-finite. Lower train.lr."
        raise TrainingError(message)
    return (ensemble or SequentialEnsemble)(adata, members, trained, failures, warmups, int(train["batch_size"]))


class SequentialEnsemble:
    """Models trained one by one, behind the interface of :class:`scballast.engine.interface.TrainedEnsemble`."""

    def __init__(
        self,
        adata: AnnData,
        members: Sequence[Member],
        models: Mapping[int, Any],
        failures: Mapping[int, str],
        warmups: Sequence[float | None],
        minibatch: int,
    ) -> None:
        self.failures = failures
        self._adata = adata
        self._members = members
        self._models = models
        self._warmups = warmups
        self._minibatch = minibatch

    def loadings(self, member: int) -> FloatArray:
        """Return ``get_loadings()`` as an array, (n_genes, n_latent)."""
        return np.asarray(self._models[member].get_loadings().to_numpy(), dtype=np.float64)

    def posterior_means(self, member: int, cells: IntArray | None = None) -> FloatArray:
        """Return posterior means (n, n_latent); under ``ln`` scvi-tools averages 5,000 seeded draws."""
        chosen = self._members[member].cells if cells is None else cells
        with quiet_scvi(), seeded(self._members[member].seed):
            means = self._models[member].get_latent_representation(self._part(chosen))
        return np.asarray(means, dtype=np.float64)

    def heldout_fit(self, member: int, cells: IntArray, n_mc_samples: int) -> HeldoutFit:
        """Return importance-weighted fit on ``cells``."""
        model = self._models[member]
        with quiet_scvi(), seeded(self._members[member].seed):
            part = scvi_compat.registered(model, self._part(cells))
            fits = [
                importance_weighted_fit(model.module, tensors, n_mc_samples)
                for tensors in scvi_compat.minibatches(model, part, size=self._minibatch)
            ]
        return HeldoutFit(
            nll=np.concatenate([fit.nll for fit in fits]), elbo=np.concatenate([fit.elbo for fit in fits])
        )

    def history(self, member: int) -> Mapping[str, Sequence[float]]:
        """Return scvi-tools' training curves by epoch, and the KL weight, which it logs every 50 steps only."""
        frames = self._models[member].history
        names = ("elbo_train", "reconstruction_loss_train", "kl_local_train")
        curves = {name: frames[name].iloc[:, 0].astype(float).tolist() for name in names if name in frames}
        warmup = self._warmups[member]
        weights = [min(1.0, epoch / warmup) if warmup else 1.0 for epoch in range(len(curves["elbo_train"]))]
        return {**curves, "kl_weight": weights}

    def n_steps(self, member: int) -> int:
        """Return the number of gradient steps."""
        return int(self._models[member].trainer.global_step)

    def export(self, member: int) -> Any:
        """Return the scvi-tools model."""
        return self._models[member]

    def _part(self, cells: IntArray | None) -> AnnData:
        return self._adata.copy() if cells is None else self._adata[cells].copy()


def _train_one(
    model_class: Any,
    adata: AnnData,
    settings: Mapping[str, Any],
    seed: int,
    batch_key: str | None,
    accelerator: str,
    model_names: Mapping[str, Any],
) -> Any:
    import scvi

    scvi.settings.seed = seed
    adata.obs_names_make_unique()
    model_class.setup_anndata(adata, batch_key=batch_key)
    fitted = model_class(adata, **{name: settings[name] for name in model_names})
    batch_size = settings["batch_size"]
    n_train = int(np.ceil(settings["train_size"] * adata.n_obs))
    with interruptible(), alone():
        fitted.train(
            max_epochs=settings["max_epochs"],
            accelerator=accelerator,
            devices=1,
            train_size=settings["train_size"],
            batch_size=batch_size,
            # A last minibatch of one cell has no variance for the batch norm.
            datasplitter_kwargs={
                "drop_last": n_train > settings["batch_size"] and n_train % settings["batch_size"] == 1
            },
            early_stopping=settings["early_stopping"],
            early_stopping_patience=settings["early_stopping_patience"],
            plan_kwargs={
                "lr": settings["lr"],
                "weight_decay": settings["weight_decay"],
                "n_epochs_kl_warmup": settings["kl_warmup_epochs"],
            },
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    return fitted


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


def accelerator_for(device: str) -> str:
    """Return Lightning's accelerator for ``device``.

    Raises
    ------
    ConfigError
        The device is not there.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        message = "device: cuda was asked for, and torch finds no GPU here. Use device=cpu or device=auto."
        raise ConfigError(message)
    if device == "mps" and not torch.backends.mps.is_available():
        message = "device: mps was asked for, and torch does not offer it here. Use device=cpu or device=auto."
        raise ConfigError(message)
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's generators for the block, and put their state back afterwards."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@contextmanager
def quiet_scvi() -> Iterator[None]:
    """Keep scvi-tools' and Lightning's notices about devices, workers and saved columns off the terminal."""
    import scvi  # noqa: F401 - when it is first imported, Lightning sets the levels of its loggers

    levels = {name: logging.getLogger(name).level for name in _NOISY_LOGGERS}
    for name in _NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(lightning|scvi|anndata|torch|torchmetrics|jaxlib)(\.|$)")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
