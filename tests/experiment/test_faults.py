"""Kills, full disks, memory, NaN: nothing is lost, nothing is half there, and what happened is said."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.context import ForkServerContext
from pathlib import Path

import numpy as np
import psutil
import pytest
from tests.helpers.fault_helpers import (
    LDVAE,
    PCA,
    assert_whole,
    command_line,
    diverging,
    diverging_everywhere,
    experiment,
    failure,
    full_disk,
    kill_at,
    killed_in_training,
    little_memory,
    no_memory,
    read_only,
    runs_of,
    stopped_by,
    used,
    without_privileges,
)
from tests.helpers.prepared_processes import prepared
from tests.helpers.tracking_helpers import free_port, mlflow_server

from scballast.results import is_complete
from scballast.tracking import Tracking, TrackingSettings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),
    pytest.mark.skipif(sys.platform == "win32", reason="processes are forked and killed"),
]
N_KILLS = 6


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    return prepared()


@dataclass(frozen=True)
class Life:
    """An experiment that nothing disturbed: its CPU time when it began and ended, and what it wrote."""

    begin_seconds: float
    end_seconds: float
    kibibytes: int


@pytest.fixture(scope="module")
def life(processes: ForkServerContext, tmp_path_factory: pytest.TempPathFactory) -> Life:
    folder = tmp_path_factory.mktemp("whole")
    runs_of(folder / "runs")  # makes the store, which only the first experiment of a folder would do
    process = processes.Process(target=command_line, args=(folder / "log", [*PCA, f"runs_dir={folder / 'runs'}"]))
    process.start()
    assert process.pid is not None
    watched = psutil.Process(process.pid)
    begin = end = used(watched)
    while watched.status() != psutil.STATUS_ZOMBIE:
        end = used(watched)
        time.sleep(0.01)
    process.join()
    assert process.exitcode == 0, (folder / "log").read_text(encoding="utf-8")
    # Results and artifacts share their files through hard links, which take space once.
    files = {path.stat().st_ino: path.stat().st_size for path in (folder / "runs").rglob("*") if path.is_file()}
    return Life(begin, end, sum(4 * -(-size // 4096) for size in files.values()))


def test_killed_at_any_moment_nothing_is_half_there(processes: ForkServerContext, life: Life, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    assert runs_of(runs) == []
    moments = random.Random(0)
    killed = 0
    for kill in range(N_KILLS):
        # A moment in each part of an experiment's life; a seed of its own, so that no score is cached.
        share = (kill + moments.random()) / N_KILLS
        words = [*PCA, f"seed={kill + 1}", f"runs_dir={runs}"]
        worker = processes.Process(target=command_line, args=(tmp_path / "log", words))
        worker.start()
        assert worker.pid is not None
        killed += kill_at(worker.pid, life.begin_seconds + share * (life.end_seconds - life.begin_seconds))
        worker.join()
        found = assert_whole(runs)
    assert killed >= N_KILLS - 2
    # Those that were killed before they began left no run.
    assert 2 <= len(found) <= N_KILLS
    assert {failure(run) for run in found if run.status == "FAILED"} == {"its process ended without a word"}


@pytest.mark.usefixtures("spared_work")
def test_two_experiments_at_once_in_one_folder(processes: ForkServerContext, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    words = [[*PCA, f"seed={seed}", f"runs_dir={runs}"] for seed in range(2)]
    both = [
        processes.Process(target=command_line, args=(tmp_path / "log", words[i]), kwargs={"whole": False})
        for i in range(2)
    ]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    found = assert_whole(runs)
    assert sorted(run.params["seed"] for run in found) == ["0", "1"]
    assert {run.status for run in found} == {"FINISHED"}
    alone = experiment(tmp_path / "alone", *PCA, "seed=1")
    (second,) = [run for run in found if run.params["seed"] == "1"]
    assert second.metrics["stability/contrast"] == alone.metrics["stability/contrast"]


@pytest.fixture
def command(processes: ForkServerContext, tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Return what runs the command with a fault in it, and gives its status and the last line it said."""

    def run(*words: str, fault: Callable[[], None] | None = None, whole: bool = False) -> tuple[int, str]:
        log = tmp_path / "log"
        process = processes.Process(target=command_line, args=(log, list(words), fault), kwargs={"whole": whole})
        process.start()
        process.join()
        said = log.read_text(encoding="utf-8")
        assert "Traceback" not in said
        assert process.exitcode is not None
        return process.exitcode, said.splitlines()[-1]

    return run


