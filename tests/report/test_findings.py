"""The sentence under a figure is made of the stored numbers."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from tests.helpers import report_fixture as made

from scballast.report.answer_section import answers
from scballast.report.findings import finding
from scballast.report.gene_cards import cards
from scballast.report.gene_figures import separation
from scballast.report.stored_tables import ResultFolder


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> ResultFolder:
    return ResultFolder(made.write_trial(tmp_path_factory.mktemp("findings")))


def test_the_most_and_least_stable_methods_are_named(results: ResultFolder) -> None:
    means = results.headline.groupby("method")["phi"].mean()
    marker = means[["contrast", "axis", "wilcoxon"]]  # not the control
    said = finding(results, "stability_heatmap")
    assert f"{marker.idxmax()} is the most stable marker method ({marker.max():.2f} on average)" in said
    assert f"{marker.idxmin()} the least ({marker.min():.2f})" in said


def test_lists_above_their_floor_are_counted(results: ResultFolder) -> None:
    own = results.headline[results.headline["estimand"] == "program"]
    above = own[own["lower"] > own["floor"]].groupby("method").size()
    said = finding(results, "stability_program")
    assert f"in {above.max()} of 4 populations" in said


def test_pairs_that_agree_most_are_named(results: ResultFolder) -> None:
    table = pd.read_csv(results.path / "tables" / "concordance.csv")
    own = table[(table["estimand"] == "marker") & (table["method_b"] != "random")]
    means = own.groupby(["method_a", "method_b"])["overlap"].mean()
    first, second = means.idxmax()
    assert f"{first} and {second} agree most ({means.max():.0%} of their genes)" in finding(
        results, "concordance_marker"
    )


def test_every_kind_of_figure_has_its_sentence_or_none(results: ResultFolder) -> None:
    for stem in ("stability_by_size", "concordance_range_marker", "heldout_fit", "association_1", "axis_purity"):
        assert finding(results, stem).endswith("."), stem
    for stem in ("training_curves", "latent_map", "answer_dots"):
        assert finding(results, stem).endswith("."), stem
    assert finding(results, "a figure of another kind") == ""


def test_neighbours_in_the_plane_are_counted() -> None:
    table = pd.DataFrame({"population": ["A", "A", "B", "B", "A", ""], "x": [0, 1, 10, 11, 11.4, 0.1], "y": [0.0] * 6})
    # Of A two of three have a neighbour of their own, of B one of two; the cell of no population does not count.
    assert separation(table) == (pytest.approx(3 / 5), "B")


def test_a_csv_holds_every_gene_and_no_formula(results: ResultFolder, tmp_path: Path) -> None:
    folder = made.write_trial(tmp_path)
    path = folder / "tables" / "answer_genes.csv"
    pd.read_csv(path).assign(symbol="=HYPERLINK(1)").to_csv(path, index=False)
    found = ResultFolder(folder)
    listed = [item for card in cards(found, answers(found)) for item in card.lists if item.rows]
    assert listed
    for item in listed:
        assert "%3DHYPERLINK" in item.csv
        assert ",%3DHYPERLINK" not in item.csv.replace("%2C", ",")
        assert item.csv.count("%0A") == item.n_genes + 1
