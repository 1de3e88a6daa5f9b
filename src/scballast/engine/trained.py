"""A member's way through its epochs, and what it leaves behind."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scballast.engine.counts import CountMatrix
from scballast.engine.kernels import Evaluation
from scballast.engine.members import MemberPlan
from scballast.engine.packing import Packed
from scballast.engine.posterior import Evaluator, mean_losses, validation_noise
from scballast.engine.schedule import EarlyStopping, kl_weight

TRAIN_CURVES = ("elbo_train", "reconstruction_loss_train", "kl_local_train", "kl_weight", "train_loss")
VALIDATION_CURVES = ("elbo_validation", "reconstruction_loss_validation", "kl_local_validation", "validation_loss")


@dataclass(frozen=True)
class TrainedMember:
    """One trained member.

    Attributes
    ----------
    packed
        Its weights and running statistics.
    history
        Curve name → value per epoch (of validations: per validation).
    validation_epochs
        Epochs after which a validation was made.
    failure
        Why it has no result; None when it has one.
    """

    plan: MemberPlan
    packed: Packed
    n_steps: int
    n_epochs: int
    history: Mapping[str, list[float]]
    validation_epochs: list[int]
    failure: str | None = None


class Course:
    """One member on its way through its epochs, however it is trained.

    Attributes
    ----------
    plan
        What rules it.
    epoch, steps
        Epochs that are complete, and gradient steps that were made.
    """

    def __init__(self, plan: MemberPlan) -> None:
        self.plan = plan
        settings = plan.train
        self._stopping = EarlyStopping(settings)
        self._validate_every = settings.check_val_every_n_epoch or (1 if settings.early_stopping else None)
        self._curves: dict[str, list[float]] = {}
        self._validation_epochs: list[int] = []
        self.epoch, self.steps = 0, 0
        self._failure: str | None = None
        self._stopped = False

    @property
    def active(self) -> bool:
        """Whether there are epochs to come."""
        return self.epoch < self.plan.max_epochs and self._failure is None and not self._stopped

    @property
    def kl_weight(self) -> float:
        """KL weight of the epoch under way."""
        return kl_weight(self.epoch, self.plan.n_warmup_epochs, self.plan.train)

    def record(self, reconstruction: float, kl_latent: float, kl_library: float, loss: float) -> bool:
        """Record an epoch by its sums over the training cells, in nats; returns whether a validation is due."""
        plan, kl, n_cells = self.plan, kl_latent + kl_library, len(self.plan.train_positions)
        means = ((reconstruction + kl) / n_cells, reconstruction / n_cells, kl / n_cells)
        self._append(TRAIN_CURVES, (*means, self.kl_weight, loss / n_cells))
        if not math.isfinite(loss):
            self._failure = (
                f"the loss became non-finite at epoch {self.epoch} "
                f"(lr={plan.train.lr:g}, n_latent={plan.model.n_latent}, {len(plan.cells)} cells)"
            )
            return False
        self.epoch += 1
        due = self._validate_every and len(plan.validation_positions) and self.epoch % self._validate_every == 0
        return bool(due)

    def validate(self, evaluator: Evaluator, counts: CountMatrix, packed: Packed) -> None:
        """Evaluate the validation cells of the epoch before, from one sample of each posterior."""
        noise = validation_noise(self.plan, self.steps)
        self.validated(evaluator.evaluate(packed, self.plan.validation_cells, *noise), counts)

    def validated(self, result: Evaluation, counts: CountMatrix) -> None:
        """Record a validation of the epoch before by its means, and stop where that is what it tells."""
        plan, epoch = self.plan, self.epoch - 1
        weight = kl_weight(epoch, plan.n_warmup_epochs, plan.train)
        reconstruction, kl, loss = mean_losses(result, plan, counts.batch[plan.validation_cells], weight)
        self._append(VALIDATION_CURVES, (reconstruction + kl, reconstruction, kl, loss))
        self._validation_epochs.append(epoch)
        monitored = self._curves[plan.train.early_stopping_monitor][-1]
        self._stopped = plan.train.early_stopping and self._stopping.should_stop(monitored)

    def result(self, packed: Packed) -> TrainedMember:
        """Return what the training leaves behind."""
        return TrainedMember(
            self.plan, packed, self.steps, self.epoch, self._curves, self._validation_epochs, self._failure
        )

    def _append(self, names: Sequence[str], values: Sequence[float]) -> None:
        for name, value in zip(names, values, strict=True):
            self._curves.setdefault(name, []).append(value)
