"""What a sweep adds to its experiments: Hydra, Optuna and MLflow, per trial. Wanted: below one second.

Eight trials of a tiny experiment run in one command. The time of a trial in the study (from claim to end), and
the time between two trials, less what the experiment itself says it took, is overhead: composing and checking the
configuration, the job's folder, sampling, telling, the run in MLflow and its artifacts, the parent's progress.
"""

from __future__ import annotations

import sys
import tempfile
from datetime import datetime
from pathlib import Path

from tests.helpers.sweep_helpers import BASELINES, RANDOM, rows, run

N_TRIALS = 8
WANTED_SECONDS = 1.0


def main() -> bool:
    """Measure and print; return whether it is as wanted."""
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        words = (*BASELINES, *RANDOM, f"sweep.n_trials={N_TRIALS}", "rank.local_ridge=interval(1,2)")
        run(runs, "-m", *words)
        spans = rows(
            runs / "optuna.db",
            "SELECT datetime_start, datetime_complete FROM trials WHERE state = 'COMPLETE' ORDER BY number",
        )
        query = (
            "SELECT tags.value, sum(metrics.value) FROM metrics JOIN tags USING (run_uuid) "
            "WHERE tags.key = 'scballast.trial' AND metrics.key LIKE 'seconds/%' GROUP BY tags.value"
        )
        experiment = {int(trial): seconds for trial, seconds in rows(runs / "mlflow.db", query)}
    starts = [datetime.fromisoformat(start) for start, _ in spans]
    # The first trial also waits for libraries; the last has no next one.
    per_trial = [(starts[i + 1] - starts[i]).total_seconds() for i in range(1, len(starts) - 1)]
    overheads = sorted(whole - experiment[i + 1] for i, whole in enumerate(per_trial))
    median = overheads[len(overheads) // 2]
    print(f"{len(overheads)} trials, from one claim to the next: median {sorted(per_trial)[len(per_trial) // 2]:.2f} s")
    print(f"overhead beyond the experiment: median {median:.2f} s, {overheads[0]:.2f} to {overheads[-1]:.2f} s")
    print(f"wanted: below {WANTED_SECONDS:.0f} s")
    return median < WANTED_SECONDS


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
