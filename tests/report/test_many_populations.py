"""A report of many populations: sums first, answers to search and sort in a box, folded cards, bounded figures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from tests.helpers import report_fixture as made
from tests.helpers.browser import Opened, opened, skip_without_browser

from scballast.report import evidence, experiment_report, gene_cards, stored_tables
from scballast.report.answer_section import answers
from scballast.report.experiment_report import render_trial_report
from scballast.report.html import Section
from scballast.report.program_section import _first_matches
from scballast.report.stored_tables import ResultFolder

N, DRAWN = 24, 9
SHAPE = made.Shape(N, 60, 3, 3, marker=("contrast", "wilcoxon"), program=("spread",))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = made.write_trial(tmp_path_factory.mktemp("many"), SHAPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored_tables, "MOST_DRAWN", DRAWN)
        render_trial_report(folder)
        yield folder


@pytest.fixture(scope="module")
def shown(folder: Path) -> Iterator[Opened]:
    skip_without_browser()
    with opened(folder / "report.html") as found:
        yield found


def test_the_page_begins_with_sums_of_the_answers(folder: Path) -> None:
    page = (folder / "report.html").read_text(encoding="utf-8")
    answer = pd.read_csv(folder / "tables" / "answer.csv", keep_default_na=False)
    markers = answer[answer["estimand"] == "marker"]
    counts = markers.loc[markers["method"] != "none", "method"].value_counts()
    first = counts.index[0]
    sums = page[page.index('<ul class="sums">') : page.index('<table class="answer">')]
    assert f"{first} in {counts[first]} of {N} populations" in sums


def test_figures_have_the_largest_populations_and_say_so(folder: Path) -> None:
    results = ResultFolder(folder)
    sizes = [results.n_cells[name] for name in results.drawn]
    assert len(sizes) == DRAWN
    assert min(sizes) >= max(results.n_cells[name] for name in results.populations[DRAWN:])
    page = (folder / "report.html").read_text(encoding="utf-8")
    for stem in ("stability_marker", "stability_program", "stability_heatmap", "answer_dots", "latent_map"):
        caption = page[: page.index(f"figures/{stem}.png")].rpartition("<figcaption>")[2]
        assert f"Drawn: the {DRAWN} largest of {N} populations; the tables have all." in caption
    drawing = (folder / "figures" / "stability_marker.svg").read_text(encoding="utf-8")
    assert results.populations[DRAWN - 1] in drawing
    assert results.populations[DRAWN] not in drawing


def test_genes_of_populations_that_are_not_drawn_alone_have_no_figure(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = ResultFolder(folder)
    table = results.table("answer_expression")
    assert table is not None
    assert [section.anchor for section in evidence._genes(results)] == ["levels"]
    others = table[table["of"].isin(results.populations[DRAWN:])]
    assert len(others)
    monkeypatch.setattr(ResultFolder, "table", lambda *_: others)
    assert evidence._genes(results) == []


def test_few_populations_are_all_drawn_and_unfolded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_: ResultFolder) -> list[Section]:
        return []

    monkeypatch.setattr(experiment_report, "evidence", nothing)
    folder = made.write_trial(tmp_path / "few", made.Shape(3, 60, 3, 3, marker=("contrast",), program=("spread",)))
    experiment_report.render_trial_report(folder)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert ResultFolder(folder).drawn == ResultFolder(folder).populations
    assert page.count('<details class="card" ') == page.count(" open>\n<summary><h3>") == 3
    assert 'id="filter"' not in page


@pytest.mark.browser
def test_answers_are_found_and_sorted_with_their_populations(shown: Opened, folder: Path) -> None:
    page, results = shown.page, ResultFolder(folder)
    groups = page.locator(".answer tbody")
    assert groups.count() == N
    page.fill("#filter", results.populations[5].upper())
    assert page.locator(".answer tbody:visible").count() == 1
    assert page.inner_text("#left") == f"1 of {N} populations"
    page.fill("#filter", "")
    assert page.locator(".answer tbody:visible").count() == N
    page.locator(".answer thead th", has_text="Cells").locator("button").click()
    shown_sizes = page.locator(".answer tbody tr:first-child td.cells data").evaluate_all(
        "all => all.map(d => +d.value)"
    )
    assert shown_sizes == sorted(results.n_cells.values())
    # Each population keeps its rows of markers and programs together.
    assert page.locator(".answer tbody").evaluate_all("all => all.map(one => one.rows.length)") == [2] * N
    assert page.evaluate("document.querySelector('.tall').clientHeight <= 0.73 * window.innerHeight")


@pytest.mark.browser
def test_cards_unfold_when_they_are_pointed_at_or_found(shown: Opened, folder: Path) -> None:
    page = shown.page
    cards = page.locator("details.card")
    assert cards.evaluate_all("all => all.filter(one => one.open).length") == 0
    page.locator('.answer a[href="#population-7"]').click()
    assert page.locator("#population-7").get_attribute("open") is not None
    name = ResultFolder(folder).populations[3]
    page.fill("#find", name)
    assert page.locator("details.card:visible h3 bdi").all_inner_texts() == [name]
    assert page.locator("details.card:visible").get_attribute("open") is not None
    page.fill("#find", "")
    shown.assert_offline_and_content()


def test_a_program_of_all_populations_names_the_best_of_them() -> None:
    names = [f"B {i} P1 (0.9)" for i in range(40)]
    assert _first_matches("; ".join(names)) == "; ".join([*names[:5], "and 35 more"])
    assert _first_matches("; ".join(names[:5])) == "; ".join(names[:5])


def test_of_many_lists_none_is_a_file_in_the_page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = ResultFolder(folder)
    assert all(
        genes.csv for card in gene_cards.cards(results, answers(results)) for _, genes in card.lists if genes.rows
    )
    monkeypatch.setattr(gene_cards, "MOST_FILES", 10)
    assert not any(genes.csv for card in gene_cards.cards(results, answers(results)) for _, genes in card.lists)
