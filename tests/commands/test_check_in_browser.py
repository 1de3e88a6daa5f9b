"""The page of a check in a real browser: searched, sorted, copied from, followed; offline and without a complaint."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pandas as pd
import pytest
from tests.helpers.browser import Opened, opened, skip_without_browser
from tests.helpers.report_page import stored_table

from scballast.commands.check_command import main as check
from scballast.commands.report_command import find_folder

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("default")]

LISTS = {
    "CD19+ B": "CD79A MS4A1 CD79B CD74 HLA-DRA CD3D LYZ no_such_gene",
    "CD56+ NK": "NKG7 GNLY GZMB PRF1 CST7 CD79A",
    "Dendritic <cells>": "LYZ",
    "Dendritic": "FCER1A CST3 LYZ HLA-DRA",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    skip_without_browser()
    root = tmp_path_factory.mktemp("page")
    rows = [(name, gene) for name, genes in LISTS.items() for gene in genes.split()]
    pd.DataFrame(rows, columns=["population", "gene"]).to_csv(root / "atlas.csv", index=False)
    words = ["methods=[wilcoxon,residual_pca]", "resample.n_replicates=4", f"runs_dir={root / 'runs'}"]
    assert check([str(root / "atlas.csv"), *words]) == 0
    return find_folder("atlas", root / "runs")


@pytest.fixture(scope="module")
def shown(folder: Path) -> Iterator[Opened]:
    with opened(folder / "report.html") as found:
        yield found


@pytest.fixture
def page(shown: Opened) -> Page:
    return shown.page


def test_search_leaves_the_lists_that_have_the_gene(page: Page, folder: Path) -> None:
    genes, missed = stored_table(folder, "check_genes"), stored_table(folder, "check_missed")
    page.fill("#find", "cd79")
    having = {
        population
        for table in (genes, missed)
        for population in table.loc[table["symbol"].str.contains("CD79"), "population"]
    }
    assert {"CD19+ B", "CD56+ NK"} <= having < {*LISTS}
    assert set(page.locator(".card:visible h3 bdi").all_inner_texts()) == having
    assert "CD79A" in page.locator("tr.hit td.name").all_inner_texts()
    page.fill("#find", "no such gene")
    assert page.locator(".card:visible").count() == 0
    assert page.inner_text("#hits").startswith("0 of 3 populations")
    page.fill("#find", "")
    assert page.locator(".card:visible").count() == 3


def test_a_list_is_sorted_by_value_and_back(page: Page, folder: Path) -> None:
    table = page.locator(".card", has=page.locator("h3", has_text="CD19+ B")).locator("table.genes").first
    heading = table.locator("th", has_text="log2 FC")
    genes = stored_table(folder, "check_genes").query("population == 'CD19+ B'")
    for direction, ascending in (("ascending", True), ("descending", False)):
        heading.locator("button").focus()
        page.keyboard.press("Enter")
        assert heading.get_attribute("aria-sort") == direction
        # Whatever the direction, what was not tested stands last.
        wanted = pd.to_numeric(genes.set_index("listed")["log2_fold_change"]).sort_values(ascending=ascending)
        assert table.locator("tbody td.name").all_inner_texts() == list(wanted.index)


def test_a_list_is_copied_and_saved_with_what_became_of_it(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    first = page.locator(".card", has=page.locator("h3", has_text="CD19+ B")).locator(".list").first
    first.locator("button.copy").click()
    page.wait_for_function("[...document.querySelectorAll('button.copy')].some(one => one.textContent === 'Copied')")
    tested = LISTS["CD19+ B"].split()[:-1]
    assert page.evaluate("navigator.clipboard.readText()").splitlines() == tested
    link = first.locator("a[download]")
    saved = list(csv.DictReader(io.StringIO(unquote(link.get_attribute("href").split(",", 1)[1]))))
    assert [row["listed"] for row in saved] == LISTS["CD19+ B"].split()
    assert {row["listed"]: row["confirmed_marker"] for row in saved}["CD3D"] == "False"
    assert saved[-1]["why"].startswith("not in the data")


def test_every_link_leads_to_a_place_and_unfolds_it(page: Page) -> None:
    targets = page.locator("a[href^='#']").evaluate_all("all => all.map(one => one.getAttribute('href'))")
    assert {"#answer", "#genes", "#agreement", "#question", "#caveats", "#population-1"} <= set(targets)
    assert [target for target in targets if page.locator(target).count() != 1] == []
    section = page.locator("details#agreement")
    assert section.get_attribute("open") is None
    page.click("nav a[href='#agreement']")
    assert section.get_attribute("open") is not None
    assert section.locator("table.grid tbody tr").first.is_visible()
    page.click("table.answer a[href='#population-2']")
    assert page.url.endswith("#population-2")


def test_names_of_the_file_are_text(page: Page) -> None:
    assert "Dendritic <cells>" in page.inner_text("#caveats")
    assert page.locator("cells").count() == 0


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_window(shown: Opened, width: int) -> None:
    assert shown.overflow(width) <= 0


def test_nothing_was_asked_of_another_host_and_nothing_complained(shown: Opened) -> None:
    assert shown.page.title().startswith("Do these genes hold? atlas.csv on pbmc68k")
    shown.assert_offline_and_content()
