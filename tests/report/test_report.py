from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from tests.helpers import report_fixture as made
from tests.helpers.report_page import Page, numbers, rows_of, stored_table

from scballast.report import (
    concordance_figures,
    correctness_sections,
    latent_figures,
    stability_figures,
    style,
)
from scballast.report.experiment_report import render_trial_report
from scballast.report.html import two
from scballast.report.stored_tables import ResultFolder


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = made.write_trial(tmp_path_factory.mktemp("large"), made.LARGE)
    render_trial_report(folder)
    return folder


@pytest.fixture(scope="session")
def page(large: Path) -> str:
    return (large / "report.html").read_text(encoding="utf-8")


def test_every_number_of_the_answer_equals_the_tables(large: Path, page: str) -> None:
    answer, listed, populations = (stored_table(large, name) for name in ("answer", "answer_genes", "populations"))
    cells = dict(zip(populations["population"], populations["n_cells"], strict=True))
    shown = [Page(row) for row in rows_of(page, "answer")[1:]]
    assert len(shown) == len(answer) == 80
    named = 0
    for row, html in zip(shown, rows_of(page, "answer")[1:], strict=True):
        texts = {tag: "".join(text) for tag, _, text in row.elements}
        population = next("".join(text) for tag, _, text in row.elements if tag == "bdi")
        estimand = "marker" if "set it apart" in texts["tr"] else "program"
        stored = answer[(answer["population"] == population) & (answer["estimand"] == estimand)]
        assert len(stored) == 1, population
        expected = stored.iloc[0]
        values = numbers(html)
        if expected["method"] == "none":
            assert [value for value, _ in values] == [cells[population]]
            assert expected["reason"] in texts["tr"]
            continue
        named += 1
        assert expected["method"] in texts["b"]
        own = listed[(listed["population"] == population) & (listed["estimand"] == estimand)]
        own = own.sort_values("rank").head(10)
        columns = ("confirmed", "confirmed_lower", "phi", "lower", "upper", "floor", "concordance")
        wanted = [cells[population], *(float(expected[column]) for column in columns)]
        assert [value for value, _ in values] == [*wanted, *own["log2_fold_change"]]
        genes = ["".join(text) for tag, _, text in row.elements if tag == "i"]
        assert genes == list(own["gene"])
        for place, (value, text) in enumerate(values[1:]):
            digits = 2 if place < len(columns) else 1
            assert text.replace("−", "-") == f"{value:z.{digits}f}"
    assert 0 < named < 80


def test_method_table_equals_the_logged_metrics(large: Path, page: str) -> None:
    metrics = json.loads((large / "metrics.json").read_text())
    seen = 0
    for row in rows_of(page[page.index('id="stability"') :], "grid"):
        name = re.search(r"<bdi>([^<]+)</bdi></td><td><bdi>(marker|program)<", row)
        if name:
            assert numbers(row)[0][0] == pytest.approx(metrics[f"stability/{name.group(1)}"], rel=1e-12)
            seen += 1
    assert seen == 12


def test_caveat_numbers_equal_the_tables(large: Path, page: str) -> None:
    part = page[page.index('<section id="caveats">') :]
    training = pd.read_csv(large / "tables" / "training.csv")
    populations = pd.read_csv(large / "tables" / "populations.csv", keep_default_na=False)
    ranked = populations.loc[populations["ranked"].astype(str) == "True", "n_cells"]
    for title, value in (
        ("Too few steps", training["n_steps"].min()),
        ("KL weight below 1", 0.25),
        ("Small populations", ranked.min()),
        ("Labels from the same counts", 40),
    ):
        after = part[part.index(f"<b>{title}</b>") :]
        assert numbers(after)[0][0] == value


def test_page_is_self_contained_and_small(page: str) -> None:
    assert len(page.encode()) < 5_000_000
    parsed = Page(page)
    assert len([tag for tag, _, _ in parsed.elements if tag == "script"]) == 1
    assert not {"link", "iframe", "object", "embed", "form", "base"} & parsed.tags()
    for tag, attributes, _ in parsed.elements:
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/", "data:text/csv"))
    assert "url(" not in page
    assert "@import" not in page


def test_hostile_names_are_text(page: str, large: Path) -> None:
    shown = {"".join(text) for tag, _, text in Page(page).elements if tag == "bdi"}
    assert set(made.HOSTILE) <= shown
    assert page.count("<script>") == 1
    assert "<b>has 8 cells</b>" not in page
    for drawing in (large / "figures").glob("*.svg"):
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.parse(drawing).iter()}
        assert "script" not in tags


def test_every_figure_is_there_twice_and_has_words_for_it(page: str, large: Path) -> None:
    files = {path.stem for path in (large / "figures").glob("*.png")}
    assert files == {path.stem for path in (large / "figures").glob("*.svg")}
    images = [attributes for tag, attributes, _ in Page(page).elements if tag == "img"]
    assert len(images) == len(files) == len(re.findall(r"<b>Figure \d+\.</b>", page))
    assert all(len(image["alt"]) > 20 for image in images)
    assert {
        "stability_heatmap", "stability_marker", "stability_program", "stability_by_size", "concordance_marker",
        "concordance_program", "answer_dots", "latent_map",
        "ranks_contrast_vs_wilcoxon", "ranks_spread_vs_per_population", "heldout_fit",
        "association_1", "axis_purity", "loadings", "training_curves", "confirmed_against_stability",
    } <= files  # fmt: skip


