"""Kill the real command at 30 random moments of its life, and look at what is left each time.

Each kill is of a fresh ``scballast`` process, imports included, in one and the same ``runs/``. Wanted: after each,
the databases open, the next command leaves no run RUNNING, and every result that is there is whole.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
from tests.helpers.fault_helpers import PCA, assert_whole, kill_at, used

N_KILLS = 30


def main() -> bool:
    """Print what was found after each kill, and return whether all of it was whole."""
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        # The first experiment of a folder makes the store; those that are killed find it there.
        _start(runs, 100).wait()
        whole = _start(runs, 101)
        watched, end = psutil.Process(whole.pid), 0.0
        while watched.status() != psutil.STATUS_ZOMBIE:
            end = used(watched)
            time.sleep(0.02)
        if whole.wait() != 0:
            print("the undisturbed experiment failed")
            return False
        print(f"an undisturbed experiment takes {end:.1f} s of CPU time; {N_KILLS} are killed, spread over it")
        moments = random.Random(0)
        n_killed = 0
        for kill in range(N_KILLS):
            share = (kill + moments.random()) / N_KILLS
            process = _start(runs, kill + 1)
            killed = kill_at(process.pid, share * end)
            process.wait()
            n_killed += killed
            try:
                found = assert_whole(runs)
            except AssertionError as error:
                print(f"kill {kill} at {share:.0%}: {error}")
                return False
            states = Counter(run.status for run in found)
            print(f"{'killed' if killed else 'ended'} at {share:4.0%}: runs {dict(states)}", flush=True)
    print(f"{n_killed} of {N_KILLS} were killed in time; whole after each")
    return n_killed >= N_KILLS - 3


def _start(runs: Path, seed: int) -> subprocess.Popen[bytes]:
    command = [str(Path(sys.executable).with_name("scballast")), *PCA, f"runs_dir={runs}", f"seed={seed}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
