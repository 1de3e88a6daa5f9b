"""Epochs, train/validation split, minibatches, KL weight and early stopping, by scvi-tools' own rules."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scballast.arrays import IntArray
from scballast.engine.settings import TrainSettings

_ORDER_STREAM = 0x6F72646572  # keeps the minibatch order's random numbers apart from all others of a seed


def default_max_epochs(n_cells: int) -> int:
    """``scvi.model.get_max_epochs_heuristic``: 400 up to 20,000 cells, 8e6 / cells above, at least 1."""
    return max(min(round(20_000 / n_cells * 400), 400), 1)


def split_sizes(n_cells: int, train_size: float | None, batch_size: int) -> tuple[int, int]:
    """Numbers of cells to train on and to validate on.

    As ``scvi.dataloaders.DataSplitter``: with ``train_size=None`` a last minibatch of one or two cells goes
    to the validation cells. Where scvi-tools would be left without cells to train on, they are kept.
    """
    n_train = math.ceil((0.9 if train_size is None else train_size) * n_cells)
    n_validation = n_cells - n_train
    left = n_train % batch_size
    if train_size is None and 0 < left < 3 and n_train > left:
        n_train -= left
        if n_validation > 0:
            n_validation += left
    if n_train < 2:  # a batch norm needs two cells
        n_train, n_validation = 2, max(n_cells - 2, 0)
    return n_train, n_validation


def split_positions(n_cells: int, seed: int, train_size: float | None, batch_size: int) -> tuple[IntArray, IntArray]:
    """Training and validation cells as positions; scvi-tools' own split under ``scvi.settings.seed = seed``."""
    n_train, n_validation = split_sizes(n_cells, train_size, batch_size)
    words = seed if seed < 2**32 else [seed & 0xFFFFFFFF, seed >> 32]
    order = np.random.RandomState(words).permutation(n_cells).astype(np.int32)
    return order[n_validation : n_validation + n_train], order[:n_validation]


def epoch_order(train_cells: IntArray, seed: int, epoch: int) -> IntArray:
    """Return the training cells in the order of one epoch."""
    return order_generator(seed, epoch).permutation(train_cells)


def order_generator(seed: int, epoch: int) -> np.random.Generator:
    """Return the random numbers of a member's order in one epoch."""
    return np.random.default_rng([_ORDER_STREAM, seed, epoch])


def minibatch_starts(n_train: int, batch_size: int) -> IntArray:
    """(n_minibatches + 1,) int32 boundaries; a last minibatch of one cell joins the one before it."""
    starts = list(range(0, n_train, batch_size))
    if len(starts) > 1 and n_train - starts[-1] == 1:
        starts.pop()
    return np.asarray([*starts, n_train], dtype=np.int32)


def warmup_epochs(settings: TrainSettings, max_epochs: int) -> float:
    """Epochs over which the KL weight rises."""
    given = settings.kl_warmup_epochs
    if not given:
        return 0.0
    if isinstance(given, float) and given <= 1:
        return given * max_epochs
    return float(given)


def kl_weight(epoch: int, n_warmup_epochs: float, settings: TrainSettings) -> float:
    """Weight of the latent KL in an epoch, as ``scvi.train.TrainingPlan`` has it."""
    if epoch < n_warmup_epochs:
        slope = settings.max_kl_weight - settings.min_kl_weight
        return slope * (epoch / n_warmup_epochs) + settings.min_kl_weight
    return settings.max_kl_weight


@dataclass
class EarlyStopping:
    """Lightning's early stopping in ``min`` mode: tells after which validation to end."""

    settings: TrainSettings
    best: float = math.inf
    waited: int = 0
    seen: int = 0

    def should_stop(self, loss: float) -> bool:
        """Whether training ends after a validation with this loss."""
        self.seen += 1
        if self.seen <= self.settings.early_stopping_warmup_epochs:
            return False
        if loss < self.best - self.settings.early_stopping_min_delta:
            self.best, self.waited = loss, 0
            return False
        self.waited += 1
        return self.waited >= self.settings.early_stopping_patience
