"""No module of the data layer imports itself by way of others, not even for types or inside a function."""

from __future__ import annotations

import ast
from pathlib import Path

import scballast.data

FOLDER = Path(scballast.data.__file__).parent
PREFIX = "scballast.data."


def imported(path: Path) -> set[str]:
    """Return the modules of the data layer that a file imports anywhere."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name.removeprefix(PREFIX).split(".")[0] for name in names if name.startswith(PREFIX)}


def test_there_is_no_circle() -> None:
    graph = {path.stem: imported(path) for path in FOLDER.glob("*.py") if path.stem != "__init__"}
    while graph:
        leaves = [name for name, needed in graph.items() if not needed & graph.keys()]
        assert leaves, f"these import each other in a circle: {graph}"
        for name in leaves:
            del graph[name]
