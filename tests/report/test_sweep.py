from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers import report_fixture as made
from tests.helpers.report_page import Page, numbers, rows_of

from scballast.report.sweep_findings import finding
from scballast.report.sweep_report import render_sweep_report
from scballast.report.sweep_tables import SweepFolder, non_dominated

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = made.write_sweep(tmp_path_factory.mktemp("sweep"))
    render_sweep_report(folder)
    return folder


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12), st.booleans())
def test_non_dominated_agrees_with_the_definition(points: list[tuple[int, int]], upwards: bool) -> None:
    found = non_dominated(np.array(points, dtype=float), [upwards, False])
    sign = -1 if upwards else 1
    cost = [(sign * a, b) for a, b in points]
    for i, (a, b) in enumerate(cost):
        beaten = any(c <= a and d <= b and (c, d) != (a, b) for c, d in cost)
        assert found[i] == (not beaten)


def test_trials_without_an_objective_are_not_compared(sweep: Path) -> None:
    read = SweepFolder(sweep)
    assert "7" not in set(read.finished["trial"])
    assert "7" not in read.pareto
    assert len(read.finished) == 23


def test_trial_table_equals_the_file(sweep: Path) -> None:
    trials = pd.read_csv(sweep / "trials.csv", float_precision="round_trip")
    page = (sweep / "report.html").read_text(encoding="utf-8")
    heads = ["fit/heldout_nll", "stability/contrast"]
    rows = rows_of(page, "grid")[-len(trials) :]
    for row, stored in zip(rows, trials.to_dict("records"), strict=True):
        cells = ["".join(text) for tag, _, text in Page(row).elements if tag == "td"]
        assert cells[0] == str(stored["trial"])
        assert cells[1] == stored["state"]
        assert ("chosen" in cells[2]) == stored["chosen"]
        assert cells[3:6] == [str(stored[f"model.{p}"]) for p in ("n_latent", "gene_likelihood", "latent_distribution")]
        assert [value for value, _ in numbers(row)] == [stored[h] for h in heads if stored["state"] == "COMPLETE"]


def test_answers_of_the_chosen_trial_equal_the_table(sweep: Path) -> None:
    stored = pd.read_csv(sweep / "tables" / "sweep_answer.csv", keep_default_na=False, float_precision="round_trip")
    stored = stored[stored["trial"] == 6].set_index("population")
    page = (sweep / "report.html").read_text(encoding="utf-8")
    seen = 0
    for row in rows_of(page, "grid"):
        name = next(("".join(text) for tag, _, text in Page(row).elements if tag == "bdi"), "")
        if name in stored.index:
            wanted = [stored.loc[name, column] for column in ("phi", "lower", "upper", "floor")]
            assert [value for value, _ in numbers(row)] == [*wanted, 23, 23]
            seen += 1
    assert seen == 5


def test_choice_is_shown_with_its_reason_as_text(sweep: Path) -> None:
    page = (sweep / "report.html").read_text(encoding="utf-8")
    assert "<b>of the best fit</b>" not in page
    assert "Most stable of the trials within 1% &lt;b&gt;of the best fit&lt;/b&gt;" in page
    # The page's own script, and no other.
    assert [tag for tag, _, _ in Page(page).elements].count("script") == 1
    assert {path.stem for path in (sweep / "figures").glob("*.svg")} == {
        "pareto",
        "stability_by_n_latent",
        "programs_by_n_latent",
        "importance",
        "stability_by_trial",
    }
    description = (sweep / "description.md").read_text(encoding="utf-8")
    assert "Chosen: trial 6" in description
    assert sum(line.startswith("|") for line in description.splitlines()) == len(SweepFolder(sweep).pareto) + 2


