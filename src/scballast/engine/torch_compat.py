"""What this program uses of torch beyond its documented interface: one place to look when torch moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def forget_graphs(function: Callable[..., Any]) -> None:
    """Let a function be compiled anew, as if nothing that shares its code had been.

    Graphs of functions of one code are counted together, up to torch's limit for one function.
    """
    torch._dynamo.reset_code(function.__code__)  # type: ignore[attr-defined]


def any_size(tensor: Tensor, dimension: int) -> None:
    """Have one graph compiled for every size of a dimension from two; raises later where a graph is for one size."""
    torch._dynamo.mark_dynamic(tensor, dimension)


def compile_error() -> type[Exception]:
    """Return what a compiled function raises where it cannot be compiled, before it has run anything."""
    error: type[Exception] = torch._dynamo.exc.TorchDynamoException
    return error