def test_a_disk_that_is_full_when_results_are_written(command: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    status, said = command(*PCA, f"runs_dir={tmp_path / 'runs'}", fault=full_disk)
    assert (status, said) == (1, "The disk is full. Free some space, and run it again.")
    (run,) = assert_whole(tmp_path / "runs")
    assert failure(run) == f"OSError: [Errno {errno.ENOSPC}] No space left on device"
    assert not list((tmp_path / "runs" / "results").iterdir())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Return what mounts a disk of so many KiB."""
    mounted: list[Path] = []

    def mount(size: int) -> Path:
        folder = tmp_path / f"disk{size}"
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(folder)], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("no disk can be mounted here; it takes root")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


@pytest.mark.parametrize(
    "share", [0.15, 0.3, 0.8], ids=["as the store is made", "before the results", "in the results"]
)
def test_a_disk_that_fills_up(
    share: float, life: Life, command: Callable[..., tuple[int, str]], small_disk: Callable[[int], Path], tmp_path: Path
) -> None:
    runs = small_disk(int(share * life.kibibytes)) / "runs"
    assert command(*PCA, f"runs_dir={runs}", whole=True)[0] == 1
    said = (tmp_path / "log").read_text(encoding="utf-8")
    assert said.lower().count("the disk is full") == 1
    subprocess.run(["mount", "-o", "remount,size=60000k", str(runs.parent)], check=True)
    found = assert_whole(runs)
    assert len(found) <= 1
    if share == 0.8:
        assert command(*PCA, f"runs_dir={runs}", whole=True)[0] == 0
        first, second = assert_whole(runs)
        # The tables of the first were whole before the report filled the disk.
        assert (first.status, second.status) == ("FINISHED", "FINISHED")
        assert not (runs / "results" / first.name / "report.html").exists()
        assert (runs / "results" / second.name / "report.html").exists()


def test_not_enough_memory_to_train(command: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    status, said = command(*PCA, f"runs_dir={tmp_path / 'runs'}", fault=no_memory)
    assert status == 1
    assert said.startswith("There is not enough memory (Unable to allocate 7.45 TiB). Use fewer cells")
    (run,) = assert_whole(tmp_path / "runs")
    assert failure(run) == "MemoryError: Unable to allocate 7.45 TiB"


@pytest.mark.skipif(sys.platform != "linux", reason="limits on address space are enforced on Linux")
@pytest.mark.parametrize("stage", ["train_models", "model_scores"])
def test_a_limit_on_memory(stage: str, command: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    status, said = command(*PCA, f"runs_dir={tmp_path / 'runs'}", fault=partial(little_memory, stage))
    assert status == 1
    assert said.startswith("There is not enough memory")
    assert said.endswith("or a machine with more memory.")
    (run,) = assert_whole(tmp_path / "runs")
    assert run.status == "FAILED"
    assert failure(run).startswith("MemoryError")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_ends_the_run_with_its_reason(
    name: str, command: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    status, said = command(*PCA, f"runs_dir={tmp_path / 'runs'}", fault=partial(stopped_by, signal.Signals[name]))
    assert status == 1
    assert said.startswith("Stopped. ")
    (run,) = runs_of(tmp_path / "runs")
    assert (run.status, failure(run)) == ("KILLED", f"stopped by {name}")
    assert not list((tmp_path / "runs").glob("results/*"))


def test_a_cache_that_cannot_be_written_costs_time_only(
    command: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    status, _ = command(*PCA, f"runs_dir={tmp_path / 'runs'}", fault=partial(read_only, "cache"))
    assert status == 0
    assert (tmp_path / "log").read_text(encoding="utf-8").count("Scores are not kept in") == 1
    assert [run.status for run in assert_whole(tmp_path / "runs")] == ["FINISHED"]


def test_a_runs_folder_that_becomes_read_only(command: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    status, said = command(*PCA, f"runs_dir={runs}", fault=partial(read_only, "results"))
    assert status == 1
    assert said.startswith(f"{runs}: the results cannot be written (Read-only file system).")
    (run,) = assert_whole(runs)
    assert run.status == "FAILED"


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="to give files away takes root")
@pytest.mark.parametrize("shared", [False, True], ids=["the folder", "the files in a folder of both"])
def test_a_runs_folder_of_another_user(shared: bool, command: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    assert command(*PCA, f"runs_dir={runs}")[0] == 0
    for path in (runs, *runs.rglob("*")):
        os.chown(path, 65534, 65534)
        path.chmod(0o777 if path.is_dir() and shared else 0o755 if path.is_dir() else 0o644)
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.is_file()}
    (tmp_path / "log").unlink()
    status, said = command(*PCA, "seed=1", f"runs_dir={runs}", fault=without_privileges)
    assert status == (1 if shared else 2), said
    log = (tmp_path / "log").read_text(encoding="utf-8")
    assert log.count("cannot be written") == 1
    assert str(runs) in log
    after = {path: path.stat().st_mtime_ns for path in before if path.exists()}
    assert {path: time_ for path, time_ in before.items() if "lock" not in path.name and after.get(path) != time_} == {}
    assert [run.status for run in assert_whole(runs)] == ["FINISHED"]


def test_an_mlflow_server_that_is_killed_in_the_middle(command: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    store, port, runs = tmp_path / "server", free_port(), tmp_path / "runs"
    store.mkdir()
    address = f"http://127.0.0.1:{port}"
    words = (*PCA, f"runs_dir={runs}", f"tracking.uri={address}")
    with mlflow_server(store, port) as server:
        status, _ = command(*words, fault=partial(killed_in_training, server.pid))
    said = (tmp_path / "log").read_text(encoding="utf-8")
    assert status == 0
    assert said.count("gives no answer (Connection refused). Results are kept in") == 1
    (folder,) = (runs / "results").iterdir()
    assert f"Report: {folder / 'report.html'}" in said
    assert is_complete(folder)
    with mlflow_server(store, port):
        tracking = Tracking(TrackingSettings(uri=address, experiment="scballast", runs_dir=runs))
        assert [run.status for run in tracking.find_runs()] == ["RUNNING"]
        assert tracking.sync().published == (folder.name,)
        assert [run.status for run in tracking.find_runs()] == ["FINISHED"]


@pytest.mark.usefixtures("spared_work")
def test_a_member_whose_loss_is_nan_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    words = (*LDVAE, "resample.n_replicates=4")
    healthy = experiment(tmp_path / "healthy", *words)
    heal = diverging({1})
    try:
        found = experiment(tmp_path / "poisoned", *words)
    finally:
        heal()
    training = found.training.set_index("replicate")
    assert training["failure"].map(bool).tolist() == [False, True, False, False]
    assert found.metrics["train/failures"] == 1
    ranks = {
        key: table.query("method == 'contrast'").pivot_table(
            index=["population", "gene"], columns="replicate", values="rank", observed=True
        )
        for key, table in {"healthy": healthy.rankings, "poisoned": found.rankings}.items()
    }
    assert list(ranks["poisoned"].columns) == [0, 2, 3]
    np.testing.assert_array_equal(ranks["poisoned"], ranks["healthy"][[0, 2, 3]])
    (run,) = assert_whole(tmp_path / "poisoned")
    assert run.status == "FINISHED"
    warnings = (found.folder / "warnings.json").read_text(encoding="utf-8")
    assert "1 global models failed and are left out" in warnings


def test_if_no_loss_is_finite_the_run_fails_and_says_so(
    command: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    status, said = command(*LDVAE, f"runs_dir={tmp_path / 'runs'}", fault=diverging_everywhere)
    assert status == 1
    assert "no member has a result" in said
    assert said.endswith("Lower train.lr.")
    (run,) = assert_whole(tmp_path / "runs")
    assert run.status == "FAILED"
    assert failure(run) == f"TrainingError: {said}"
