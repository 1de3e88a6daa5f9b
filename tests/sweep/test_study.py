"""A study's trials among workers: claimed once, asked again when lost, resumed as if never interrupted."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scballast.config import keys
from scballast.config.schema import Config, SweepConfig, build_config
from scballast.errors import ConfigError
from scballast.sweep.samplers import build_sampler
from scballast.sweep.space import Point, split_words
from scballast.sweep.storage import StorageAddress, storage_address
from scballast.sweep.study import MOST_ATTEMPTS, Identity, SweepStudy
from scballast.tracking.liveness import current_process

_, SPACE = split_words(["model.n_latent=interval(2,40)", "train.lr=tag(log,interval(1e-4,1e-1))"], {})
IDENTITY = Identity("optuna", "pbmc", "d" * 40, {"model.n_latent": "2 to 40"}, [("stability/contrast", "maximize")])
# A process that was: no process has this number on this machine.
DEAD = dataclasses.replace(current_process(), pid=2**22 + 1).to_json()


def config(n_trials: int = 4, *, kind: str = "optuna", sampler: str = "random", **sweep: object) -> Config:
    objectives = [{"metric": "stability/contrast", "direction": "maximize"}]
    return build_config(
        {"sweep": {"kind": kind, "n_trials": n_trials, "sampler": sampler, **sweep}, "objectives": objectives}
    )


def never(_: int) -> None:
    return None


@pytest.fixture(params=["sqlite", "journal"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> StorageAddress:
    text = None if request.param == "sqlite" else f"journal:{tmp_path / 'sweep.journal'}"
    return storage_address(text, tmp_path)


def opened(
    address: StorageAddress,
    n_trials: int = 4,
    *,
    points: Sequence[Point] = (),
    identity: Identity = IDENTITY,
    **kw: str,
) -> SweepStudy:
    return SweepStudy.create_or_resume("s", address, config(n_trials, **kw), SPACE, identity, points)


def work(study: SweepStudy, limit: int = 100) -> list[Point]:
    """Run trials whose result follows from their parameters."""
    points = []
    while len(points) < limit and (claim := study.claim(never)) is not None:
        study.complete(claim.number, {"stability/contrast": 1.0 / float(claim.point["model.n_latent"] or 1)}, {})
        points.append(claim.point)
    return points


def test_workers_at_once_take_every_trial_once(address: StorageAddress) -> None:
    opened(address, 12)

    def worker(_: int) -> list[Point]:
        return work(opened(address, 12))

    with ThreadPoolExecutor(4) as pool:
        taken = [point for points in pool.map(worker, range(4)) for point in points]
    study = opened(address, 12)
    assert len(taken) == 12
    assert [trial.number for trial in study.trials()] == list(range(12))
    assert study.progress().done == 12


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsgaii", "qmc"])
def test_a_resumed_sweep_chooses_what_the_uninterrupted_one_would_have(tmp_path: Path, sampler: str) -> None:
    whole = work(opened(storage_address(None, tmp_path / "a"), 14, sampler=sampler))
    parted = storage_address(None, tmp_path / "b")
    first = work(opened(parted, 14, sampler=sampler), limit=11)
    assert first + work(opened(parted, 14, sampler=sampler)) == whole
    assert len({json.dumps(point) for point in whole}) == 14


def test_the_total_can_grow_and_finished_trials_stay(address: StorageAddress) -> None:
    study = opened(address, 2)
    work(study)
    before = [(trial.number, trial.params, trial.values, trial.datetime_complete) for trial in study.trials()]
    assert len(work(opened(address, 5))) == 3
    assert [(t.number, t.params, t.values, t.datetime_complete) for t in opened(address, 5).trials()][:2] == before
    # A smaller total takes nothing back, and runs nothing.
    assert work(opened(address, 3)) == []


def test_the_trial_of_a_dead_process_fails_and_its_parameters_are_asked_again(address: StorageAddress) -> None:
    study = opened(address, 3)
    lost = study.claim(never)
    assert lost is not None
    lost.trial.set_user_attr(keys.PROCESS, DEAD)
    points = work(opened(address, 3))
    study = opened(address, 3)
    assert len(points) == 3
    assert lost.point in points
    assert study.trial(lost.number).state.name == "FAIL"
    assert (study.progress().done, study.progress().failed, study.progress().total) == (3, 0, 3)


def test_a_live_process_keeps_its_trial_and_a_silent_one_of_another_machine_loses_it(address: StorageAddress) -> None:
    study = opened(address, 1)
    claim = study.claim(never)
    assert claim is not None
    with study.lock():
        assert study.give_up_dead(never) == []
    elsewhere = dataclasses.replace(current_process(), host="elsewhere", pid=2**22 + 1).to_json()
    claim.trial.set_user_attr(keys.PROCESS, elsewhere)
    with study.lock():
        assert study.give_up_dead(never) == []
    claim.trial.set_user_attr("scballast.heartbeat", time.time() - 3600)
    with study.lock():
        assert study.give_up_dead(never) == [claim.number]


def test_a_result_that_was_whole_when_its_process_died_is_not_computed_again(address: StorageAddress) -> None:
    study = opened(address, 1)
    claim = study.claim(never)
    assert claim is not None
    claim.trial.set_user_attr(keys.PROCESS, DEAD)
    assert study.claim(lambda _: ({"stability/contrast": 0.25}, {"scballast.run_id": "r"})) is None
    (trial,) = study.trials()
    assert trial.values == [0.25]
    assert trial.user_attrs["scballast.run_id"] == "r"


def test_parameters_whose_process_keeps_dying_are_given_up(address: StorageAddress) -> None:
    study = opened(address, 1)
    points = []
    while (claim := study.claim(never)) is not None:
        points.append(claim.point)
        study.fail(claim.number, "its process was ended by SIGKILL", again=True, died=True)
    assert points == [points[0]] * MOST_ATTEMPTS
    assert study.progress().failed == 1
    assert study.progress().is_over


def test_a_failed_configuration_of_a_grid_is_asked_again_by_the_next_command(address: StorageAddress) -> None:
    grid: list[Point] = [{"model.n_latent": n, "train.lr": 0.01} for n in (2, 3, 4)]
    study = opened(address, points=grid, kind="grid")
    claim = study.claim(never)
    assert claim is not None
    study.fail(claim.number, "the disk was full")
    assert work(study) == grid[1:]
    assert study.progress().failed == 1
    assert work(opened(address, points=grid, kind="grid")) == grid[:1]
    assert opened(address, points=grid, kind="grid").progress().done == 3


def test_only_failures_since_the_last_success_count(address: StorageAddress) -> None:
    study = opened(address, 5)
    for ending in ("fail", "done", "fail", "fail", "interrupted by the user"):
        claim = study.claim(never)
        assert claim is not None
        if ending == "done":
            study.complete(claim.number, {"stability/contrast": 0.5}, {})
        else:
            study.fail(claim.number, ending)
    assert study.failures_in_a_row(0.0) == 2
    assert study.failures_in_a_row(time.time() + 1) == 0


def test_the_fit_of_a_trial_is_noted_where_it_is_no_objective(tmp_path: Path) -> None:
    study = opened(storage_address(None, tmp_path), 2)
    for metrics in ({"stability/contrast": 0.5, "fit/heldout_nll": 1666.0}, {"stability/contrast": 0.4}):
        claim = study.claim(never)
        assert claim is not None
        study.complete(claim.number, metrics, {})
    assert [trial.user_attrs.get(keys.HELDOUT_NLL) for trial in study.trials()] == [1666.0, None]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"digest": "e" * 40}, r"the data set was pbmc \(dddddddddddd\), is pbmc \(eeeeeeeeeeee\)"),
        ({"space": {"model.n_latent": "2 to 50"}}, "the search space of model.n_latent was 2 to 40, is 2 to 50"),
        ({"space": {}}, "the search space of model.n_latent was 2 to 40, is not there"),
        ({"base": {"train.max_epochs": 5}}, "train.max_epochs was not there, is 5"),
        (
            {"objectives": [("fit/heldout_nll", "minimize")]},
            r"objectives were maximize stability/contrast, are minimize [^(]*"
            r"\(objectives='\[{metric: stability/contrast, direction: maximize}\]'\)",
        ),
        ({"kind": "grid"}, "sweep.kind was optuna, is grid"),
    ],
)
def test_nothing_is_resumed_into_a_study_of_something_else(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    address = storage_address(None, tmp_path)
    opened(address)
    with pytest.raises(ConfigError, match=said):
        opened(address, identity=dataclasses.replace(IDENTITY, **change))  # type: ignore[arg-type]


def test_a_key_that_an_earlier_version_did_not_have_is_as_it_was() -> None:
    base = {"train.data": "memory", "model.n_latent": 20}
    stored = dataclasses.replace(IDENTITY, base={"model.n_latent": 20}).to_json()
    assert dataclasses.replace(IDENTITY, base=base).differences(stored) == []
    streamed = dataclasses.replace(IDENTITY, base={**base, "train.data": "stream"})
    assert streamed.differences(stored) == ["train.data was not there, is stream"]
    for duplicates in (
        "drop",
        "keep",
    ):  # of data with copies the digest tells
        same = dataclasses.replace(IDENTITY, base={**base, "data.duplicates": duplicates})
        assert same.differences(stored) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mysql://u:secret@h/db", "mysql://u@h/db"),
        ("optuna.db", "'optuna.db' is not the address"),
        ("journal:", "journal"),
    ],
)
def test_an_address_of_no_known_kind_is_refused_without_its_password(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        storage_address(text, tmp_path)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", SweepConfig.__dataclass_fields__["sampler"].metadata["allowed"])
def test_every_sampler_is_built_by_its_name(name: str) -> None:
    if name == "gp":
        pytest.importorskip("torch")
    sampler = build_sampler(config(sampler=name), 3)
    wanted = {"tpe": "TPE", "nsgaii": "NSGAII", "nsgaiii": "NSGAIII", "gp": "GP", "qmc": "QMC"}.get(name, "Random")
    assert type(sampler).__name__ == f"{wanted}Sampler"


def test_arguments_that_a_sampler_does_not_take_are_named() -> None:
    with pytest.raises(ConfigError, match=r"n_startup_trails not known to TPESampler; allowed: .*n_startup_trials"):
        build_sampler(config(sampler="tpe", sampler_kwargs={"n_startup_trails": 5}), 0)
    sampler = build_sampler(config(sampler="nsgaii", sampler_kwargs={"population_size": 7}), 0)
    assert sampler.population_size == 7  # type: ignore[attr-defined]