def test_under_each_figure_stands_what_these_trials_show(sweep: Path) -> None:
    trials = [row for row in pd.read_csv(sweep / "trials.csv").to_dict("records") if row["state"] == "COMPLETE"]
    fit, phi = "fit/heldout_nll", "stability/contrast"
    best, stable = min(trials, key=lambda row: row[fit]), max(trials, key=lambda row: row[phi])
    read = SweepFolder(sweep)
    assert best["trial"] != stable["trial"]
    assert finding(read, "pareto") == (
        f"Trial {best['trial']} is best in {fit} ({best[fit]:,.1f}; {phi} {best[phi]:.2f}), trial {stable['trial']} in "
        f"{phi} ({stable[phi]:.2f}; {fit} {stable[fit]:,.1f}); {len(read.pareto)} of 23 trials are beaten by no other."
    )
    assert "with 5 dimensions" in finding(read, "stability_by_n_latent")
    assert "least with 40" in finding(read, "stability_by_n_latent")
    sizes = {row["model.n_latent"] for row in trials}
    losses = {n: np.mean([row[fit] for row in trials if row["model.n_latent"] == n]) for n in sizes}
    assert finding(read, "stability_by_n_latent").endswith(f"best with {min(losses, key=losses.__getitem__)}.")
    assert finding(read, "importance") == (
        "model.n_latent decides most of fit/heldout_nll (70%); model.n_latent decides most of stability/contrast (70%)."
    )
    table = pd.read_csv(sweep / "tables" / "sweep_stability.csv").query("method == 'contrast'")
    for column in ("trial", "population"):
        means = [rows["phi"].mean() for _, rows in table.groupby(column)]
        assert f"between {min(means):.2f} " in finding(read, "stability_by_trial")
        assert f"{max(means):.2f}" in finding(read, "stability_by_trial")
    page = (sweep / "report.html").read_text(encoding="utf-8")
    shown = ["".join(text) for _, attributes, text in Page(page).elements if attributes.get("class") == "shows"]
    assert len(shown) == 5
    # 24 trials less the failed one; 6 (1 - exp(-k / 10)) of 8 programs in the fixture, k from 5 to 40 dimensions.
    assert finding(SweepFolder(sweep), "programs_by_n_latent") == (
        "Of 8 programs the models hold 5.9 with 40 dimensions, the most, and 2.4 with 5."
    )
    assert all(sentence.strip() for sentence in shown)


def test_a_trial_that_is_best_in_both_is_said_to_be(tmp_path: Path) -> None:
    rows = [
        {"trial": i, "run_id": "r", "state": "COMPLETE", "fit/heldout_nll": 5.0 - i, "stability/contrast": 0.1 * i}
        for i in range(3)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "trials.csv", index=False)
    assert finding(SweepFolder(tmp_path), "pareto") == (
        "Trial 2 is best in fit/heldout_nll and in stability/contrast; 1 of 3 trials are beaten by no other."
    )


FAMILIES = ("ldvae", "pca", "cnmf")


