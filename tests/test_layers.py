"""Imports go down the layers only, and heavy libraries are imported where they are used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import scballast

PACKAGE = Path(scballast.__file__).parent

# Lower layers first. A module may import from its own layer and from those before it.
LAYERS = (
    ("errors", "config", "simulation_config", "addresses", "seeds", "progress", "threads"),
    ("resample", "data", "ranking", "statistic", "arguments", "overlap", "cache"),
    (
        "rank_agreement",
        "stability",
        "concordance",
        "factors",
        "score_set",
        "floors",
        "evaluation",
        "answer",
        "association",
        "purity",
        "rank_agreement",
        "purity",
        "truth",
        "baselines",
        "rankers",
        "engine",
        "models",
    ),
    ("methods", "training", "scoring", "fit", "latent", "metrics", "results", "gene_table", "experiment"),
    ("tracking", "report", "annotate"),
    ("trial",),
    ("sweep", "summary", "ui", "export", "compose"),
    ("api", "cli", "__init__"),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}

PURE = (
    "ranking", "statistic", "arguments", "overlap", "rank_agreement", "stability", "concordance", "factors", "rankers",
    "resample",
)  # fmt: skip
ALLOWED_IN_PURE = {"numpy", "scipy", "scballast"}
HEAVY = {"torch", "scvi", "scanpy", "anndata", "mlflow", "optuna", "pandas", "sklearn", "matplotlib", "lightning"}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "conf" not in path.relative_to(PACKAGE).parts)


def part_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def imports(tree: ast.AST, path: Path, *, top_level_only: bool) -> set[str]:
    found: set[str] = set()
    for node in top_level(tree) if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = ("scballast", *path.relative_to(PACKAGE).parts)[: -node.level]
            found.add(".".join((*base, node.module)) if node.module else ".".join(base))
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def top_level(tree: ast.AST) -> list[ast.stmt]:
    return [node for node in getattr(tree, "body", []) if isinstance(node, (ast.Import, ast.ImportFrom))]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    part = part_of(path)
    assert part in LEVEL, f"{part} has no layer; give it one in this test"
    for name in imports(ast.parse(path.read_text()), path, top_level_only=False):
        if name.startswith("scballast.") and part != "__init__":
            target = name.split(".")[1]
            assert LEVEL.get(target, 0) <= LEVEL[part], f"{part} imports upwards: {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_mlflow_is_imported_in_tracking_only(path: Path) -> None:
    used = {name.split(".")[0] for name in imports(ast.parse(path.read_text()), path, top_level_only=False)}
    assert "mlflow" not in used or part_of(path) == "tracking"


@pytest.mark.parametrize("name", PURE)
def test_statistics_need_numpy_and_scipy_only(name: str) -> None:
    path = PACKAGE / f"{name}.py"
    used = {module.split(".")[0] for module in imports(ast.parse(path.read_text()), path, top_level_only=True)}
    assert used - set(sys.stdlib_module_names) <= ALLOWED_IN_PURE


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    code = "import sys, scballast.cli; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not HEAVY & set(loaded)
