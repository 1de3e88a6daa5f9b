"""scballast: which genes of a cell population can be trusted, and which way of getting them gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scballast.api import CheckResult as CheckResult
    from scballast.api import RunResult as RunResult
    from scballast.api import check as check
    from scballast.api import load as load
    from scballast.api import run as run
    from scballast.engine import Member as Member
    from scballast.engine import train_ensemble as train_ensemble

__version__ = "0.1.0"

# Imported when first used: torch and scvi-tools take seconds, and `scballast --help` must not.
_HOMES = {
    "CheckResult": "scballast.api",
    "Member": "scballast.engine",
    "RunResult": "scballast.api",
    "check": "scballast.api",
    "load": "scballast.api",
    "run": "scballast.api",
    "train_ensemble": "scballast.engine",
}
__all__ = ["CheckResult", "Member", "RunResult", "__version__", "check", "load", "run", "train_ensemble"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        message = f"module 'scballast' has no attribute {name!r}"
        raise AttributeError(message)
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
