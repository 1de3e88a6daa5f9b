"""What a notebook shows of a result, and how its genes are asked for."""

from __future__ import annotations

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


def test_dir_lists_what_there_is(result: scballast.RunResult) -> None:
    assert {"answer", "answer_genes", "genes", "folder"} <= set(dir(result))
    assert {"run", "load", "train_ensemble", "Member"} <= set(dir(scballast))
