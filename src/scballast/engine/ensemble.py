"""Train all members of an ensemble, and answer for all of them what the experiment asks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from scballast.arrays import FloatArray, IntArray
from scballast.engine.counts import CountMatrix, count_matrix
from scballast.engine.interface import HeldoutFit, Member
from scballast.engine.kernels import KernelCounts, MemberKernel
from scballast.engine.member_cache import MemberCache, member_names
from scballast.engine.members import MemberPlan, plan_members
from scballast.engine.native import NoCompilerError, load_library
from scballast.engine.packing import RATE
from scballast.engine.posterior import Evaluator, heldout_fit, posterior_means
from scballast.engine.stored_counts import StoredCounts, stored_counts
from scballast.engine.to_scvi import export_member
from scballast.engine.trained import TrainedMember
from scballast.engine.trainer_cpu import train_on_cpu
from scballast.engine.trainer_stream import StreamedEvaluator, train_streamed
from scballast.engine.windows import Windows
from scballast.errors import ConfigError, TrainingError, require

if TYPE_CHECKING:
    import torch
    from anndata import AnnData
    from scvi.model import SCVI, LinearSCVI

logger = logging.getLogger(__name__)


def fit_ensemble(
    adata: AnnData,
    members: Sequence[Member],
    model: Mapping[str, Any],
    train: Mapping[str, Any],
    batch_key: str | None = None,
    labels_key: str | None = None,
    layer: str | None = None,
    device: str = "auto",
    on_progress: Callable[[int], None] | None = None,
    kernels: str = "auto",
    cache: MemberCache | None = None,
    data: str = "memory",
) -> Ensemble:
    """Train all members side by side, each as ``LinearSCVI`` or ``SCVI`` would train it on its own cells.

    Parameters
    ----------
    adata
        Raw counts in ``X`` or ``layer``. CSR, float32 counts and int32 indices are used without a copy.
    members
        What to train. A member's result depends on its own cells, seed and settings only: not on the other
        members, their order, the number of threads or of members.
    model, train
        Settings by scvi-tools' names; see :class:`~scballast.engine.settings.ModelSettings` and
        :class:`~scballast.engine.settings.TrainSettings`. ``Member.overrides`` replaces any of them.
    batch_key, labels_key
        Columns of ``adata.obs``: experimental batch, and label for ``dispersion="gene-label"``. A member
        knows the categories of its own cells.
    device
        ``auto`` (a CUDA device if there is one, else the CPU), ``cpu``, ``cuda`` or ``mps``.
    on_progress
        Called in the calling thread with the number of members trained since the last call.
    kernels
        On the CPU: ``compiled`` (one thread per member; needs a C++ compiler, which is used once per machine),
        ``torch`` (stacked members, the form that CUDA and MPS run), or ``auto``: compiled, and torch with a
        logged warning where there is no compiler. Both give the same result up to rounding.
    cache
        Where trained members are looked up and kept; ``None`` trains all of them.
    data
        ``memory``: the counts are in memory. ``stream``: each epoch is one pass over them for all members, of which a
        window of 131,072 cells at a time is in memory; counts that are mapped from a file (``numpy.memmap``) are read
        from there. Compiled kernels only.

    Raises
    ------
    ConfigError
        A setting cannot be used, or the device is not there.
    DataError
        The data are not counts, or lack a batch.
    TrainingError
        No member ended with a finite loss.
    """
    import torch

    require(members, "members: none were given. Give at least one.")
    chosen = choose_device(device)
    streamed = _is_streamed(data, kernels, chosen)
    compiled = streamed or _use_compiled(kernels, chosen)
    counts = (stored_counts if streamed else count_matrix)(adata, layer, batch_key, labels_key)
    windows = Windows(counts.n_cells)
    plans = plan_members(counts, members, model, train)
    form = f"{chosen.type} {compiled}{f' {windows}' if streamed else ''}"
    # Members of one name are one: trials that differ in their scoring alone share them.
    names = member_names(counts, plans, form) if cache else [str(i) for i in range(len(plans))]
    known = {
        i: known_member
        for i, name in enumerate(names)
        if cache and (known_member := cache.find(plans[i], name)) is not None
    }
    new: dict[str, MemberPlan] = {}
    no_work = []
    for i, plan in enumerate(plans):
        no_work.append(i in known or names[i] in new)
        if i not in known:
            new.setdefault(names[i], plan)
    todo = list(new.values())
    if cache and cache.on_found is not None:
        cache.on_found(no_work)
    make_evaluator: Callable[[MemberPlan], Evaluator]
    if isinstance(counts, StoredCounts):

        def keep(position: int, member: TrainedMember) -> None:
            if cache:
                cache.keep(member, list(new)[position])

        trained = train_streamed(counts, windows, todo, torch.get_num_threads(), on_progress, keep) if todo else []
        make_evaluator = partial(StreamedEvaluator, counts=counts, n_threads=torch.get_num_threads())
    elif compiled:
        kernel_counts = KernelCounts(counts)
        trained = train_on_cpu(counts, kernel_counts, todo, torch.get_num_threads(), on_progress) if todo else []
        make_evaluator = partial(MemberKernel, counts=kernel_counts, n_threads=torch.get_num_threads())
    else:
        from scballast.engine.resident import DeviceCounts
        from scballast.engine.trainer_torch import TorchEvaluator, train_with_torch

        resident = DeviceCounts(counts, chosen, torch.float32)
        trained = train_with_torch(counts, resident, todo, on_progress) if todo else []
        make_evaluator = partial(TorchEvaluator, resident=resident)
    fresh = dict(zip(new, trained, strict=True))
    trained = [known[i] if i in known else fresh[names[i]] for i in range(len(plans))]
    if cache and fresh:
        for name, member in fresh.items():
            if not streamed:
                cache.keep(member, name)
        cache.shrink()
    failures = {i: member.failure for i, member in enumerate(trained) if member.failure is not None}
    for position, reason in failures.items():
        logger.warning("ensemble: member %d of %d is dropped: %s.", position, len(members), reason)
    if len(failures) == len(members):
        message = f"ensemble: no member has a result; member 0: {failures[0]}. Lower train.lr."
        raise TrainingError(message)
    return Ensemble(adata, counts, trained, failures, (batch_key, labels_key, layer), make_evaluator)


def train_ensemble(
    adata: AnnData,
    members: Sequence[Member],
    model: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
    batch_key: str | None = None,
    layer: str | None = None,
    device: str = "auto",
    labels_key: str | None = None,
) -> list[LinearSCVI | SCVI]:
    """Train many LDVAEs (or SCVIs) side by side and return each as a genuine scvi-tools model.

    Parameters
    ----------
    adata
        (n_cells, n_genes) raw counts in ``X`` or ``layer``. CSR, float32 counts and int32 indices are used
        without a copy.
    members
        What to train: the cells, the seed and the settings of each. A member's result depends on these alone, not
        on the other members, their order or number, or the number of threads.
    model
        Settings of the model for all members, by the names of ``scvi.model.LinearSCVI`` and with its defaults:
        ``n_latent``, ``n_hidden``, ``n_layers``, ``dropout_rate``, ``dispersion``, ``gene_likelihood`` (``nb``,
        ``zinb`` or ``poisson``), ``latent_distribution`` (``normal`` or ``ln``), ``use_observed_lib_size``,
        ``n_labels``. ``decoder="nonlinear"`` trains ``SCVI`` instead.
    train
        Settings of the training for all members, by the names of ``LinearSCVI.train``, its plan and its trainer:
        ``max_epochs``, ``batch_size`` (cells of a minibatch), ``lr``, ``weight_decay``, ``eps``, ``train_size``,
        ``kl_warmup_epochs`` (epochs; a fraction: share of the epochs), ``min_kl_weight``, ``max_kl_weight``,
        ``early_stopping`` and what belongs to it, ``check_val_every_n_epoch``.
    batch_key
        Column of ``adata.obs`` with the experimental batch, on which the models are conditioned; None: none.
    layer
        The layer that holds the counts; None: ``X``.
    device
        ``auto`` (a CUDA device if there is one, else the CPU), ``cpu``, ``cuda`` or ``mps``.
    labels_key
        Column of ``adata.obs`` with the label of ``dispersion="gene-label"``; None: none.

    Returns
    -------
    list of scvi.model.LinearSCVI or scvi.model.SCVI
        One trained model per member, in their order, on its own cells: ``get_loadings()``, ``save()`` and the rest
        work as after ``train()``.

    Raises
    ------
    ConfigError
        A setting cannot be used, or the device is not there.
    DataError
        The data are not counts, or lack a batch.
    TrainingError
        The loss of a member stopped being finite: a list cannot leave it out unseen.
        :func:`scballast.engine.fit_ensemble` keeps the others.

    References
    ----------
    Svensson, Gayoso, Yosef & Pachter (2020), Interpretable factor models of single-cell RNA-seq via variational
    autoencoders, Bioinformatics 36 (the LDVAE).
    """
    fitted = fit_ensemble(adata, members, model or {}, train or {}, batch_key, labels_key, layer, device)
    if fitted.failures:
        reasons = "; ".join(f"member {i}: {reason}" for i, reason in fitted.failures.items())
        message = f"ensemble: {len(fitted.failures)} of {len(members)} members have no result. {reasons}."
        raise TrainingError(message)
    return [fitted.export(i) for i in range(len(members))]


@dataclass(eq=False)
class Ensemble:
    """Trained members; implements :class:`~scballast.engine.interface.TrainedEnsemble`.

    Attributes
    ----------
    adata, counts
        What they were trained on.
    trained, failures
        The members, and why some have no result, by member.
    keys
        Batch key, labels key and layer.
    evaluator
        Returns what evaluates a member.
    """

    adata: AnnData
    counts: CountMatrix
    trained: Sequence[TrainedMember]
    failures: Mapping[int, str]
    keys: tuple[str | None, str | None, str | None]
    evaluator: Callable[[MemberPlan], Evaluator]

    def loadings(self, member: int) -> FloatArray:
        """(n_genes, n_latent) ``LinearSCVI.get_loadings()``: decoder weight with its batch norm folded in.

        Raises
        ------
        ConfigError
            The member's decoder is not linear: it has no loadings.
        """
        trained = self._result(member)
        if trained.plan.model.decoder != "linear":
            message = f"member {member} has a non-linear decoder, and so no loadings. Use decoder=linear."
            raise ConfigError(message)
        tensors = trained.packed.tensors
        scale = tensors[RATE + "1.weight"] / np.sqrt(tensors[RATE + "1.running_var"] + np.float32(1e-3))
        n_latent = trained.plan.model.n_latent
        return np.asarray(scale[:, None] * tensors[RATE + "0.weight"][:, :n_latent])

    def posterior_means(self, member: int, cells: IntArray | None = None) -> FloatArray:
        """(n, n_latent) posterior means of ``cells``, default the member's own; after softmax for ``ln``.

        For ``ln`` a mean over 1,024 fixed low-discrepancy points: see
        :func:`~scballast.engine.posterior.posterior_means`.
        """
        trained = self._result(member)
        chosen = trained.plan.cells if cells is None else self._checked(cells)
        return posterior_means(self.evaluator(trained.plan), trained.packed, trained.plan, chosen)

    def heldout_fit(self, member: int, cells: IntArray, n_mc_samples: int) -> HeldoutFit:
        """Importance-weighted marginal likelihood and ELBO per cell, for positions in the AnnData.

        Cells of a batch or label that the member has never seen are NaN.
        """
        trained = self._result(member)
        evaluator = self.evaluator(trained.plan)
        return heldout_fit(evaluator, self.counts, trained.packed, trained.plan, self._checked(cells), n_mc_samples)

    def history(self, member: int) -> Mapping[str, Sequence[float]]:
        """Training curves by epoch, and validation curves by validation, by scvi-tools' names."""
        return self._result(member).history

    def n_steps(self, member: int) -> int:
        """Gradient steps that the member has seen."""
        return self._result(member).n_steps

    def export(self, member: int) -> LinearSCVI | SCVI:
        """Return a genuine scvi-tools model that can be saved, loaded and queried."""
        return export_member(self._result(member), self.adata, *self.keys)

    def _result(self, member: int) -> TrainedMember:
        if member in self.failures:
            message = f"member {member} has no result: {self.failures[member]}."
            raise TrainingError(message)
        return self.trained[member]

    def _checked(self, cells: IntArray) -> IntArray:
        chosen = np.ascontiguousarray(cells, dtype=np.int32)
        if len(chosen) and not (0 <= chosen.min() and chosen.max() < self.counts.n_cells):
            message = f"cells go from {chosen.min()} to {chosen.max()}; the data has 0 to {self.counts.n_cells - 1}."
            raise ConfigError(message)
        return chosen


