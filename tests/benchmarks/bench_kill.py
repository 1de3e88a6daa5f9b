"""Kill an experiment and two sweeps at more than 130 random moments of their lives, and look at what is left each time.

Sixty kills are of one experiment in one and the same ``runs/``, each with a seed of its own, so that no score is
cached: a fresh command for some, imports included, and for the others a process that has imported everything. Forty
are of one sweep, which the same command takes up again each time: of its controller, or of both it and its trial.
A raced sweep whose trials are trained two at a time, by two commands at once, is killed, one of them or both, until
thirty kills have met trials at work; every fourth kill is at any moment of a command's life, its start included.
Wanted: after each, the databases open, the next command leaves no run RUNNING, every result that is there is whole, and
no trial that had finished is lost, run again or changed, and no model that the cache holds is trained again; in the
end the sweep has every trial once. One part alone: ``python -m tests.benchmarks kill --only raced``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Set
from functools import partial
from multiprocessing.context import ForkServerContext
from pathlib import Path

import psutil
from tests.helpers import sweep_helpers as sweeps
from tests.helpers.fault_helpers import PCA, assert_whole, command_line, kill_at, used
from tests.helpers.prepared_processes import prepared

from scballast.config import keys

N_FRESH = 4
N_FORKED = 56
N_SWEEP = 40
N_TRIALS = 40
N_RACED = 30
N_RACED_TRIALS = 80
SHARE_OF_TRIALS = 0.3
"""Of the kills of the sweep those that hit the process of a trial first, and its controller a moment later."""


def main(words: list[str] | None = None) -> bool:
    """Print what was found after each kill, and return whether all of it was whole."""
    parts = {
        "experiment": (kill_experiments, N_FRESH + N_FORKED),
        "sweep": (kill_sweep, N_SWEEP),
        "raced": (kill_raced_sweep, N_RACED),
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(parts), choices=list(parts), help="what is killed")
    wanted = parser.parse_args(words or []).only
    moments = random.Random(0)
    context = prepared()
    n_killed = n_wanted = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in wanted:
            kill, n_kills = parts[name]
            n_killed += kill(Path(folder) / name / "runs", moments, context)
            n_wanted += n_kills
    print(f"{n_killed} of {n_wanted} were killed in time; whole after each")
    return n_killed >= 0.95 * n_wanted


def kill_experiments(runs: Path, moments: random.Random, context: ForkServerContext) -> int:
    """Return how many experiments were killed before they ended."""
    runs.parent.mkdir()
    n_killed = 0
    for fresh, n_kills in ((True, N_FRESH), (False, N_FORKED)):
        # The first experiment of a folder makes the store; those that are killed find it there.
        seed = 1000 + 10 * fresh
        _wait(_start(runs, seed, context, fresh=fresh))
        watched = psutil.Process(_start(runs, seed + 1, context, fresh=fresh))
        begin = end = used(watched)
        while _is_alive(watched):
            end = used(watched)
            time.sleep(0.02)
        _wait(watched.pid)
        what = "a command" if fresh else "an experiment"
        print(f"{what} uses {end - begin:.1f} s of CPU time; {n_kills} are killed, spread over it", flush=True)
        for kill in range(n_kills):
            share = (kill + moments.random()) / n_kills
            pid = _start(runs, 100 * fresh + kill + 1, context, fresh=fresh)
            killed = kill_at(pid, begin + share * (end - begin))
            _wait(pid)
            n_killed += killed
            states = Counter(run.status for run in assert_whole(runs))
            print(f"{'killed' if killed else 'ended'} at {share:4.0%}: runs {dict(states)}", flush=True)
    return n_killed


_started: dict[int, subprocess.Popen[bytes] | multiprocessing.process.BaseProcess] = {}


def _start(runs: Path, seed: int, context: ForkServerContext, *, fresh: bool) -> int:
    words = [*PCA, f"runs_dir={runs}", f"seed={seed}"]
    process: subprocess.Popen[bytes] | multiprocessing.process.BaseProcess
    if fresh:
        command = [str(Path(sys.executable).with_name("scballast")), *words]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    else:
        process = context.Process(target=command_line, args=(runs.parent / "log", words))
        process.start()
    assert process.pid is not None
    _started[process.pid] = process
    return process.pid


def _wait(pid: int) -> None:
    process = _started.pop(pid)
    process.wait() if isinstance(process, subprocess.Popen) else process.join()


def _is_alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def kill_sweep(runs: Path, moments: random.Random, context: ForkServerContext) -> int:
    """Kill a sweep again and again, let it end, and return how many kills met it at work."""
    runs.parent.mkdir()
    words = ("-m", *sweeps.BASELINES, *sweeps.RANDOM, f"sweep.n_trials={N_TRIALS}", "sweep.name=killed")
    words += ("rank.local_ridge=interval(1,2)", "sweep.max_failures=1000")
    # How long the command takes to its first trial, and the trial.

    def start() -> multiprocessing.process.BaseProcess:
        process = context.Process(target=command_line, args=(runs.parent / "log", [*words, f"runs_dir={runs}"]))
        process.start()
        return process

    begun = time.monotonic()
    process = start()
    sweeps.wait_for(lambda: _finished(runs), "the first trial")
    life = time.monotonic() - begun
    process.kill()
    process.join()
    print(f"a sweep has its first trial after {life:.1f} s; {N_SWEEP} kills", flush=True)
    n_killed, kept = 0, _finished(runs)
    files = {run_id: sweeps.files_of(runs, run_id) for run_id in kept}
    for kill in range(N_SWEEP):
        process = start()
        process.join(moments.uniform(0.1, 1.2) * life)
        victim = "controller"
        if process.exitcode is None and moments.random() < SHARE_OF_TRIALS:
            trials = [tags["scballast.pid"] for tags in sweeps.children(runs).values() if tags["status"] == "RUNNING"]
            at_work = [int(pid) for pid in trials if psutil.pid_exists(int(pid))]
            for pid in at_work[:1]:
                os.kill(pid, signal.SIGKILL)
                victim = "trial and controller"
                time.sleep(moments.uniform(0, 1))
        n_killed += process.exitcode is None
        process.kill()
        process.join()
        states = sweeps.trial_states(runs)
        now = _finished(runs)
        assert all(now.get(run_id) == end for run_id, end in kept.items()), "a finished trial is lost or was run again"
        for run_id in kept:
            assert sweeps.files_of(runs, run_id) == files[run_id], "the files of a finished trial have changed"
        kept, files = now, {run_id: files.get(run_id) or sweeps.files_of(runs, run_id) for run_id in now}
        print(f"kill {kill} of the {victim}: trials {dict(states)}", flush=True)
    sweeps.run(runs, *words, seconds=900)
    sweeps.assert_whole(runs, N_TRIALS)
    assert all(_finished(runs).get(run_id) == end for run_id, end in kept.items())
    assert len(assert_whole_results(runs)) >= N_TRIALS
    print(
        f"in the end {N_TRIALS} trials, each once, of which {len(kept)} had finished before the last kill", flush=True
    )
    return n_killed


def kill_raced_sweep(runs: Path, moments: random.Random, context: ForkServerContext) -> int:
    """Kill one or both of two commands that share a raced, fused sweep, let it end, and return the kills in time."""
    runs.parent.mkdir()
    words = ("-m", *(word for word in sweeps.TINY if word != "model=pca" and "n_replicates" not in word))
    words += ("methods=[t_test,contrast]", "resample.n_replicates=6", "train.max_epochs=2", "sweep=optuna")
    words += ("sweep.search_space=null", "sweep.sampler=random", "sweep.racing=true", "sweep.fused=2")
    words += (f"sweep.n_trials={N_RACED_TRIALS}", "sweep.name=raced", "sweep.max_failures=1000")
    words += ("model.n_latent=interval(2,8)", "train.lr=tag(log,interval(1e-4,1e-1))")
    words += ("objectives=[{metric: stability/contrast, direction: maximize}]",)

    def start(number: int) -> multiprocessing.process.BaseProcess:
        log = runs.parent / f"log{number}"
        process = context.Process(target=command_line, args=(log, [*words, f"runs_dir={runs}"]))
        process.start()
        return process

    begun = time.monotonic()
    both = [start(0), start(1)]
    sweeps.wait_for(lambda: len(_at_work(runs)) == 2, "two commands at work")
    claimed = time.monotonic()
    sweeps.wait_for(lambda: _ended(runs), "the first trial")
    life, work = time.monotonic() - begun, time.monotonic() - claimed
    print(f"a raced sweep has its first trial after {life:.1f} s, {work:.1f} s of them at work; {N_RACED} kills")
    n_kills = n_met = 0
    kept, models = _ended(runs), _models(runs)
    while n_met < N_RACED:
        victims = [0, 1] if moments.random() < 0.5 else [moments.randrange(2)]
        pids = {both[victim].pid for victim in victims}
        n_kills += 1
        if n_kills % 4:
            sweeps.wait_for(partial(_all_at_work, runs, pids), "the victims at work")
            time.sleep(moments.uniform(0, 1.5) * work)
        else:
            time.sleep(moments.uniform(0.1, 1.0) * life)
        n_lost = sum(_at_work(runs)[pid] for pid in pids)
        n_met += bool(n_lost)
        for victim in victims:
            both[victim].kill()
        for victim in victims:
            both[victim].join()
        ended, there = _ended(runs), _models(runs)
        assert all(ended.get(number) == end for number, end in kept.items()), "an ended trial is lost or was run again"
        assert all(there.get(name) == entry for name, entry in models.items()), "a kept model was trained again"
        kept, models = ended, there
        states = dict(sweeps.trial_states(runs))
        print(f"kill {n_kills} of {len(victims)}, at {n_lost} trials: now {states}, {len(models)} models", flush=True)
        for victim in victims:
            both[victim] = start(victim)
    for process in both:
        process.join(3600)
    assert [process.exitcode for process in both] == [0, 0], (runs.parent / "log0").read_text()[-4000:]
    ended = _ended(runs)
    assert all(ended.get(number) == end for number, end in kept.items())
    assert all(_models(runs).get(name) == entry for name, entry in models.items())
    states = sweeps.trial_states(runs)
    n_ended = states["COMPLETE"] + states["PRUNED"]
    assert (n_ended, states["RUNNING"], states["WAITING"]) == (N_RACED_TRIALS, 0, 0), states
    statuses = Counter(tags["status"] for tags in sweeps.children(runs).values())
    assert (statuses["FINISHED"], statuses["RUNNING"]) == (N_RACED_TRIALS, 0), statuses
    assert len(assert_whole_results(runs)) >= N_RACED_TRIALS
    stopped = f"{n_ended} trials ({states['PRUNED']} stopped by racing)"
    print(f"in the end {stopped}, each once, of which {len(kept)} had ended before the last kill", flush=True)
    print(f"{n_met} of {n_kills} kills met trials at work; {len(_models(runs))} models, each kept one trained once")
    return n_met


def _at_work(runs: Path) -> Counter[int]:
    """Return how many trials each process is at."""
    query = (
        "SELECT value_json FROM trial_user_attributes JOIN trials USING (trial_id) "
        f"WHERE state = 'RUNNING' AND key = '{keys.PROCESS}'"
    )
    return Counter(json.loads(json.loads(owner))["pid"] for (owner,) in sweeps.rows(runs / "optuna.db", query))


def _all_at_work(runs: Path, pids: Set[int | None]) -> bool:
    return pids <= set(_at_work(runs))


def _ended(runs: Path) -> dict[int, str]:
    """Return when each trial that is over, raced out ones too, ended, by its number."""
    query = "SELECT number, datetime_complete FROM trials WHERE state IN ('COMPLETE', 'PRUNED')"
    return {number: str(end) for number, end in sweeps.rows(runs / "optuna.db", query)}


def _models(runs: Path) -> dict[str, int]:
    """Return the file that holds each trained model: one that is trained again is another file."""
    return {path.name: path.stat().st_ino for path in (runs / "cache" / "models").glob("*.npz")}


def _finished(runs: Path) -> dict[str, str]:
    """Return when each trial that has finished did, by its run."""
    found = sweeps.children(runs).items()
    return {run_id: tags["end_time"] for run_id, tags in found if tags["status"] == "FINISHED"}


def assert_whole_results(runs: Path) -> list[Path]:
    """Assert that every result folder is whole, and return them."""
    from scballast.results import is_complete

    folders = sorted((runs / "results").iterdir())
    assert [folder.name for folder in folders if not is_complete(folder)] == []
    return folders


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    sys.exit(0 if main(sys.argv[1:]) else 1)