@pytest.fixture(scope="module")
def over_families(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trials of each of three families; only the LDVAE has a held-out fit, and cNMF no `conditioned`."""
    folder = tmp_path_factory.mktemp("families")
    (folder / "tables").mkdir()
    rng = np.random.default_rng(4)
    trials, stability = [], []
    for trial, family in enumerate(FAMILIES * 2):
        params = {"model.name": family, "model.n_latent": 20}
        truth = {f"truth/{name}/average_precision": rng.random() for name in ("contrast", "wilcoxon")}
        fit = {"fit/heldout_nll": rng.uniform(900, 1000) if family == "ldvae" else np.nan}
        own = {"stability/contrast": rng.random(), "seconds/training": rng.uniform(5, 50), **fit, **truth}
        trials.append({"trial": trial, "state": "COMPLETE", **params, **own, "chosen": trial == 4, "reason": "best"})
        for method in ("contrast", "spread", "wilcoxon", "shuffled", *(["conditioned"] if family != "cnmf" else [])):
            for population in ("A", "B", "C"):
                values = {"phi": rng.random(), "floor": rng.random() / 2, "lower": 0.0, "upper": 1.0}
                stability.append({"trial": trial, "method": method, "population": population, **params, **values})
    warned = [{"trial": trial, "title": "Too few steps", "text": "few steps"} for trial in (0, 3)]
    pd.DataFrame(trials).to_csv(folder / "trials.csv", index=False)
    pd.DataFrame(stability).to_csv(folder / "tables" / "sweep_stability.csv", index=False)
    pd.DataFrame(warned).to_csv(folder / "tables" / "sweep_warnings.csv", index=False)
    (folder / "config").mkdir()
    (folder / "config" / "resolved.yaml").write_text(
        "objectives:\n- {metric: stability/contrast, direction: maximize}\n", encoding="utf-8"
    )
    render_sweep_report(folder)
    return folder


def test_families_stand_side_by_side(over_families: Path) -> None:
    trials, stability = (
        pd.read_csv(over_families / name, float_precision="round_trip")
        for name in ("trials.csv", "tables/sweep_stability.csv")
    )
    page = (over_families / "report.html").read_text(encoding="utf-8")
    heads = [row.split("</td>")[0] for row in rows_of(page, "grid")]
    of_families = [any(f"<bdi>{name}</bdi>" in head for name in FAMILIES) for head in heads]
    found = [row for row, is_family in zip(rows_of(page, "grid"), of_families, strict=True) if is_family]
    assert len(found) == 2 * len(FAMILIES)  # stability, and the truth
    for family, row, truth in zip(FAMILIES, found[:3], found[3:], strict=True):
        own = stability[stability["model.name"] == family]
        expected = [2.0]
        for method in ("contrast", "spread", "conditioned"):
            lists = own[own["method"] == method]
            expected += [np.mean(lists["phi"] - lists["floor"])] if len(lists) else []
        mine = trials[trials["model.name"] == family]
        fit = [mine["fit/heldout_nll"].mean()] if family == "ldvae" else []
        cost = [*fit, mine["seconds/training"].mean()]
        assert [value for value, _ in numbers(row)] == pytest.approx([*expected, *cost])
        recovered = mine["truth/contrast/average_precision"].mean()
        assert [value for value, _ in numbers(truth)] == pytest.approx([2.0, recovered])
    assert "n/a" in found[1]
    assert (over_families / "figures" / "families.svg").is_file()


def test_the_warnings_of_trials_stand_in_the_report_of_the_sweep(over_families: Path) -> None:
    assert "Trials 0, 3: few steps" in (over_families / "report.html").read_text(encoding="utf-8")


def test_the_sentence_names_the_family_that_is_most_stable(over_families: Path) -> None:
    table = pd.read_csv(over_families / "tables" / "sweep_stability.csv")
    table["margin"] = table["phi"] - table["floor"]
    said = finding(SweepFolder(over_families), "families")
    for method in (("contrast",), ("spread", "conditioned")):
        means = table[table["method"].isin(method)].groupby(["method", "model.name"])["margin"].mean()
        name, family = means.idxmax()
        assert f"by {name} of {family} ({means.max():.2f};" in said


def test_a_sweep_of_one_family_has_no_such_section(sweep: Path) -> None:
    assert "Families of models" not in (sweep / "report.html").read_text(encoding="utf-8")


def test_a_bare_table_of_trials_is_enough(tmp_path: Path) -> None:
    rows = [{"trial": i, "run_id": "r", "state": "COMPLETE", "fit/heldout_nll": 5.0 - i} for i in range(3)]
    pd.DataFrame(rows).to_csv(tmp_path / "trials.csv", index=False)
    render_sweep_report(tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    reasons = " ".join("".join(text) for _, a, text in Page(page).elements if a.get("class") == "missing")
    for words in ("fewer than two objectives", "sweep_stability", "importance", "sweep_answer", "No trial is marked"):
        assert words in reasons
    assert SweepFolder(tmp_path).pareto == {"2"}


def test_a_folder_without_trials_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"trials\.csv"):
        render_sweep_report(tmp_path)
