"""The training engine: all members of an ensemble at once, each as scvi-tools would train it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scballast.engine.interface import HeldoutFit, Member, TrainedEnsemble

if TYPE_CHECKING:
    from scballast.engine.ensemble import fit_ensemble as fit_ensemble
    from scballast.engine.ensemble import train_ensemble as train_ensemble

__all__ = ["HeldoutFit", "Member", "TrainedEnsemble", "fit_ensemble", "train_ensemble"]


def __getattr__(name: str) -> Any:
    # Imported when first used: scipy and torch take seconds, and the interface is read by `scballast --help`.
    if name in ("fit_ensemble", "train_ensemble"):
        from scballast.engine import ensemble

        return getattr(ensemble, name)
    message = f"module 'scballast.engine' has no attribute {name!r}"
    raise AttributeError(message)