def choose_device(device: str) -> torch.device:
    """Resolve a device's name, and refuse one that is not there.

    Raises
    ------
    ConfigError
        The name is unknown, or torch does not find the device: there is no silent run on the CPU.
    """
    import torch

    if device not in ("auto", "cpu", "cuda", "mps"):
        message = f"device={device!r} is unknown. Allowed: auto | cpu | cuda | mps."
        raise ConfigError(message)
    if device == "cuda" and not torch.cuda.is_available():
        message = "device=cuda, but torch finds no GPU here. Use device=cpu, or install torch for CUDA."
        raise ConfigError(message)
    if device == "mps" and not torch.backends.mps.is_available():
        message = "device=mps, but torch does not offer it here. Use device=cpu."
        raise ConfigError(message)
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def check_streamed(device: str) -> None:
    """Refuse a device that counts cannot be streamed to, or a machine without a compiler.

    Raises
    ------
    ConfigError
        The device, named or found, holds all counts.
    NoCompilerError
        The kernels cannot be compiled.
    """
    _is_streamed("stream", "auto", choose_device(device))


def _is_streamed(data: str, kernels: str, device: torch.device) -> bool:
    require(data in ("memory", "stream"), f"data={data!r} is unknown. Allowed: memory | stream.")
    if data == "memory":
        return False
    if device.type != "cpu" or kernels == "torch":
        where = f"on {device.type}" if device.type != "cpu" else "in plain torch"
        message = (
            f"train.data: stream trains with the compiled kernels on the CPU, and not {where}, where all counts stay "
            "on the device. Use device=cpu, or train.data=memory."
        )
        raise ConfigError(message)
    load_library("float")
    return True


def _use_compiled(kernels: str, device: torch.device) -> bool:
    if kernels not in ("auto", "compiled", "torch"):
        message = f"kernels={kernels!r} is unknown. Allowed: auto | compiled | torch."
        raise ConfigError(message)
    if device.type != "cpu" and kernels == "compiled":
        message = f"kernels=compiled run on the CPU only, not on {device.type}. Use kernels=auto."
        raise ConfigError(message)
    if device.type != "cpu" or kernels == "torch":
        return False
    try:
        load_library("float")
    except NoCompilerError as error:
        if kernels == "compiled":
            raise
        logger.warning("ensemble: training runs in plain torch, several times slower: %s", error)
        return False
    return True
