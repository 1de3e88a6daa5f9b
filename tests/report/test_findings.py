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
    for stem in ("training_curves", "latent_map", "answer_dots", "ranks_contrast_vs_wilcoxon", "loadings"):
        assert finding(results, stem).endswith("."), stem
    assert finding(results, "a figure of another kind") == ""


def test_what_is_confirmed_most_and_what_comes_back_wrong_is_counted(results: ResultFolder) -> None:
    table = pd.read_csv(results.path / "tables" / "confirmation.csv")
    own = table[(table["method"] != "random") & table["confirmed"].notna()]
    said = finding(results, "confirmed_against_stability")
    for estimand, rows in own.groupby("estimand"):
        means = rows.groupby("method")["confirmed"].mean()
        assert f"{means.idxmax()} is confirmed most as {estimand} ({means.max():.0%})" in said
    phi = results.headline.set_index(["method", "population"])["phi"]
    stable = [row for row in own.itertuples() if phi[row.method, row.population] > 0.5]
    wrong = [row for row in stable if row.confirmed < 0.5]
    assert f"of {len(stable)} lists that come back (Φ above 0.5), less than half of {len(wrong)} is confirmed" in said


def test_the_genes_that_two_methods_share_are_those_of_the_table(results: ResultFolder) -> None:
    table = pd.read_csv(results.path / "tables" / "concordance.csv")
    own = table[(table["method_a"] == "contrast") & (table["method_b"] == "wilcoxon")]
    shares = own.set_index("population")["overlap"]
    assert len(shares) == 4
    assert finding(results, "ranks_wilcoxon_vs_contrast") == (
        f"Of the first 50 genes {shares.mean():.0%} are the same on average: most in “{shares.idxmax()}” "
        f"({shares.max():.0%}), least in “{shares.idxmin()}” ({shares.min():.0%})."
    )


def test_programs_and_those_that_are_flagged_are_counted(results: ResultFolder) -> None:
    summary = pd.DataFrame({"population": ["B", "B", "NK"], "program": ["P1", "P2", "P1"], "flags": ["", "stress", ""]})
    found = ResultFolder(results.path)
    path = results.path / "tables" / "program_summary.csv"
    summary.to_csv(path, index=False)
    try:
        assert finding(found, "programs").startswith("3 programs in 2 of 4 populations; 1 of them go with")
    finally:
        path.unlink()


def test_the_clearest_difference_is_of_the_pair_that_is_shown(results: ResultFolder) -> None:
    from scballast.report.stability_figures import paired_differences

    shown = paired_differences(results)
    decided = {pair: (rows["lower"] > 0).sum() - (rows["upper"] < 0).sum() for pair, rows in shown.items()}
    pair = max(decided, key=lambda key: abs(decided[key]))
    first, second = pair if decided[pair] > 0 else pair[::-1]
    assert f"{first} is more stable than {second} in " in finding(results, "stability_differences")


def test_neighbours_in_the_plane_are_counted() -> None:
    table = pd.DataFrame({"population": ["A", "A", "B", "B", "A", ""], "x": [0, 1, 10, 11, 11.4, 0.1], "y": [0.0] * 6})
    # Of A two of three have a neighbour of their own, of B one of two; the cell of no population does not count.
    assert separation(table) == (pytest.approx(3 / 5), "B")


def test_a_csv_holds_every_gene_and_no_formula(results: ResultFolder, tmp_path: Path) -> None:
    folder = made.write_trial(tmp_path)
    path = folder / "tables" / "answer_genes.csv"
    pd.read_csv(path).assign(symbol="=HYPERLINK(1)").to_csv(path, index=False)
    found = ResultFolder(folder)
    listed = [table for card in cards(found, answers(found)) for _, table in card.lists if table.rows]
    assert listed
    for table in listed:
        assert "%3DHYPERLINK" in table.csv
        assert ",%3DHYPERLINK" not in table.csv.replace("%2C", ",")
        assert table.csv.count("%0A") == table.n_genes + 1
