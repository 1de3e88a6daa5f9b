"""Which results the UI shows of every run at first."""

from __future__ import annotations

from scballast.tracking.shared_view import result_metrics


def test_the_shown_results_are_few_and_no_controls() -> None:
    methods = ("random", "wilcoxon", "axis", "contrast", "t_test", "local", "spread", "logreg")
    known = [f"{group}/{method}" for group in ("stability", "confirmed") for method in methods]
    shown = result_metrics([*known, "stability/contrast/B", "fit/heldout_nll", "seconds/total", "seconds/training"])
    assert shown == [
        "fit/heldout_nll",
        *(f"confirmed/{method}" for method in ("contrast", "local", "axis", "wilcoxon", "t_test")),
        "stability/contrast",
        "seconds/total",
    ]


def test_results_of_other_kinds_are_shown_as_far_as_they_go() -> None:
    assert result_metrics(["stability/t_test", "stability/wilcoxon"]) == ["stability/wilcoxon"]
    assert result_metrics(["check/hold"]) == []