def test_description_fits_a_tag_and_keeps_its_table(large: Path) -> None:
    text = (large / "description.md").read_text(encoding="utf-8")
    assert len(text.encode()) <= 7500
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) > 20
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {8}
    assert "<script>" not in text
    answer = pd.read_csv(large / "tables" / "answer.csv")
    assert any(f"{answer['phi'][0]:.2f} [{answer['lower'][0]:.2f}, {answer['upper'][0]:.2f}]" in row for row in rows)


def test_same_tables_same_bytes(tmp_path: Path) -> None:
    folder = made.write_trial(
        tmp_path, made.Shape(n_populations=2, n_latent=3, marker=("contrast", "wilcoxon"), program=())
    )
    before = dict(mpl.rcParams)
    render_trial_report(folder)
    first = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with mpl.rc_context({"font.size": 30, "svg.fonttype": "none", "axes.facecolor": "black"}):
        render_trial_report(folder)
    again = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert [path.name for path in first if first[path] != again[path]] == []
    assert set(first) == set(again)
    assert dict(mpl.rcParams) == before


def test_missing_tables_cost_their_sections_and_say_so(tmp_path: Path) -> None:
    full = made.write_trial(tmp_path / "full", made.Shape(n_populations=2))
    bare = tmp_path / "bare"
    (bare / "tables").mkdir(parents=True)
    (bare / "tables" / "stability.csv").write_bytes((full / "tables" / "stability.csv").read_bytes())
    render_trial_report(bare)
    text = (bare / "report.html").read_text(encoding="utf-8")
    reasons = ["".join(text) for tag, a, text in Page(text).elements if a.get("class") == "missing"]
    for table in (
        "answer",
        "caveats",
        "confirmation",
        "populations",
        "concordance",
        "rankings",
        "fit",
        "association",
        "axis_purity",
        "factors",
    ):
        assert any(table in reason for reason in reasons), table
    assert any("history.json" in reason for reason in reasons)
    assert {path.stem for path in (bare / "figures").glob("*.png")} == {
        "stability_heatmap",
        "stability_marker",
        "stability_program",
    }


def test_import_is_light() -> None:
    code = "import sys, scballast.report; print(sorted({'matplotlib', 'pandas', 'jinja2', 'yaml'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Figures as they are when they would be written."""
    kept: list[object] = []

    def keep(figure: object, folder: Path, stem: str, **_: str) -> None:
        with style.figure_style():
            figure.draw_without_rendering()  # type: ignore[attr-defined]
        kept.append(figure)

    monkeypatch.setattr(style, "finish", keep)
    return kept


def overlapping(texts: list[object]) -> list[tuple[str, str]]:
    boxes = [(t.get_text(), t.get_window_extent()) for t in texts if t.get_text() and t.get_visible()]  # type: ignore[attr-defined]
    return [(a, b) for i, (a, one) in enumerate(boxes) for b, two in boxes[i + 1 :] if one.overlaps(two)]


def test_dots_sit_at_the_stored_values_and_names_keep_apart(large: Path, drawn: list[object]) -> None:
    results = ResultFolder(large)
    with style.figure_style():
        stability_figures.dots(results, "marker")
    figure = drawn[0]
    panel = next(axes for axes in figure.axes if axes.get_title() == "contrast")  # type: ignore[attr-defined]
    own = results.headline[results.headline["method"] == "contrast"].set_index("population").loc[results.populations]
    scatters = [item.get_offsets() for item in panel.collections if isinstance(item, PathCollection)]
    np.testing.assert_allclose(scatters[0][:, 0], own["floor"])
    placed = np.concatenate(scatters[1:3])  # above the floor, not above it
    np.testing.assert_allclose(placed[np.argsort(placed[:, 1]), 0], own["phi"].clip(upper=1))
    names = figure.axes[0].get_yticklabels()  # type: ignore[attr-defined]  # the panels share them
    assert len(names) == 40
    assert overlapping(names) == []
    assert overlapping([axes.title for axes in figure.axes]) == []  # type: ignore[attr-defined]


def test_confirmed_shares_stand_against_the_stored_stability(large: Path, drawn: list[object]) -> None:
    results = ResultFolder(large)
    table = results.table("confirmation")
    assert table is not None
    with style.figure_style():
        correctness_sections.against_stability(results, table)
    panel = drawn[0].axes[0]  # type: ignore[attr-defined]
    assert panel.get_title() == "marker"
    placed = np.concatenate([item.get_offsets() for item in panel.collections if isinstance(item, PathCollection)])
    stability = results.headline.set_index(["population", "method"])["phi"]
    own = table[table["estimand"] == "marker"]
    expected = np.column_stack(
        [stability.loc[list(zip(own["population"], own["method"], strict=True))], own["confirmed"]]
    )
    np.testing.assert_allclose(placed[placed[:, 1].argsort()], expected[expected[:, 1].argsort()])


