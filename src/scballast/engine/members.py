"""From a request (members and settings) to plans: everything that a member's training depends on."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scballast.arrays import FloatArray, IntArray, places_among
from scballast.engine.counts import CountMatrix
from scballast.engine.interface import Member
from scballast.engine.schedule import default_max_epochs, minibatch_starts, split_positions, warmup_epochs
from scballast.engine.settings import ModelSettings, TrainSettings, resolve_settings
from scballast.errors import ConfigError, DataError, require

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MemberPlan:
    """All that rules one member's training; independent of the other members.

    Attributes
    ----------
    cells
        int32 row positions in the count matrix.
    train_positions, validation_positions
        int32 positions in ``cells``.
    batch_map, label_map
        Member's code of each of the matrix's categories, -1 where none of its cells has it: as scvi-tools,
        a member knows the categories of its own cells only.
    library_means, library_vars
        (n_batch,) prior of the log total count in each of its batches.
    n_warmup_epochs
        Epochs over which the KL weight rises.
    """

    seed: int
    cells: IntArray
    model: ModelSettings
    train: TrainSettings
    train_positions: IntArray
    validation_positions: IntArray
    max_epochs: int
    n_warmup_epochs: float
    n_genes: int
    batch_map: IntArray
    label_map: IntArray
    n_batch: int
    n_labels: int
    library_means: FloatArray
    library_vars: FloatArray

    @property
    def train_cells(self) -> IntArray:
        """Rows of the count matrix to train on."""
        return self.cells[self.train_positions]

    @property
    def validation_cells(self) -> IntArray:
        """Rows of the count matrix to validate on."""
        return self.cells[self.validation_positions]

    @property
    def starts(self) -> IntArray:
        """Boundaries of the minibatches in each epoch's order."""
        return minibatch_starts(len(self.train_positions), self.train.batch_size)

    @property
    def n_steps(self) -> int:
        """Gradient steps if it trains to the end."""
        return self.max_epochs * (len(self.starts) - 1)


def plan_members(
    counts: CountMatrix, members: Sequence[Member], model: Mapping[str, Any], train: Mapping[str, Any]
) -> list[MemberPlan]:
    """Resolve each member against the data.

    Raises
    ------
    ConfigError
        A setting, a seed or a set of cells cannot be used.
    DataError
        Cells without counts, where the library size is observed.
    """
    totals = counts.totals()
    return [
        _plan(counts, totals, position, member, *resolve_settings(model, train, member.overrides))
        for position, member in enumerate(members)
    ]


def _plan(
    counts: CountMatrix, totals: FloatArray, position: int, member: Member, model: ModelSettings, train: TrainSettings
) -> MemberPlan:
    seed = int(member.seed)
    require(0 <= seed < 2**63, f"member {position}: seed={seed} cannot be used. Allowed: 0 to 2**63 - 1.")
    cells = _checked_cells(member.cells, counts.n_cells, position)
    batch_map, n_batch = _own_codes(counts.batch[cells], len(counts.batch_categories))
    label_map, n_labels = _own_codes(counts.label[cells], len(counts.label_categories))
    other_labels = f"member {position}: n_labels={model.n_labels}, but its cells have {n_labels} labels"
    if model.n_labels is None:
        model = replace(model, n_labels=n_labels)
    elif model.decoder == "nonlinear" and model.n_labels != n_labels:
        message = f"{other_labels}, and SCVI counts them itself. Leave n_labels out."
        raise ConfigError(message)
    elif model.dispersion == "gene-label" and model.n_labels < n_labels:
        message = f"{other_labels}. Leave n_labels out."
        raise ConfigError(message)
    if model.use_observed_lib_size and not totals[cells].all():
        empty = int((totals[cells] == 0).sum())
        message = (
            f"member {position}: {empty} of its cells have no counts, so their observed library size is 0. "
            "Drop them, or set use_observed_lib_size=false."
        )
        raise DataError(message)
    means, variances = _library_prior(totals[cells], batch_map[counts.batch[cells]], n_batch, position)
    train_positions, validation_positions = split_positions(len(cells), seed, train.train_size, train.batch_size)
    if train.early_stopping and not len(validation_positions):
        message = f"member {position}: early stopping needs validation cells. Lower train_size."
        raise ConfigError(message)
    max_epochs = train.max_epochs or default_max_epochs(len(cells))
    return MemberPlan(
        seed=seed,
        cells=cells,
        model=model,
        train=train,
        train_positions=train_positions,
        validation_positions=validation_positions,
        max_epochs=max_epochs,
        n_warmup_epochs=warmup_epochs(train, max_epochs),
        n_genes=counts.n_genes,
        batch_map=batch_map,
        label_map=label_map,
        n_batch=n_batch,
        n_labels=model.n_labels or 1,
        library_means=means,
        library_vars=variances,
    )


def _checked_cells(cells: Any, n_cells: int, position: int) -> IntArray:
    if cells is None:
        return np.arange(n_cells, dtype=np.int32)
    given = np.asarray(cells)
    if given.dtype == bool and given.shape == (n_cells,):
        given = np.flatnonzero(given)
    if given.ndim != 1 or given.dtype.kind not in "iu":
        message = f"member {position}: cells must be one row of whole numbers, not {given.dtype} {given.shape}."
        raise ConfigError(message)
    require(len(given) >= 2, f"member {position} has {len(given)} cells. A model needs at least 2.")
    if given.min() < 0 or given.max() >= n_cells:
        message = f"member {position}: cells go from {given.min()} to {given.max()}; the data has 0 to {n_cells - 1}."
        raise ConfigError(message)
    return given.astype(np.int32)


def _own_codes(codes: IntArray, n_categories: int) -> tuple[IntArray, int]:
    present = np.flatnonzero(np.bincount(codes, minlength=n_categories))
    return places_among(present, n_categories)[:-1].astype(np.int32), len(present)


def _library_prior(totals: FloatArray, batch: IntArray, n_batch: int, position: int) -> tuple[FloatArray, FloatArray]:
    """Mean and variance of the log total per batch; ``scvi.model._utils._init_library_size``.

    A batch in which the totals do not vary (a single cell) would give an infinite loss in scvi-tools;
    it takes the variance of all the member's cells.
    """
    logs = np.log(np.where(totals > 0, totals, 1.0))  # scvi-tools counts log 0 as 0
    means, variances = np.zeros(n_batch), np.ones(n_batch)
    for j in range(n_batch):
        means[j], variances[j] = logs[batch == j].mean(), logs[batch == j].var()
    flat = variances <= 0
    if flat.any():
        variances[flat] = logs.var() or 1.0
        message = (
            "member %d: in %d of its %d batches the total count does not vary; their library prior takes "
            "the variance over all its cells."
        )
        logger.info(message, position, int(flat.sum()), n_batch)
    return means.astype(np.float32).astype(float), variances.astype(np.float32).astype(float)
