"""scballast: which genes of a cell population can be trusted, and which way of getting them gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scballast.api import CheckResult, RunResult, check, load, run
    from scballast.engine import Member, train_ensemble

__version__ = "0.1.0"
__all__ = ["CheckResult", "Member", "RunResult", "__version__", "check", "load", "run", "train_ensemble"]


def __getattr__(name: str) -> Any:
    """Import what is public when it is first used: torch and scvi-tools take seconds, and ``--help`` must not."""
    if name not in __all__:
        message = f"module 'scballast' has no attribute {name!r}"
        raise AttributeError(message)
    import importlib

    home = "scballast.engine" if name in ("Member", "train_ensemble") else "scballast.api"
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return __all__