def test_names_keep_apart_in_the_matrices(large: Path, drawn: list[object]) -> None:
    results = ResultFolder(large)
    pairs = concordance_figures.mean_pairs(results, "marker")
    association, loadings = results.table("association"), results.table("loadings")
    ranks = concordance_figures.paired_ranks(results, "wilcoxon", "contrast")
    assert pairs is not None
    assert ranks is not None
    assert association is not None
    assert loadings is not None
    with style.figure_style():
        stability_figures.heat_map(results)
        concordance_figures.ranges(results, "marker", pairs)
        latent_figures.association(results, association, "leiden")
        latent_figures.loadings(results, loadings)
        concordance_figures.rank_against_rank(results, "wilcoxon", "contrast", ranks)
    for figure in drawn[:4]:
        assert overlapping(figure.axes[0].get_yticklabels()) == []  # type: ignore[attr-defined]
    assert {t.get_fontstyle() for t in drawn[3].axes[0].get_yticklabels()} == {"italic"}  # type: ignore[attr-defined]
    assert overlapping([axes.title for axes in drawn[4].axes]) == []  # type: ignore[attr-defined]


def test_heat_map_numbers_equal_the_table(large: Path, drawn: list[object]) -> None:
    results = ResultFolder(large)
    with style.figure_style():
        stability_figures.heat_map(results)
    shown = [text.get_text() for text in drawn[0].axes[0].texts]  # type: ignore[attr-defined]
    wide = results.headline.pivot(index="population", columns="method", values="phi").loc[results.populations]
    wide = wide[results.methods("marker") + results.methods("program")]
    assert shown == [two(value) for value in wide.to_numpy().ravel() if np.isfinite(value)]


def test_truth_shows_the_mean_of_the_replicates(tmp_path: Path, drawn: list[object]) -> None:
    folder = made.write_trial(tmp_path)
    stored = made.write_truth(folder)
    results = ResultFolder(folder)
    table = results.table("truth")
    assert table is not None
    with style.figure_style():
        correctness_sections.truth_figure(results, table)
    panel = drawn[0].axes[0]  # type: ignore[attr-defined]
    own = stored[stored["method"] == panel.get_title()].groupby("population")["average_precision"].mean()
    single = [item.get_offsets()[0] for item in panel.collections if len(item.get_offsets()) == 1]
    shown = [x for x, _ in single if x != pytest.approx(0.08)]
    np.testing.assert_allclose(shown, own.loc[results.populations])


def test_truth_tables_equal_the_stored_table(tmp_path: Path) -> None:
    folder = made.write_trial(tmp_path)
    stored = made.write_truth(folder)
    stored = stored[~((stored["method"] == "wilcoxon") & (stored["population"] == stored["population"].iloc[0]))]
    with style.figure_style():
        by_population, differences = correctness_sections.truth(ResultFolder(folder), stored).grids
    names = [heading.rsplit(" (", 1)[0] for heading, _ in by_population.columns[3:]]
    means = stored.groupby(["method", "population"])["average_precision"].mean()
    for method, _, mean, *values in by_population.rows:
        np.testing.assert_allclose(values, [means.get((method, name), np.nan) for name in names])
        assert mean == pytest.approx(np.nanmean(values))
    both = stored.pivot(index=["population", "replicate"], columns="method", values="average_precision")
    for first, second, mean, *_ in differences.rows:
        assert mean == pytest.approx((both[first] - both[second]).mean())
    assert ("contrast", "wilcoxon") in {row[:2] for row in differences.rows}


def test_populations_of_one_size_stand_by_name_in_the_table_of_truth(tmp_path: Path) -> None:
    folder = made.write_trial(tmp_path, made.Shape(n_populations=8))
    table = made.write_truth(folder)
    path = folder / "tables" / "populations.csv"
    pd.read_csv(path).assign(n_cells=100).to_csv(path, index=False)
    with style.figure_style():
        by_population = correctness_sections.truth(ResultFolder(folder), table).grids[0]
    assert [heading for heading, _ in by_population.columns[3:]] == [
        f"{n} (100)" for n in sorted(set(table["population"]))
    ]


def test_truth_without_planted_genes_has_a_section_without_numbers(tmp_path: Path) -> None:
    folder = made.write_trial(tmp_path)
    stored = made.write_truth(folder).assign(average_precision=np.nan)
    with style.figure_style():
        section = correctness_sections.truth(ResultFolder(folder), stored)
    assert [len(grid.rows) for grid in section.grids] == [0]


def test_concordance_means_equal_the_table(large: Path) -> None:
    pairs = concordance_figures.mean_pairs(ResultFolder(large), "program")
    assert pairs is not None
    stored = pd.read_csv(large / "tables" / "concordance.csv")
    for row in pairs.itertuples():
        own = stored[(stored["method_a"] == row.method_a) & (stored["method_b"] == row.method_b)]
        assert row.overlap == pytest.approx(own["overlap"].mean())
        assert row.ceiling == pytest.approx(own["ceiling"].mean())
    assert len(pairs) == 10
