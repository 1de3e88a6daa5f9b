"""The page of a sweep in a real browser: sorted, saved from, unfolded; offline and without a complaint."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pandas as pd
import pytest
from tests.helpers import report_fixture as made
from tests.helpers.browser import Opened, opened, skip_without_browser

from scballast.report.sweep_report import render_sweep_report

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    skip_without_browser()
    folder = made.write_sweep(tmp_path_factory.mktemp("page"))
    render_sweep_report(folder)
    return folder


@pytest.fixture(scope="module")
def shown(folder: Path) -> Iterator[Opened]:
    with opened(folder / "report.html") as found:
        yield found


@pytest.fixture
def page(shown: Opened) -> Page:
    return shown.page


def test_every_link_leads_to_a_place_and_unfolds_it(page: Page) -> None:
    targets = page.locator("a[href^='#']").evaluate_all("all => all.map(one => one.getAttribute('href'))")
    assert {"#question", "#chosen", "#pareto", "#dimensions", "#answers", "#trials", "#caveats"} <= set(targets)
    assert [target for target in targets if page.locator(target).count() != 1] == []
    section = page.locator("details#trials")
    assert section.get_attribute("open") is None
    page.click("nav a[href='#trials']")
    assert section.get_attribute("open") is not None
    assert section.locator("tbody tr").first.is_visible()


def test_trials_are_sorted_as_numbers_both_ways(page: Page, folder: Path) -> None:
    page.click("nav a[href='#trials']")
    table = page.locator("details#trials table.grid")
    trials = pd.read_csv(folder / "trials.csv")
    for heading, column in (("Trial", "trial"), ("model.n_latent", "model.n_latent"), ("fit/heldout_nll", "trial")):
        head = table.locator("th", has_text=heading)
        for direction, ascending in (("ascending", True), ("descending", False)):
            head.locator("button").focus()
            page.keyboard.press("Enter")
            assert head.get_attribute("aria-sort") == direction
            # What has no value stands last, whatever the direction.
            wanted = trials.sort_values(heading if heading in trials else column, ascending=ascending, kind="stable")
            place = {"trial": 1, "model.n_latent": 4}[column]
            cells = table.locator(f"tbody td:nth-child({place})").all_inner_texts()
            assert [int(text) for text in cells] == list(wanted[column])


def test_the_table_of_trials_is_saved_whole(page: Page, folder: Path) -> None:
    link = page.locator("details#trials caption a[download='trials.csv']")
    rows = list(csv.DictReader(io.StringIO(unquote(link.get_attribute("href").split(",", 1)[1]))))
    trials = pd.read_csv(folder / "trials.csv")
    assert [row["Trial"] for row in rows] == [str(trial) for trial in trials["trial"]]
    known = [float(row["stability/contrast"]) for row in rows if row["stability/contrast"] != "n/a"]
    assert known == list(trials["stability/contrast"].dropna())


def test_figures_are_links_as_wide_as_the_page_with_what_they_show(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    width = page.evaluate("document.querySelector('main').clientWidth")
    figures = page.locator("figure")
    assert figures.count() == 5
    for figure in figures.all():
        picture = figure.locator("img")
        assert picture.bounding_box()["width"] == pytest.approx(width, abs=1)
        link = figure.locator(".file a")
        assert link.get_attribute("href") == picture.get_attribute("src")
        assert link.get_attribute("download").endswith((".svg", ".png"))
        assert figure.locator(".shows").inner_text().endswith(".")


def test_there_are_no_genes_to_search_and_copy(page: Page) -> None:
    assert page.locator("#find, button.copy, table.genes").count() == 0


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_window(shown: Opened, width: int) -> None:
    assert shown.overflow(width) <= 0


def test_nothing_was_asked_of_another_host_and_nothing_complained(shown: Opened) -> None:
    assert shown.page.title().startswith("Which configuration gives genes that can be trusted?")
    shown.assert_offline_and_content()
