"""A sweep on a real Slurm: workers on two nodes share its trials, and one that is killed costs nothing."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.helpers.slurm_cluster import NODES, Cluster, NoClusterError, slurm_cluster
from tests.helpers.sweep_helpers import (
    BASELINES,
    STABLEST,
    assert_whole,
    parent,
    run,
    running_trial,
    start,
    trial_notes,
    wait_for,
)

pytestmark = pytest.mark.slurm
LAUNCHER = ("hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=10", "sweep.n_workers=2")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    try:
        with slurm_cluster() as running:
            yield running
    except NoClusterError as error:
        pytest.skip(str(error))


def owners(runs: Path) -> dict[int, int]:
    """Return the process that has each trial, by the trial's number."""
    notes = trial_notes(runs).items()
    return {n: json.loads(own["scballast.process"])["pid"] for n, own in notes if "scballast.process" in own}


def test_a_killed_worker_of_one_node_costs_no_trial(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
    # One task to a node: the two workers cannot stand on the same one.
    runs, alone = tmp_path / "runs", "+hydra.launcher.additional_parameters.exclusive=true"
    process = start(runs, "-m", *BASELINES, STABLEST, *LAUNCHER, alone, "seed=1,2,3,4,5,6", "sweep.name=s")
    wait_for(lambda: len(set(owners(runs).values())) >= 2, "two workers")
    assert {cluster.node_of(pid) for pid in owners(runs).values()} == set(NODES)
    running = wait_for(lambda: [n for n in owners(runs) if running_trial(runs, n)], "a running trial")
    killed = owners(runs)[running[0]]
    os.kill(killed, signal.SIGKILL)
    assert process.wait(300) == 0, (tmp_path / "log.txt").read_text()[-4000:]
    assert_whole(runs, 6)
    assert parent(runs)["status"] == "FINISHED"
    # The trial of the killed one was asked again, by the other.
    assert len(owners(runs)) == 7
    assert "6 done, 0 failed, 6 in all" in (tmp_path / "log.txt").read_text()
    # No job is left in the queue.
    assert cluster.call("squeue", "--noheader") == ""


def test_a_partition_that_is_not_there_ends_in_one_message(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
    words = (*BASELINES, STABLEST, *LAUNCHER, "hydra.launcher.partition=nowhere", "seed=1,2")
    said = run(tmp_path / "runs", "-m", *words, status=1)
    last = said.strip().splitlines()[-1]
    assert last.startswith("hydra/launcher=submitit_slurm could not start a worker: ")
    assert "invalid partition" in last
    assert "Traceback" not in said
