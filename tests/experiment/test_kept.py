"""What trials share: with it they are what they are alone, and it is not computed again."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from tests.helpers.prepared_processes import run
from tests.helpers.sweep_helpers import TINY, trial_states

from scballast.config.compose import compose_config
from scballast.config.schema import Config
from scballast.data.dataset import Dataset
from scballast.experiment import kept as kept_module
from scballast.experiment.kept import Kept
from scballast.experiment.run import prepare_dataset, run_experiment
from scballast.verdict import confirmation

TRIAL = (
    "data=simulated",
    "data.min_cells=10",
    "data.simulation.n_genes=200",
    "data.simulation.population_sizes=[90,70]",
    "resample.n_replicates=6",
    "rank.top_k=5",
    "model=pca",
    "methods=[contrast,spread,t_test,residual_pca,within_pca,random]",
)


def trial(*words: str) -> Config:
    return compose_config([*TRIAL, *words])


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return prepare_dataset(trial())


class Work:
    """Counts the searches for programs, and the lists that are tested."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.searches, self.tested = 0, set[str]()
        search, tests = kept_module.program_tables, confirmation._Tests

        def counted(*given: object) -> object:
            self.searches += 1
            return search(*given)  # type: ignore[arg-type]

        def noted(score_set: object, known: frozenset[str], *others: object) -> object:
            self.tested |= {method.name for method in score_set.methods} - known  # type: ignore[attr-defined]
            return tests(score_set, known, *others)  # type: ignore[arg-type]

        monkeypatch.setattr(kept_module, "program_tables", counted)
        monkeypatch.setattr(confirmation, "_Tests", noted)

    def of(self, config: Config, dataset: Dataset, kept: Kept) -> tuple[int, set[str], dict[str, pd.DataFrame]]:
        self.searches, self.tested = 0, set()
        tables = dict(run_experiment(config, dataset, cache_dir=None, kept=kept).results.tables)
        return self.searches, self.tested, tables


def test_a_trial_after_another_computes_only_what_models_decide(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, kept = Work(monkeypatch), Kept()
    first = work.of(trial("model.n_latent=2"), dataset, kept)
    assert first[:2] == (1, {"contrast", "spread", "t_test", "residual_pca", "within_pca", "random"})
    assert first[2]["program_counts"]["n_programs"].sum() > 0
    for table in first[2].values():
        table.drop(index=table.index, inplace=True)  # what the caller does with its tables is its own affair
    searches, tested, tables = work.of(trial("model.n_latent=3"), dataset, kept)
    assert (searches, tested) == (0, {"contrast", "spread"})
    alone = run_experiment(trial("model.n_latent=3"), dataset, cache_dir=None).results.tables
    assert list(tables) == list(alone)
    for name, table in tables.items():
        pd.testing.assert_frame_equal(table, alone[name], check_exact=True, obj=name)


@pytest.mark.parametrize(
    ("word", "searches", "tested"),
    [
        ("rank.n_components=2", 0, {"within_pca", "residual_pca"}),
        ("rank.top_k=6", 1, {"t_test", "residual_pca", "within_pca", "random"}),
        ("resample.n_replicates=8", 1, {"t_test", "residual_pca", "within_pca", "random"}),
        ("association.keys=[batch]", 1, {"t_test", "residual_pca", "within_pca", "random"}),
        ("resample.kind=thin", 1, {"t_test", "residual_pca", "within_pca", "random"}),
    ],
)
def test_what_decides_it_has_it_computed_again(
    word: str, searches: int, tested: set[str], dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, kept = Work(monkeypatch), Kept()
    if word.startswith("association"):
        dataset.adata.obs["batch"] = ["a", "b"] * (dataset.adata.n_obs // 2)
    work.of(trial("model.n_latent=2"), dataset, kept)
    again = work.of(trial("model.n_latent=2", word), dataset, kept)
    assert (again[0], again[1] - {"contrast", "spread", "wilcoxon"}) == (searches, tested)
    alone = run_experiment(trial("model.n_latent=2", word), dataset, cache_dir=None).results.tables
    for name, table in again[2].items():
        pd.testing.assert_frame_equal(table, alone[name], check_exact=True, obj=name)


def test_the_trials_of_a_sweep_share_it(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    said = run(runs, "-m", *TINY, "model.n_latent=2,3", "methods=[t_test,contrast]")
    assert trial_states(runs) == {"COMPLETE": 2}
    assert said.count("training pca (global): ") == 2
    assert said.count("finding programs: ") == 1
