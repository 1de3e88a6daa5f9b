from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.helpers import report_fixture as made

from scballast.report.figure_names import drawable, figure_labels, one_line, shorten


@given(st.lists(st.text(max_size=60), unique=True, max_size=30), st.integers(12, 30))
def test_labels_are_distinct_short_and_on_one_line(names: list[str], limit: int) -> None:
    labels = figure_labels(names, limit)
    assert list(labels) == names
    assert len(set(labels.values())) == len(names)
    assert all(1 <= len(label) <= limit and "\n" not in label and "\r" not in label for label in labels.values())


def test_names_that_agree_at_both_ends_are_numbered() -> None:
    names = [f"{'a' * 40}{middle}{'b' * 40}" for middle in "123"]
    labels = list(figure_labels(names, 16).values())
    assert labels[0].endswith("b")
    assert labels[1].endswith("(2)")
    assert labels[2].endswith("(3)")


def test_unprintable_characters_do_not_reach_a_figure() -> None:
    assert one_line("T cell\n second\tline ") == "T cell second line"
    assert one_line("left\u202eright") == "leftright"  # a direction override would swap the letters
    assert one_line("\u200b\n") == "(blank)"
    assert drawable("äöü 細胞") == "äöü □□"


def test_shortening_keeps_both_ends() -> None:
    assert shorten("short", 8) == "short"
    short = shorten("CD4+ central memory T cell, activated", 16)
    assert len(short) <= 16
    assert short.startswith("CD4+")
    assert short.endswith("vated")


def test_hostile_names_keep_their_meaning() -> None:
    labels = figure_labels(made.HOSTILE, 40)
    assert labels["$\\frac{1}{0}$ cost $5"] == "$\\frac{1}{0}$ cost $5"
    assert labels["NA"] == "NA"
