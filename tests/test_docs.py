"""The documentation: notebooks run, the site builds without a warning, no link leads nowhere, nothing is remote."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from nbclient import NotebookClient

import scballast
from scballast.commands.help_page import described_keys
from scballast.methods.registry import METHODS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, nbformat.NotebookNode]:
    """Run each notebook in a folder of its own, as a user would: a kernel of this Python, `scballast` on the path."""
    notebooks = {}
    for path in NOTEBOOKS:
        folder = tmp_path_factory.mktemp(path.stem)
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "IPYTHONDIR": str(folder / "ipython"),
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "COLUMNS": "80",
        }
        environment.pop("MLFLOW_TRACKING_URI", None)
        notebook = nbformat.read(path, as_version=4)
        client = NotebookClient(notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": folder}})
        client.execute(env=environment)
        notebooks[path.stem] = notebook
    return notebooks


def outputs(notebook: nbformat.NotebookNode, mime: str) -> list[str]:
    return [
        output["data"][mime]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if mime in output.get("data", ())
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert len([cell for cell in notebook.cells if cell.cell_type == "markdown"]) >= 5
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
    assert path.stat().st_size < 20_000


@pytest.mark.slow
def test_own_data_goes_from_the_file_to_a_figure(executed: dict[str, nbformat.NotebookNode]) -> None:
    shown = outputs(executed["own_data"], "text/html")
    assert "method to trust" in shown[0]
    assert "Dendritic" in shown[0]
    assert "FCER1A" in shown[1]
    assert len(outputs(executed["own_data"], "image/png")) == 1
    assert "report.html" in outputs(executed["own_data"], "text/plain")[-1]


@pytest.mark.slow
def test_a_sweep_runs_and_is_compared_with_the_truth(executed: dict[str, nbformat.NotebookNode]) -> None:
    notebook = executed["sweep"]
    printed = ["".join(output.get("text", "") for output in cell.get("outputs", ())) for cell in notebook.cells]
    assert any("2 done, 0 failed, 2 in all" in text for text in printed)
    truth = ast.literal_eval(outputs(notebook, "text/plain")[-2])
    assert truth[10] > truth[2] + 0.1
    assert len(outputs(notebook, "image/png")) == 1


@pytest.fixture(scope="module")
def site(executed: dict[str, nbformat.NotebookNode], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site from the notebooks that have just run; every warning is an error."""
    pytest.importorskip("sphinx_book_theme", reason="the tools of the site are not here; `make docs` installs them")
    source = tmp_path_factory.mktemp("documentation")
    shutil.copytree(DOCS, source / "docs")
    (source / "tests" / "benchmarks").mkdir(parents=True)
    for name in ("README.md", "tests/benchmarks/RESULTS.md"):
        shutil.copyfile(ROOT / name, source / name)
    for name, notebook in executed.items():
        nbformat.write(notebook, source / "docs" / "notebooks" / f"{name}.ipynb")
    words = ["-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", "-D", "nb_execution_mode=off"]
    command = [sys.executable, *words, str(source / "docs"), str(source / "site")]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return source / "site"


class _Links(HTMLParser):
    """Collects what a page links to, what it loads, and the places in it that can be linked to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.places: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.places |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif "src" in values:
            self.loaded.append(values["src"])
        elif tag == "link" and values.get("rel") not in ("canonical", "prev", "next", "index", "search", "author"):
            self.loaded.append(values["href"])


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, _Links]:
    # The theme keeps a template of its own among its styles.
    found = [page for page in sorted(site.rglob("*.html")) if "_static" not in page.parts]
    return {page.resolve(): _Links(page) for page in found}


@pytest.mark.slow
@pytest.mark.docs
def test_every_link_of_the_site_leads_somewhere(pages: dict[Path, _Links]) -> None:
    astray, followed = [], 0
    for page, found in pages.items():
        for link in [*found.links, *found.loaded]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            followed += 1
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            place = unquote(parts.fragment)
            if not target.is_file() or (place and target in pages and place not in pages[target].places):
                astray.append(f"{page.name}: {link}")
    assert astray == []
    assert followed > 200


@pytest.mark.slow
@pytest.mark.docs
def test_the_site_loads_nothing_from_another_host(site: Path, pages: dict[Path, _Links]) -> None:
    remote = [f"{page.name}: {source}" for page, found in pages.items() for source in found.loaded if "//" in source]
    for style in site.rglob("*.css"):
        addresses = re.findall(r"(?:url\(|@import)\s*[\"']?([^\"')]+)", style.read_text(encoding="utf-8"))
        remote += [f"{style.name}: {address}" for address in addresses if re.match(r"(https?:)?//", address)]
    assert remote == []


@pytest.mark.slow
@pytest.mark.docs
def test_the_site_holds_every_method_key_and_public_name(site: Path, pages: dict[Path, _Links]) -> None:
    def words(name: str) -> str:
        return (site / f"{name}.html").read_text(encoding="utf-8")

    assert [name for name in METHODS if f">{name}</span>" not in words("methods")] == []
    assert [key for key, _, _ in described_keys() if f">{key}</span>" not in words("keys")] == []
    public = {f"scballast.{name}" for name in scballast.__all__ if not name.startswith("_")}
    public |= {f"scballast.RunResult.{name}" for name in ("genes", "model", "annotate")}
    public |= {f"scballast.CheckResult.{name}" for name in ("genes", "missed")}
    places = pages[(site / "api.html").resolve()].places
    assert {name for name in public if not any(place == name or place.endswith(name) for place in places)} == set()
    assert "Two commands" in words("index")
    assert "bench_planted" in words("benchmarks")
    assert "data:image/png" in words("notebooks/own_data") or "_images" in words("notebooks/own_data")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_lead_to_files(page: Path) -> None:
    """What a reader of the repository follows: links, and paths that are named in the text."""
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
    named = re.findall(r"`((?:tests|docs|conf|src)/[\w./-]*\w)`", text)
    # NAME stands for a name of the reader's.
    assert [name for name in named if "NAME" not in name and not (ROOT / name).exists()] == []


def test_the_table_of_methods_names_each_under_what_it_estimates() -> None:
    rows = re.findall(r"^\| (`.+?`) \| (\w+) \|", (DOCS / "reading.md").read_text(encoding="utf-8"), flags=re.M)
    told = {name: kind for names, kind in rows for name in re.findall(r"`(\w+)`", names)}
    assert told == {name: "control" if method.control else method.estimand for name, method in METHODS.items()}
