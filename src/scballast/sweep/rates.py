"""How long work takes on this machine, from what finished runs have stored."""

from __future__ import annotations

import csv
import math
import statistics
from dataclasses import dataclass
from pathlib import Path

from scballast.results import MARKER, read_config, read_json

MOST_RUNS = 30
"""So many of the newest runs are looked at."""
USUAL_BASELINES = 7e-4
"""Seconds of the rankings of ``baselines=fast`` per replicate and cell on two cores: 10,000 to 1,000,000 cells."""


def usual_rest(n_cells: int, n_populations: int) -> float:
    """Return the seconds on two cores of all but training and baselines; roughly, 700 to 1,000,000 cells."""
    return 15.0 + 0.4 * n_populations + 1.4e-3 * n_cells


@dataclass(frozen=True)
class Rates:
    """Seconds of work on this machine; NaN for what no stored run tells.

    Attributes
    ----------
    training
        Of one cell in one epoch of one model.
    baselines
        Of the baselines' rankings per replicate and cell.
    rest
        Of everything else in an experiment (held-out fit, statistics, report), relative to `usual_rest`.
    n_runs
        Stored runs that these come from.
    """

    training: float
    baselines: float
    rest: float
    n_runs: int

    def or_usual(self, training: float) -> Rates:
        """Return them with what is usual in place of what is not known; ``training`` is that of the model's family."""

        def known(rate: float, usual: float) -> float:
            return usual if math.isnan(rate) else rate

        return Rates(
            known(self.training, training), known(self.baselines, USUAL_BASELINES), known(self.rest, 1.0), self.n_runs
        )


def stored_rates(runs_dir: Path, model: str) -> Rates:
    """Read the rates of the newest finished runs.

    Parameters
    ----------
    runs_dir
        Folder of the runs.
    model
        Name of the model family: others train at another speed.
    """
    markers = sorted(runs_dir.glob(f"results/[!.]*/{MARKER}"), key=lambda path: path.stat().st_mtime)[-MOST_RUNS:]
    runs = [run for marker in markers if (run := _times(marker.parent, model)) is not None]

    known = {
        name: [run[name] for run in runs if math.isfinite(run[name])] for name in ("training", "baselines", "rest")
    }
    # A run whose baselines came from the cache says nothing of their time: the slowest are those that did not.
    baselines = max(known["baselines"], default=math.nan)
    # Nor does one whose models came from the cache: those that took less than a tenth of the slowest.
    trained = [rate for rate in known["training"] if rate > max(known["training"]) / 10]
    training, rest = (statistics.median(rates) if rates else math.nan for rates in (trained, known["rest"]))
    return Rates(training, baselines, rest, len(runs))


def _times(folder: Path, model: str) -> dict[str, float] | None:
    """Return the rates of one run, or None for another model or what cannot be read."""
    import yaml

    try:
        config, metrics = read_config(folder), dict(read_json(folder / "metrics.json"))
        path = folder / "tables" / "training.csv"
        rows = _rows(path) if path.is_file() else []
        populations = _rows(folder / "tables" / "populations.csv")
        n_cells = sum(int(row["n_cells"]) for row in populations)
        cell_epochs = sum(int(row["n_cells"]) * max(1, int(row["epochs"])) for row in rows if not row["failure"])
        if config["model"]["name"] != model:
            return None
        replicate_cells = int(config["resample"]["n_replicates"]) * n_cells
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return None
    training, baselines = metrics.get("seconds/training", 0.0), metrics.get("seconds/baselines", 0.0)
    total = metrics.get("seconds/total", math.nan) + metrics.get("seconds/report", 0.0)
    return {
        "training": training / cell_epochs if cell_epochs else math.nan,
        "baselines": baselines / replicate_cells if replicate_cells else math.nan,
        "rest": (total - training - baselines) / usual_rest(n_cells, len(populations)),
    }


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
