"""Each limit of the results: said where its number says so, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from tests.helpers import report_fixture as made

from scballast.verdict.caveats import Caveat, caveats_table


def titles(folder: Path) -> dict[str, float]:
    return {caveat.title: caveat.value for caveat in made.caveats_of(folder)}


def change(folder: Path, name: str, **values: object) -> None:
    path = folder / "tables" / f"{name}.csv"
    pd.read_csv(path, keep_default_na=False).assign(**values).to_csv(path, index=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made.write_trial(tmp_path / "trial")


def test_variance_as_the_answer_is_said_to_be_no_program(folder: Path) -> None:
    assert "Variable, but not together" not in titles(folder)
    change(folder, "answer", method="within_dispersion")
    assert titles(folder)["Variable, but not together"] == 8


def test_each_caveat_names_the_number_that_triggered_it(folder: Path) -> None:
    found = titles(folder)
    training = pd.read_csv(folder / "tables" / "training.csv")
    assert found["Too few steps"] == training["n_steps"].min() < 500
    assert found["KL weight below 1"] == 0.25
    assert found["Populations left out"] == 1
    assert found["Labels from the same counts"] == 4
    assert "No intervals" not in found
    assert "Failed models" not in found


def test_well_trained_models_on_large_populations_raise_no_such_caveat(folder: Path) -> None:
    change(folder, "training", n_steps=5000, final_kl_weight=1.0)
    change(folder, "populations", n_cells=4000, ranked=True)
    assert not {"Too few steps", "KL weight below 1", "Small populations", "Populations left out"} & set(titles(folder))


def test_models_without_gradient_steps_are_not_counted_as_short(folder: Path) -> None:
    change(folder, "training", n_steps=0, final_kl_weight="")
    assert not {"Too few steps", "KL weight below 1"} & set(titles(folder))


def test_failed_models_are_counted(folder: Path) -> None:
    rows = len(pd.read_csv(folder / "tables" / "training.csv"))
    change(folder, "training", failure=["loss became NaN at epoch 3"] + [""] * (rows - 1))
    assert titles(folder)["Failed models"] == 1


def test_two_replicates_and_the_kind_of_resampling_are_named(tmp_path: Path) -> None:
    assert titles(made.write_trial(tmp_path / "a", made.Shape(n_replicates=2)))["No intervals"] == 2
    assert "Bootstrap" in titles(made.write_trial(tmp_path / "b", resample__kind="bootstrap"))
    assert "Same cells in every replicate" in titles(made.write_trial(tmp_path / "c", resample__kind="seed"))


def test_a_stable_control_and_batches_in_the_latent_space_are_named(tmp_path: Path) -> None:
    folder = made.write_trial(tmp_path, data__batch_key="donor")
    association = pd.read_csv(folder / "tables" / "association.csv")
    strongest = association.loc[association["key"] == "donor", "eta2"].max()
    assert titles(folder)["Batch in the latent space"] == strongest
    assert "A control is stable" not in titles(folder)
    change(folder, "stability", lower=0.4, floor=0.3)
    assert titles(folder)["A control is stable"] == 4


def test_a_warm_up_that_ends_with_the_training_has_reached_its_weight(folder: Path) -> None:
    change(folder, "training", final_kl_weight=0.9975)
    assert "KL weight below 1" not in titles(folder)


def test_lists_at_the_floor_are_counted(folder: Path) -> None:
    change(folder, "stability", lower=0.1, floor=0.3)
    results = made.ResultFolder(folder)
    lists = results.headline[results.headline["method"] != "random"]
    assert titles(folder)["Stability at or below the floor"] == len(lists)


def test_answers_of_none_are_counted(folder: Path) -> None:
    change(folder, "answer", method="none", reason="nothing above its floor")
    assert titles(folder)["No list to trust"] == 8


def test_three_replicates_are_said_to_show_little(tmp_path: Path) -> None:
    found = {c.title: c for c in made.caveats_of(made.write_trial(tmp_path / "a", made.Shape(n_replicates=3)))}
    assert "3 replicates give 3 comparisons" in found["Few replicates"].text
    assert "Few replicates" not in titles(made.write_trial(tmp_path / "b", made.Shape(n_replicates=5)))


def test_a_fact_is_said_once(folder: Path) -> None:
    every = [caveat.title for caveat in made.caveats_of(folder)]
    assert len(every) == len(set(every))
    change(folder, "training", n_steps=700)
    assert "Not many steps" in titles(folder)
    assert "Too few steps" not in titles(folder)


def test_a_caveat_without_a_number_keeps_its_columns() -> None:
    table = caveats_table([Caveat("Data", "12 cells have no counts.", warned=True)])
    assert list(table.columns) == ["title", "text", "value", "unit", "source", "warned"]
    assert table["value"].isna().all()
    assert list(caveats_table([]).columns) == list(table.columns)


def test_what_the_same_donors_cannot_show_of_a_response_is_named(tmp_path: Path) -> None:
    title = "Response in the same donors"
    folder = made.write_trial(tmp_path / "a", data__sample_key="donor")
    assert title not in titles(folder)
    answer = pd.read_csv(folder / "tables" / "answer.csv")
    change(folder, "answer", estimand=["response"] * len(answer), method=["response_wilcoxon"] * len(answer))
    assert titles(folder)[title] == len(answer)
    other = made.write_trial(tmp_path / "b", data__sample_key="donor", resample__kind="donor")
    change(other, "answer", estimand=["response"] * len(answer), method=["response_wilcoxon"] * len(answer))
    assert title not in titles(other)
