from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.helpers import report_fixture as made

from scballast.report import stability_figures
from scballast.report.description import first_answer_description, markdown
from scballast.report.experiment_report import render_trial_report
from scballast.report.stored_tables import ResultFolder
from scballast.report.sweep_report import render_sweep_report
from scballast.report.wording import again, error_bound, floor_parts
from scballast.verdict.answer_genes import answer_genes_table

SMALL = made.Shape(n_populations=2, n_latent=3, marker=("contrast", "wilcoxon"), program=("spread",))
AGAIN = {
    "subsample": "when the cells are drawn anew",
    "bootstrap": "when the cells are drawn anew with replacement",
    "seed": "when the same cells are trained on with other seeds",
    "donor": "when other samples are taken",
}


def text_of(path: Path) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", path.read_text(encoding="utf-8"))).split())


@pytest.mark.parametrize("kind", ["subsample", "seed"])
def test_sentences_follow_the_kind_of_replicates(kind: str, tmp_path: Path) -> None:
    folder = made.write_trial(tmp_path, SMALL, resample__kind=kind)
    render_trial_report(folder)
    text = text_of(folder / "report.html")
    assert f"comes back {AGAIN[kind]} (" in text
    assert f"the same list again {AGAIN[kind]}?" in text
    halves = kind == "subsample"
    assert ("of what replicates agree in only because they have cells in common" in text) is halves
    assert ("it says nothing about what other cells would show" in text) is not halves
    assert ("Meinshausen & Bühlmann" in text) is halves


@pytest.mark.parametrize(("kind", "disjoint"), [("bootstrap", False), ("donor", True)])
def test_floor_of_other_kinds(kind: str, disjoint: bool, tmp_path: Path) -> None:
    results = ResultFolder(made.write_trial(tmp_path, SMALL, resample__kind=kind))
    assert again(kind) == AGAIN[kind]
    assert ("they have cells in common" in floor_parts(results)) is disjoint
    assert error_bound(results) == ""


def test_the_floor_of_few_replicates_names_no_error(tmp_path: Path) -> None:
    folder = made.write_trial(tmp_path, SMALL)
    path = folder / "tables" / "stability.csv"
    table = pd.read_csv(path, keep_default_na=False)
    assert "95% limit of the sampling error" in floor_parts(ResultFolder(folder))
    table.assign(n_replicates=3).to_csv(path, index=False)
    assert "the sampling error of both is unknown" in floor_parts(ResultFolder(folder))
    table.assign(n_replicates=1, disjoint="").to_csv(path, index=False)
    assert "it says nothing about what other cells would show" in floor_parts(ResultFolder(folder))


def test_the_bound_is_of_the_stored_rankings_and_of_halves_only(tmp_path: Path) -> None:
    results = ResultFolder(made.write_trial(tmp_path / "a", SMALL))
    # 50² / ((2 · 0.9 - 1) · 300)
    assert "at most 10.42 are expected" in error_bound(results)
    assert "G = 300 " in error_bound(results)
    assert error_bound(ResultFolder(made.write_trial(tmp_path / "b", SMALL, resample__fraction=0.3))) == ""


def test_the_method_table_splits_the_floor(tmp_path: Path) -> None:
    folder = made.write_trial(tmp_path, SMALL)
    render_trial_report(folder)
    results = ResultFolder(folder)
    page = (folder / "report.html").read_text(encoding="utf-8")
    page = page[page.index("no common cells") :]  # the head of its table
    row = re.search(r"<tr><td><bdi>contrast</bdi></td><td><bdi>marker</bdi>.*?</tr>", page)
    assert row is not None
    shown = [float(value) for value in re.findall(r'data value="([^"]+)"', row.group())]
    own = results.headline[results.headline["method"] == "contrast"]
    wanted = [own[name].mean() for name in ("phi", "disjoint", "floor", "other_populations")]
    np.testing.assert_allclose(shown[:4], wanted, rtol=1e-12)


def test_differences_are_of_the_first_method_less_the_second_whatever_the_table_calls_a(tmp_path: Path) -> None:
    folder = made.write_trial(tmp_path, SMALL)
    path = folder / "tables" / "differences.csv"
    stored = pd.read_csv(path, float_precision="round_trip")
    plain = stability_figures.paired_differences(ResultFolder(folder))
    assert list(plain) == [("contrast", "wilcoxon")]
    own = stored.set_index("population").loc[ResultFolder(folder).populations]
    np.testing.assert_array_equal(plain["contrast", "wilcoxon"]["difference"], own["difference"])
    names = {"method_a": "method_b", "method_b": "method_a", "lower": "upper", "upper": "lower"}
    turned = stored.rename(columns=names)
    turned[["difference", "lower", "upper"]] *= -1
    turned.to_csv(path, index=False)
    pd.testing.assert_frame_equal(
        stability_figures.paired_differences(ResultFolder(folder))["contrast", "wilcoxon"],
        plain["contrast", "wilcoxon"],
    )


def test_a_sweep_says_what_its_replicates_are(tmp_path: Path) -> None:
    folder = made.write_sweep(tmp_path)
    (folder / "config").mkdir()
    (folder / "config" / "resolved.yaml").write_text("resample: {kind: seed}\n", encoding="utf-8")
    render_sweep_report(folder)
    assert f"hold and come back {AGAIN['seed']}?" in text_of(folder / "report.html")


def test_markdown_shows_names_as_they_are() -> None:
    # The UI shows a backslash before / and $ as it is.
    assert markdown("CD4+/CD25 $5 a@b <i>") == "CD4\\+/CD25 &#36;5 a&#64;b &lt;i&gt;"


def test_a_first_answer_of_nothing_says_so_for_each_population() -> None:
    """Of noise no method answers anywhere, and the table of genes has no rows to tell its columns' types."""
    answer = pd.DataFrame({"population": ["P0", "P1"], "estimand": "marker", "method": "none"})
    consensus = pd.DataFrame({"population": [], "method": [], "confirmed": np.zeros(0, dtype=bool)})
    genes = answer_genes_table(answer, consensus)
    assert genes.empty
    text = first_answer_description({"answer": answer, "answer_genes": genes})
    assert "| P0 | marker | none |  |  |\n| P1 | marker | none |  |  |\n" in text
