"""What a notebook shows of a result, and how its genes are asked for."""

from __future__ import annotations

import inspect
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import scballast
from scballast.errors import ConfigError


@pytest.fixture
def result() -> scballast.RunResult:
    nan = float("nan")
    answer = pd.DataFrame(
        [
            ("B <cells>", "marker", "wilcoxon", 0.8, 0.7, 0.9, 0.1, 0.62, "so it is"),
            ("NK", "marker", "none", nan, nan, nan, nan, nan, "nothing holds"),
        ],
        columns=["population", "estimand", "method", "phi", "lower", "upper", "floor", "confirmed", "reason"],
    )
    genes = pd.DataFrame(
        {
            "population": "B <cells>",
            "estimand": "marker",
            "rank": [2, 1],
            "gene": ["g2", "g1"],
            "symbol": ["CD79A", "MS4A1"],
        }
    )
    return scballast.RunResult("r1", {"answer": answer, "answer_genes": genes}, {}, Path("runs/results/x"))


def test_genes_of_a_population_come_in_order(result: scballast.RunResult) -> None:
    assert list(result.genes("B <cells>")["symbol"]) == ["MS4A1", "CD79A"]
    assert result.genes("NK").empty
    with pytest.raises(ConfigError, match="Did you mean 'B <cells>'"):
        result.genes("B <cell>")
    with pytest.raises(ConfigError, match="estimand: 'program' is not known"):
        result.genes("NK", "program")


def test_a_notebook_shows_the_answer_and_no_markup_of_the_data(result: scballast.RunResult) -> None:
    shown = result._repr_html_()
    assert "B &lt;cells&gt;" in shown
    assert "MS4A1, CD79A" in shown
    assert "0.80 [0.70, 0.90]" in shown
    assert "nothing holds" in shown
    assert "nan" not in shown


def test_dir_lists_what_there_is_and_nothing_else(result: scballast.RunResult, tmp_path: Path) -> None:
    public = {name for name in dir(result) if not name.startswith("_")}
    own = {"run_id", "tables", "metrics", "folder", "genes", "model", "annotate"}
    assert repr(result) == "RunResult 'r1': 1 of 2 answers. Report: scballast report r1 draws it"
    (tmp_path / "report.html").touch()
    assert repr(replace(result, folder=tmp_path)).endswith(f"answers. Report: {tmp_path / 'report.html'}")
    assert public == own | {"answer", "answer_genes"}
    assert dir(scballast) == sorted(scballast.__all__)
    assert all(getattr(scballast, name) is not None for name in dir(scballast))
    with pytest.raises(AttributeError, match="tables: answer, answer_genes"):
        _ = result.stability


def entries(documented: object, section: str) -> list[str]:
    """Return the names in a section of a docstring, as numpydoc writes them."""
    text = inspect.getdoc(documented) or ""
    found = re.search(rf"^{section}\n-+\n(.*?)(?=\n\n\S[^\n]*\n-+\n|\Z)", text, flags=re.M | re.S)
    return re.findall(r"^(\w[^\n]*)$", found[1], flags=re.M) if found else []


PUBLIC = [getattr(scballast, name) for name in scballast.__all__ if not name.startswith("_")]
PUBLIC += [getattr(scballast.RunResult, name) for name in ("genes", "model", "annotate")]
PUBLIC += [getattr(scballast.CheckResult, name) for name in ("genes", "missed")]


@pytest.mark.parametrize("member", PUBLIC, ids=lambda member: member.__qualname__)
def test_help_describes_every_parameter_in_its_order_and_what_is_returned(member: object) -> None:
    signature = inspect.signature(member)  # type: ignore[arg-type]
    described = [name for entry in entries(member, "Parameters") for name in entry.split(" : ")[0].split(", ")]
    assert described == [name for name in signature.parameters if name != "self"]
    if not inspect.isclass(member) and signature.return_annotation not in (None, "None"):
        assert entries(member, "Returns")
