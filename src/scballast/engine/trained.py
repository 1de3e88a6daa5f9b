"""What a member's training leaves behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from scballast.engine.members import MemberPlan
from scballast.engine.packing import Packed

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


@dataclass
class CurveRecorder:
    """Collects a member's curves, as sums over cells turned into means per cell."""

    curves: dict[str, list[float]] = field(default_factory=dict)
    validation_epochs: list[int] = field(default_factory=list)

    def train(
        self, n_cells: int, reconstruction: float, kl_latent: float, kl_library: float, loss: float, kl_weight: float
    ) -> None:
        """Record one epoch's sums over the training cells."""
        kl = kl_latent + kl_library
        values = ((reconstruction + kl) / n_cells, reconstruction / n_cells, kl / n_cells, kl_weight, loss / n_cells)
        for name, value in zip(TRAIN_CURVES, values, strict=True):
            self.curves.setdefault(name, []).append(value)

    def validation(self, epoch: int, reconstruction: float, kl: float, loss: float) -> None:
        """Record one validation's means over the validation cells."""
        for name, value in zip(VALIDATION_CURVES, (reconstruction + kl, reconstruction, kl, loss), strict=True):
            self.curves.setdefault(name, []).append(value)
        self.validation_epochs.append(epoch)


def describe_failure(plan: MemberPlan, epoch: int) -> str:
    """Why a member was dropped."""
    return (
        f"the loss became non-finite at epoch {epoch} "
        f"(lr={plan.train.lr:g}, n_latent={plan.model.n_latent}, {len(plan.cells)} cells)"
    )
