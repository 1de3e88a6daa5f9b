"""Nothing foreign is executed: no code from files, no markup from names, nothing fetched by a report."""

from __future__ import annotations

import ast
import html.parser
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.helpers.data_examples import small_adata, written

import scballast
from scballast.errors import DataError
from scballast.models.saved import load_saved_model

PACKAGE = Path(scballast.__file__).parent
MODULES = sorted(path for path in PACKAGE.parent.rglob("*.py") if "conf" not in path.relative_to(PACKAGE.parent).parts)

# Each runs code that a file or a string holds, or hands a string to a shell.
FORBIDDEN = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "os.system",
    "os.popen",
    "yaml.load",
    "yaml.load_all",
    "yaml.full_load",
    "yaml.unsafe_load",
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "joblib.load",
    "pandas.read_pickle",
    "pd.read_pickle",
    "cloudpickle.load",
    "cloudpickle.loads",
    "dill.load",
    "marshal.loads",
    "shelve.open",
    "hydra.utils.instantiate",
    "instantiate",
}
# With the argument that makes them safe.
SAFE_ONLY_WITH = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}
# Written by the very function that reads it.
VETTED = {("models/saved.py", "torch.load")}


def calls(path: Path) -> list[tuple[str, dict[str, Any], int]]:
    """Return dotted name, constant keyword arguments and line of every call of a module."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            constants = {
                word.arg: word.value.value
                for word in node.keywords
                if word.arg is not None and isinstance(word.value, ast.Constant)
            }
            found.append((ast.unparse(node.func), constants, node.lineno))
    return found


def unsafe_calls(path: Path) -> list[str]:
    """Return what a module calls that could run foreign code, with its line."""
    found = []
    for name, constants, line in calls(path):
        unsafe = name in FORBIDDEN or constants.get("shell") is True
        if name in SAFE_ONLY_WITH:
            argument, value = SAFE_ONLY_WITH[name]
            unsafe = constants.get(argument) is not value
        if unsafe:
            found.append(f"{name}:{line}")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE.parent)))
def test_no_module_runs_code_that_it_reads(path: Path) -> None:
    found = unsafe_calls(path)
    relative = path.relative_to(PACKAGE.parent).as_posix().removeprefix("scballast/")
    vetted = [call for call in found if (relative, call.partition(":")[0]) in VETTED]
    assert len(vetted) <= 1
    assert found == vetted


def test_the_search_finds_what_it_forbids(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "import yaml, pickle, torch, subprocess, numpy as np\n"
        "yaml.load('')\npickle.loads(b'')\ntorch.load('x')\ntorch.load('x', weights_only=True)\n"
        "np.load('x')\nsubprocess.run('ls', shell=True)\neval('1')\nmodel.eval()\nyaml.safe_load('')\n"
    )
    assert [call.partition(":")[0] for call in unsafe_calls(path)] == [
        "yaml.load",
        "pickle.loads",
        "torch.load",
        "np.load",
        "subprocess.run",
        "eval",
    ]


class RunsOnLoad:
    """What a malicious pickle does: leave a trace when it is opened."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_model_that_holds_code_is_not_opened(writer: str, tmp_path: Path) -> None:
    import torch

    content = {"var_names": np.array(["gene0"], dtype=object), "attr_dict": RunsOnLoad(tmp_path / "trace")}
    if writer == "torch":
        torch.save(content, tmp_path / "model.pt")
    else:
        (tmp_path / "model.pt").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(DataError, match="holds more than weights and plain values"):
        load_saved_model(tmp_path, small_adata())
    assert not (tmp_path / "trace").exists()


HOSTILE = ("<script>alert(1)</script>", "../../<img src=x onerror=alert(1)>\n[x](javascript:alert(1))")


class Page(html.parser.HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_hostile_names_reach_no_path_no_metric_and_no_markup(tmp_path: Path) -> None:
    labels = pd.DataFrame({"label": np.tile(HOSTILE, 30)}, index=[f"cell{i}" for i in range(60)])
    labels.to_csv(tmp_path / "labels.csv")
    words = ["data=h5ad", f"data.path={written(tmp_path)}", f"data.labels={tmp_path / 'labels.csv'}"]
    words += ["data.population_key=label", "data.min_cells=5", "data.n_top_genes=null", "data.name='../<b>'"]
    words += ["model=pca", "model.n_latent=3", "methods=[t_test,contrast,per_population]", "rank.top_k=5"]
    words += ["resample.n_replicates=3", "association.n_permutations=9", f"runs_dir={tmp_path / 'runs'}"]
    found = scballast.run(words)
    assert set(found.populations["population"]) == set(HOSTILE)
    for path in (tmp_path / "runs").rglob("*"):
        assert not set("<>()[]\n") & set(str(path.relative_to(tmp_path))), path
    for metric in found.metrics:
        assert not set("<>()[]\n") & set(metric), metric
    html = (found.folder / "report.html").read_text(encoding="utf-8")
    # The page's own script, the same whatever the data are, and no other.
    script = html.partition("<script>")[2].partition("</script>")[0].strip()
    assert html.count("<script") == 1
    assert script == (PACKAGE / "report" / "templates" / "report.js").read_text(encoding="utf-8").strip()
    page = Page(html)
    assert not {"iframe", "link", "object", "embed", "base", "form"} & page.tags
    for name, value in page.attributes:
        assert not name.startswith("on")
        assert name not in ("src", "href") or value.startswith(("#", "data:image/", "data:text/csv"))
    description = (found.folder / "description.md").read_text(encoding="utf-8")
    assert "<script" not in description
    assert "<img" not in description
    assert "](javascript" not in description
    drawings = [path.read_text(encoding="utf-8") for path in (found.folder / "figures").glob("*.svg")]
    assert drawings
    assert not any("<script" in drawing or "onerror=alert(1)>" in drawing for drawing in drawings)
