"""Sweeps: grids and Optuna studies that survive kills, are shared by many workers, and are one tree in MLflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scballast.sweep.controller import run_sweep as run_sweep

__all__ = ["run_sweep"]


def __getattr__(name: str) -> Any:
    if name != "run_sweep":
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from scballast.sweep.controller import run_sweep

    return run_sweep
