"""Variables, parameters and attributes are called by what they hold."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import scballast

PACKAGE = Path(scballast.__file__).parent
# Words that leave a reader to find out whose, what was found, and one of what.
EMPTY = {"own", "found", "one"}


def bound_names(tree: ast.AST) -> Iterator[tuple[str | None, int]]:
    """Every name that code gives to something, with its line."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(ctx=ast.Store()):
                yield node.id, node.lineno
            case ast.Attribute(ctx=ast.Store()):
                yield node.attr, node.lineno
            case ast.arg():
                yield node.arg, node.lineno
            case ast.FunctionDef() | ast.ClassDef() | ast.ExceptHandler() | ast.MatchAs() | ast.MatchStar():
                yield node.name, node.lineno
            case ast.alias():
                yield node.asname or node.name, node.lineno


@pytest.mark.parametrize(
    "code",
    [
        "own = 1", "for found in x: pass", "def f(one): pass", "lambda own: own", "[one for one in x]",
        "self.found = 1", "class C:\n    own: int", "(found := 1)", "import x as one", "with x as (own, other): pass",
        "def found(): pass", "try: pass\nexcept E as one: pass",
    ],
)  # fmt: skip
def test_every_way_to_bind_a_name_is_seen(code: str) -> None:
    assert EMPTY & {name for name, _ in bound_names(ast.parse(code))}


def test_no_name_leaves_the_reader_to_find_out_what_it_holds() -> None:
    empty = [
        f"{path.relative_to(PACKAGE)}:{line}: {name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for name, line in bound_names(ast.parse(path.read_text(encoding="utf-8")))
        if name in EMPTY
    ]
    assert not empty, f"call these by what they hold: {empty}"
