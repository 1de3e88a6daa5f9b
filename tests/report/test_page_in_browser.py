"""The report in a real browser: searched, sorted, copied from, unfolded; offline and without a complaint."""

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

from scballast.report.experiment_report import render_trial_report

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

SHAPE = made.Shape(3, marker=("contrast", "wilcoxon"), program=("spread",))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    skip_without_browser()
    folder = made.write_trial(tmp_path_factory.mktemp("page"), SHAPE)
    render_trial_report(folder)
    return folder


@pytest.fixture(scope="module")
def shown(folder: Path) -> Iterator[Opened]:
    with opened(folder / "report.html") as found:
        yield found


@pytest.fixture
def page(shown: Opened) -> Page:
    return shown.page


@pytest.fixture(scope="module")
def genes(folder: Path) -> pd.DataFrame:
    table = pd.read_csv(folder / "tables" / "answer_genes.csv", keep_default_na=False)
    return table.sort_values(["population", "estimand", "rank"])


def test_search_leaves_the_populations_that_have_the_gene(page: Page, genes: pd.DataFrame) -> None:
    wanted = str(genes["gene"].value_counts().index[-1])
    page.fill("#find", wanted)
    having = set(genes.loc[genes["gene"].str.contains(wanted, regex=False), "population"])
    shown = page.locator(".card:visible h3 bdi").all_inner_texts()
    assert set(shown) == having
    assert page.locator("tr.hit").count() == genes["gene"].str.contains(wanted, regex=False).sum()
    page.fill("#find", "no such gene")
    assert page.locator(".card:visible").count() == 0
    assert page.inner_text("#hits").startswith("0 of 3 populations")
    page.fill("#find", "")
    assert page.locator(".card:visible").count() == 3


def test_every_gene_of_a_list_is_on_its_card(page: Page, genes: pd.DataFrame) -> None:
    for (population, estimand), rows in genes.groupby(["population", "estimand"]):
        card = page.locator(".card").filter(has=page.locator("h3 bdi", has_text=str(population))).first
        shown = card.locator(f".list.{estimand} td.name").all_inner_texts()
        assert shown == list(rows["gene"])


def test_a_heading_sorts_by_value_and_again_the_other_way(page: Page, genes: pd.DataFrame) -> None:
    table = page.locator("table.genes").first
    heading = table.locator("th", has_text="log2 FC")
    for direction, ascending in (("ascending", True), ("descending", False)):
        heading.locator("button").focus()
        page.keyboard.press("Enter")
        assert heading.get_attribute("aria-sort") == direction
        shown = [float(text.replace("−", "-")) for text in table.locator("tbody td:nth-child(3)").all_inner_texts()]
        assert len(set(shown)) > 5
        assert shown == sorted(shown, reverse=not ascending)


def test_genes_are_copied_and_saved_whole(page: Page, genes: pd.DataFrame) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    first = page.locator(".list").filter(has=page.locator("button.copy")).first
    first.locator("button.copy").click()
    page.wait_for_function("document.querySelector('button.copy').textContent === 'Copied'")
    copied = page.evaluate("navigator.clipboard.readText()").splitlines()
    saved = list(
        csv.DictReader(io.StringIO(unquote(first.locator("a[download]").get_attribute("href").split(",", 1)[1])))
    )
    assert copied == [row["symbol"] for row in saved]
    own = genes[(genes["population"] == saved[0]["population"]) & (genes["estimand"] == saved[0]["estimand"])]
    assert copied == list(own["gene"])
    assert [float(row["log2_fold_change"]) for row in saved] == pytest.approx(list(own["log2_fold_change"]))


def test_the_contents_unfold_what_they_point_at(page: Page) -> None:
    targets = page.locator("a[href^='#']").evaluate_all("all => all.map(one => one.getAttribute('href'))")
    assert {"#answer", "#caveats", "#population-1"} <= set(targets)
    assert [target for target in targets if page.locator(target).count() != 1] == []
    section = page.locator("details#stability")
    assert section.get_attribute("open") is None
    page.click("nav a[href='#stability']")
    assert section.get_attribute("open") is not None
    assert all(section.locator("img").evaluate_all("all => all.map(one => one.naturalWidth > 300)"))
    assert "the most stable marker method" in section.locator(".shows").first.inner_text()


def test_figures_and_tables_are_links_to_what_they_show(page: Page) -> None:
    figures = page.locator("figure").evaluate_all(
        "all => all.map(one => [one.querySelector('.file a').href === one.querySelector('img').src, "
        "one.querySelector('.file a').download])"
    )
    assert len(figures) > 5
    assert all(same and name.endswith((".svg", ".png")) for same, name in figures)
    table = page.locator("details#stability table.grid").first
    saved = unquote(table.locator("caption a[download='stability.csv']").get_attribute("href").split(",", 1)[1])
    rows = list(csv.reader(io.StringIO(saved)))
    assert len(rows) == table.locator("tr").count() > 3
    exact = table.locator("tbody data").evaluate_all("all => all.map(one => one.value)")
    assert {value for row in rows[1:] for value in row} >= set(exact)


def test_figures_are_as_wide_as_the_page_and_a_phone_scrolls_them(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    for window, wanted in ((1280, 1192), (390, 760)):
        page.set_viewport_size({"width": window, "height": 900})
        widths = page.locator("figure img").evaluate_all("all => all.map(one => one.getBoundingClientRect().width)")
        assert len(widths) > 5
        assert widths == [pytest.approx(wanted, abs=1)] * len(widths)
    page.set_viewport_size({"width": 1280, "height": 900})


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_window(shown: Opened, width: int) -> None:
    assert shown.overflow(width) <= 0


def test_nothing_was_asked_of_another_host_and_nothing_complained(shown: Opened) -> None:
    assert shown.page.title().startswith("Which genes can be trusted?")
    shown.assert_offline_and_content()
