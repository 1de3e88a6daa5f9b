"""Imports go down the folders only, and heavy libraries are imported where they are used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import scballast

PACKAGE = Path(scballast.__file__).parent

# Lower layers first; a folder may import from itself and from those before it, but for those it must not know.
FOLDERS = (
    "engine", "config", "agreement", "data", "models", "methods", "verdict", "experiment", "tracking", "report",
    "sweep", "commands",
)  # fmt: skip
NOT_KNOWN = {"agreement": {"config", "engine"}, "config": {"engine"}, "report": {"tracking"}}
FOUNDATION = ("arrays", "errors", "progress", "results", "seeds", "threads")
ROOT_MODULES = (*FOUNDATION, "__init__", "annotate", "api")
HEAVY = {"torch", "scvi", "scanpy", "anndata", "mlflow", "optuna", "pandas", "sklearn", "matplotlib", "lightning"}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "conf" not in path.relative_to(PACKAGE).parts)


def folder_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def name_of(path: Path) -> str:
    parts = ("scballast", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    """Names of the modules that a file imports; `from package import module` counts as the module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            known = {f"{node.module}.{alias.name}" for alias in node.names} & {name_of(other) for other in modules()}
            names |= known or {node.module}
    return names


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_go_down(path: Path) -> None:
    folder = folder_of(path)
    if folder in ("__init__", "api", "annotate"):
        return
    used = {name.split(".")[1] for name in imports(path) if name.startswith("scballast.")} - {folder}
    lower = () if folder in FOUNDATION else FOLDERS[: FOLDERS.index(folder)]
    allowed = {*FOUNDATION, *lower} - NOT_KNOWN.get(folder, set())
    assert used <= allowed, f"{name_of(path)} imports upwards: {sorted(used - allowed)}"


def test_the_root_holds_what_has_no_folder() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == set(ROOT_MODULES)
    assert {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()} == set(FOLDERS)


def test_no_imports_go_in_a_circle() -> None:
    graph = {name_of(path): imports(path) for path in modules()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"a circle: {' → '.join((*trail[trail.index(name) :], name))}"
        if name in done:
            return
        for other in sorted(graph[name] & set(graph) - {name}):
            visit(other, (*trail, name))
        done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_mlflow_is_imported_in_tracking_only(path: Path) -> None:
    assert "mlflow" not in {name.split(".")[0] for name in imports(path)} or folder_of(path) == "tracking"


@pytest.mark.parametrize("path", sorted((PACKAGE / "agreement").glob("*.py")), ids=name_of)
def test_agreement_needs_numpy_and_scipy_only(path: Path) -> None:
    used = {module.split(".")[0] for module in imports(path)}
    assert used - set(sys.stdlib_module_names) <= {"numpy", "scipy", "scballast"}


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    code = "import sys, scballast.commands.terminal; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not HEAVY & set(loaded)
