"""What is used of torch beyond its documented interface is still there; see scballast.engine.torch_compat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch._dynamo

from scballast.engine import torch_compat

MOVED = "torch has moved: adapt scballast/engine/torch_compat.py"


def double(values: torch.Tensor) -> torch.Tensor:
    return values * 2


def counting() -> tuple[list[Any], Callable[..., Any]]:
    """A backend that compiles nothing, and the graphs that it was given."""
    graphs: list[Any] = []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    return graphs, backend


@pytest.mark.parametrize("name", ["reset_code", "mark_dynamic"])
def test_what_is_called_is_there(name: str) -> None:
    assert callable(getattr(torch._dynamo, name, None)), f"torch._dynamo.{name}: {MOVED}"


def test_a_marked_dimension_has_one_graph_for_every_size() -> None:
    graphs, backend = counting()
    torch_compat.forget_graphs(double)
    compiled = torch.compile(double, fullgraph=True, dynamic=False, backend=backend)
    for size in (2, 3, 5):
        values = torch.arange(float(2 * size)).reshape(size, 2)
        torch_compat.any_size(values, 0)
        assert torch.equal(compiled(values), 2 * values)
    assert len(graphs) == 1, MOVED
    for size in (2, 3):
        compiled(torch.ones(2, size + 5))
    assert len(graphs) == 3, "without the mark every size has its graph"


def test_forgotten_graphs_are_compiled_anew() -> None:
    graphs, backend = counting()
    torch_compat.forget_graphs(double)
    compiled = torch.compile(double, fullgraph=True, dynamic=False, backend=backend)
    compiled(torch.ones(4))
    compiled(torch.ones(4))
    assert len(graphs) == 1
    torch_compat.forget_graphs(double)
    compiled(torch.ones(4))
    assert len(graphs) == 2, MOVED


def test_what_cannot_be_compiled_raises_the_named_error() -> None:
    def broken(*_: Any) -> Any:
        message = "no compiler here"
        raise RuntimeError(message)

    expected = getattr(getattr(torch._dynamo, "exc", None), "TorchDynamoException", None)
    assert expected is not None, f"torch._dynamo.exc.TorchDynamoException: {MOVED}"
    torch_compat.forget_graphs(double)
    with pytest.raises(Exception, match="no compiler here") as raised:
        torch.compile(double, fullgraph=True, backend=broken)(torch.ones(4))
    assert isinstance(raised.value, torch_compat.compile_error()), MOVED
