"""The rule of the answer, step by step, on hand-made tables and on score sets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from tests.helpers.score_set_examples import ranked, signal, two_labels

from scballast.verdict.answer import answer_table
from scballast.verdict.tables import concordance_table, stability_table

Overlaps = Mapping[tuple[str, str], tuple[float, float, float, float]]  # overlap, lower, upper, floor


def stability(**methods: tuple[float, float, float]) -> pd.DataFrame:
    """Stability of marker methods on one population: lower bound, upper bound, floor."""
    rows = [
        {
            "method": name,
            "estimand": "marker",
            "population": "B",
            "k": k,
            "phi": (lower + upper) / 2 if k == 50 else 0.0,
            "lower": lower if k == 50 else 0.0,
            "upper": upper if k == 50 else 0.0,
            "floor": floor if k == 50 else 1.0,
            "reason": "n/a: deterministic" if math.isnan(lower) else "",
        }
        for name, (lower, upper, floor) in methods.items()
        for k in (10, 50)
    ]
    return pd.DataFrame(rows)


def concordance(overlaps: Overlaps) -> pd.DataFrame:
    columns = ["overlap", "lower", "upper", "floor"]
    rows = [
        {
            "method_a": a,
            "method_b": b,
            "estimand": "marker",
            "population": "B",
            **dict(zip(columns, values, strict=True)),
        }
        for (a, b), values in overlaps.items()
    ]
    return pd.DataFrame(rows, columns=["method_a", "method_b", "estimand", "population", *columns])


def decide(table: pd.DataFrame, overlaps: Overlaps, truth: pd.DataFrame | None = None) -> Any:
    answer = answer_table(table, concordance(overlaps), truth)
    assert len(answer) == 1
    return answer.iloc[0]


NAN = math.nan
STABLE = (0.5, 0.7, 0.1)
UNSTABLE = (0.05, 0.2, 0.1)
AGREE = (0.6, 0.5, 0.7, 0.1)
DIFFER = (0.1, 0.05, 0.15, 0.1)


def test_the_most_concordant_stable_method_is_the_answer() -> None:
    table = stability(contrast=STABLE, wilcoxon=(0.4, 0.6, 0.1), logreg=(0.8, 0.9, 0.1))
    overlaps = {("contrast", "wilcoxon"): AGREE, ("contrast", "logreg"): (0.5, 0.45, 0.52, 0.1)}
    overlaps[("wilcoxon", "logreg")] = DIFFER
    found = decide(table, overlaps)
    assert found["method"] == "contrast"
    assert (found["lower"], found["upper"], found["floor"]) == STABLE
    assert found["concordance"] == (0.6 + 0.5) / 2
    assert found["reference"] == "wilcoxon, logreg"
    assert "Stability 0.60 [0.50, 0.70] against a floor of 0.10" in found["reason"]


def test_methods_about_as_concordant_are_told_apart_by_their_stability() -> None:
    table = stability(contrast=STABLE, wilcoxon=(0.55, 0.65, 0.1), logreg=(0.6, 0.7, 0.3))
    overlaps = dict.fromkeys([("contrast", "wilcoxon"), ("contrast", "logreg"), ("wilcoxon", "logreg")], AGREE)
    assert decide(table, overlaps)["method"] == "wilcoxon"


def test_truth_tells_them_apart_where_there_is_truth() -> None:
    table = stability(contrast=STABLE, wilcoxon=(0.55, 0.65, 0.1), logreg=(0.6, 0.7, 0.3), axis=UNSTABLE)
    overlaps = dict.fromkeys([("contrast", "wilcoxon"), ("contrast", "logreg"), ("wilcoxon", "logreg")], AGREE)
    precision = {"contrast": [0.2, 0.3], "wilcoxon": [0.4, 0.6], "logreg": [0.5, 0.6], "axis": [1.0, 1.0]}
    truth = pd.DataFrame(
        [
            {"method": method, "estimand": "marker", "population": "B", "average_precision": value}
            for method, values in precision.items()
            for value in values
        ]
    )
    found = decide(table, overlaps, truth)
    assert found["method"] == "logreg"
    assert found["average_precision"] == 0.55
    assert "highest average precision, 0.55" in found["reason"]


def test_unstable_methods_are_neither_answer_nor_reference() -> None:
    table = stability(contrast=STABLE, wilcoxon=UNSTABLE)
    found = decide(table, {("contrast", "wilcoxon"): AGREE})
    assert found["method"] == "none"
    assert (
        found["reason"] == "contrast (0.60 [0.50, 0.70]) is stable, but there is no other stable method to confirm it."
    )
    assert math.isnan(found["phi"])
    assert found["reference"] == ""


def test_none_is_stable() -> None:
    found = decide(stability(contrast=UNSTABLE, wilcoxon=(0.2, 0.4, 0.21)), {("contrast", "wilcoxon"): AGREE})
    assert found["method"] == "none"
    assert "the closest, wilcoxon, has a stability of 0.30 [0.20, 0.40] against a floor of 0.21" in found["reason"]


def test_no_two_agree() -> None:
    table = stability(contrast=STABLE, wilcoxon=STABLE, logreg=STABLE)
    overlaps = dict.fromkeys([("contrast", "wilcoxon"), ("contrast", "logreg")], DIFFER)
    overlaps[("wilcoxon", "logreg")] = (0.2, 0.08, 0.3, 0.1)
    found = decide(table, overlaps)
    assert found["method"] == "none"
    assert (
        "the closest, wilcoxon and logreg, have an overlap of 0.20 [0.08, 0.30] against a floor of 0.10"
        in found["reason"]
    )


def test_controls_are_neither_answer_nor_reference() -> None:
    found = decide(stability(shuffled=(0.9, 1.0, 0.0), contrast=STABLE), {("shuffled", "contrast"): AGREE})
    assert found["method"] == "none"


def test_deterministic_methods_over_seeds_confirm_but_do_not_answer() -> None:
    table = stability(contrast=STABLE, wilcoxon=(NAN, NAN, NAN))
    found = decide(table, {("contrast", "wilcoxon"): AGREE})
    assert (found["method"], found["reference"]) == ("contrast", "wilcoxon")
    alone = decide(stability(wilcoxon=(NAN, NAN, NAN)), {})
    assert alone["method"] == "none"
    assert "No method has both an interval" in alone["reason"]


def test_without_intervals_the_answer_is_none() -> None:
    scores = {"contrast": signal(0, 0.1, (2, 3, 80)), "wilcoxon": signal(1, 0.1, (2, 3, 80))}
    score_set = ranked(scores)
    answer = answer_table(stability_table(score_set, 20), concordance_table(score_set, 20), top_k=20)
    assert (answer["method"] == "none").all()
    assert answer["reason"].str.contains("3 replicates or more").all()


def test_each_population_and_estimand_has_its_own_answer() -> None:
    strong, weak = signal(0, 0.3, (6, 2, 300)), signal(1, 0.3, (6, 2, 300))
    noise = np.random.default_rng(5).normal(size=(6, 2, 300))
    other = np.random.default_rng(6).normal(size=(6, 2, 300))
    strong[:, 1], weak[:, 1] = noise[:, 1], other[:, 1]  # population 1 has no markers
    score_set = ranked(
        {"contrast": strong, "wilcoxon": weak, "spread": noise, "local": other}, program=["spread", "local"]
    )
    answer = answer_table(stability_table(score_set), concordance_table(score_set))
    keys = answer[["population", "estimand"]].itertuples(index=False, name=None)
    assert list(keys) == [(f"population {i}", estimand) for estimand in ("marker", "program") for i in (0, 1)]
    assert answer["method"].iloc[0] in {"contrast", "wilcoxon"}
    assert answer["method"].tolist()[1:] == ["none"] * 3


def test_random_labels_have_no_answer_and_differing_ones_have() -> None:
    for seed, effect in ((0, 0.0), (1, 0.0), (2, 0.0), (0, 0.9)):
        score_set = ranked(two_labels(seed, effect))
        answer = answer_table(stability_table(score_set, 30), concordance_table(score_set, 30), top_k=30)
        assert (answer["method"] == "none").all() == (effect == 0.0)
