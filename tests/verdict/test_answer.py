"""The rule of the answer, on hand-made tables."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import pandas as pd
import pytest

from scballast.verdict.answer import SMALLEST_SHARE, answer_table

NAN = math.nan


def confirmation(**methods: tuple[float, float]) -> pd.DataFrame:
    """Confirmation of marker methods on one population: share confirmed, lower bound."""
    rows = [
        {"population": "B", "estimand": "marker", "method": name, "confirmed": share, "lower": lower, "pi": share,
         "n_genes": 50, "n_cells_unseen": 40, "reason": "" if share == share else "too few unseen cells for a test"}
        for name, (share, lower) in methods.items()
    ]  # fmt: skip
    columns = ["population", "estimand", "method", "confirmed", "lower", "pi", "n_genes", "n_cells_unseen", "reason"]
    return pd.DataFrame(rows, columns=columns)


def stability(*methods: str) -> pd.DataFrame:
    numbers = {"phi": 0.6, "lower": 0.5, "upper": 0.7, "floor": 0.1, "reason": ""}
    rows = [
        {"method": name, "estimand": "marker", "population": "B", "k": k, **numbers}
        for name in methods
        for k in (10, 50)
    ]
    return pd.DataFrame(rows)


def concordance(**pairs: float) -> pd.DataFrame:
    rows = [
        {"method_a": pair.split("__")[0], "method_b": pair.split("__")[1], "estimand": "marker", "population": "B",
         "overlap": overlap, "lower": overlap, "upper": overlap, "floor": 0.0}
        for pair, overlap in pairs.items()
    ]  # fmt: skip
    columns = ["method_a", "method_b", "estimand", "population", "overlap", "lower", "upper", "floor"]
    return pd.DataFrame(rows, columns=columns)


def decide(
    confirmed: pd.DataFrame,
    truth: pd.DataFrame | None = None,
    undertrained: Collection[tuple[str, str]] = (),
    **pairs: float,
) -> Any:
    table = stability(*confirmed["method"])
    answer = answer_table(table, concordance(**pairs), confirmed, truth, undertrained=undertrained)
    assert len(answer) == 1
    return answer.iloc[0]


def test_the_most_confirmed_trusted_method_is_the_answer() -> None:
    found = decide(
        confirmation(contrast=(0.8, 0.7), wilcoxon=(0.92, 0.82), logreg=(0.3, 0.04)),
        wilcoxon__contrast=0.6,
        wilcoxon__logreg=0.1,
    )
    assert found["method"] == "wilcoxon"
    assert (found["confirmed"], found["confirmed_lower"]) == (0.92, 0.82)
    assert (found["phi"], found["lower"], found["upper"], found["floor"]) == (0.6, 0.5, 0.7, 0.1)
    assert (found["concordance"], found["reference"]) == (0.6, "contrast")
    assert found["reason"].startswith("At least 41 of 50 genes hold in cells it never saw (95%), 46 are confirmed")
    assert "the most of 2 trusted methods among 3" in found["reason"]


def test_equals_are_told_apart_by_their_bounds() -> None:
    assert decide(confirmation(contrast=(0.8, 0.6), wilcoxon=(0.8, 0.7)))["method"] == "wilcoxon"


def test_a_stable_method_that_is_not_confirmed_is_no_answer() -> None:
    found = decide(confirmation(contrast=(0.3, SMALLEST_SHARE - 0.02), wilcoxon=(0.1, 0.0)))
    assert found["method"] == "none"
    assert "the closest, at least 4 of 50" in found["reason"]
    assert found["reason"].startswith("No method is confirmed: of the list of contrast")
    assert math.isnan(found["phi"])
    assert math.isnan(found["confirmed"])
    assert found["reference"] == ""


def test_the_threshold_itself_is_trusted() -> None:
    assert decide(confirmation(contrast=(0.3, 5 / 50)))["method"] == "contrast"


def test_controls_and_undertrained_models_are_not_named() -> None:
    confirmed = confirmation(shuffled=(1.0, 1.0), random=(1.0, 1.0), contrast=(0.9, 0.8), wilcoxon=(0.5, 0.4))
    assert decide(confirmed)["method"] == "contrast"
    assert decide(confirmed, undertrained={("contrast", "B")})["method"] == "wilcoxon"
    assert decide(confirmed, undertrained={("contrast", "another")})["method"] == "contrast"
    nobody = decide(confirmation(contrast=(0.9, 0.8)), undertrained={("contrast", "B")})
    assert nobody["method"] == "none"
    assert "too few gradient steps are not named: contrast" in nobody["reason"]


def test_without_unseen_cells_the_answer_is_none_and_says_why() -> None:
    found = decide(confirmation(contrast=(NAN, NAN)))
    assert found["method"] == "none"
    assert "too few unseen cells" in found["reason"]


def test_truth_stands_beside_the_answer_and_does_not_decide_it() -> None:
    rows = [
        {"method": method, "estimand": "marker", "population": "B", "average_precision": value}
        for method, value in (("contrast", 0.9), ("wilcoxon", 0.2), ("wilcoxon", 0.4))
    ]
    found = decide(confirmation(contrast=(0.8, 0.7), wilcoxon=(0.9, 0.8)), pd.DataFrame(rows))
    assert found["method"] == "wilcoxon"
    assert found["average_precision"] == pytest.approx(0.3)


def test_each_population_and_estimand_has_its_own_answer() -> None:
    tables = [
        confirmation(contrast=(share, share)).assign(population=population, estimand=estimand)
        for population, estimand, share in (("A", "marker", 0.9), ("A", "program", 0.0), ("B", "marker", 0.02))
    ]
    answer = answer_table(stability("contrast"), concordance(), pd.concat(tables))
    assert answer["method"].tolist() == ["contrast", "none", "none"]
    assert answer[["population", "estimand"]].values.tolist() == [["A", "marker"], ["A", "program"], ["B", "marker"]]
