"""Read a sweep's folder: trials, objectives, what dominates what, what was chosen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from scballast.methods.registry import METHODS
from scballast.report.stored_tables import StoredFolder, read_table

_UNITS = {"fit/heldout_nll": "nats per cell", "fit/heldout_elbo": "nats per cell"}
# Of a table of trials that has no configuration beside it.
_USUAL = (
    {"metric": "fit/heldout_nll", "direction": "minimize"},
    {"metric": "stability/contrast", "direction": "maximize"},
)
OF_MODELS = [name for name, method in METHODS.items() if method.roles and not method.control]
"""The methods that read models, but for controls."""
_OF_METHODS = {
    "stability": "Φ, mean over populations",
    "confirmed": "share of the top genes that holds in unseen cells, mean over populations",
}


@dataclass(frozen=True)
class Objective:
    """A metric and the way in which it gets better."""

    metric: str
    maximise: bool

    @property
    def text(self) -> str:
        """Name with direction."""
        return f"{self.metric}: {'higher' if self.maximise else 'lower'} is better"

    @property
    def label(self) -> str:
        """Axis label with unit and direction."""
        unit = _UNITS.get(self.metric, _OF_METHODS.get(self.metric.partition("/")[0], ""))
        direction = "higher is better" if self.maximise else "lower is better"
        return f"{self.metric}\n({'; '.join(part for part in (unit, direction) if part)})"


def non_dominated(values: np.ndarray, maximise: list[bool]) -> np.ndarray:
    """Mark the rows that no other row beats.

    Parameters
    ----------
    values : (n_trials, n_objectives) float
        A row with a NaN is never marked.
    maximise
        For each objective, whether higher is better.

    Returns
    -------
    (n_trials,) bool
        True where no other row is at least as good everywhere and better somewhere.
    """
    cost = np.where(np.asarray(maximise), -values, values)
    known = np.flatnonzero(np.isfinite(cost).all(axis=1))
    rivals = cost[known]
    marked = np.zeros(len(cost), dtype=bool)
    for i in known:
        beaten = (rivals <= cost[i]).all(axis=1) & (rivals < cost[i]).any(axis=1)
        marked[i] = not beaten.any()
    return marked


@dataclass(frozen=True)
class SweepFolder(StoredFolder):
    """A sweep's stored values."""

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row per trial.

        Raises
        ------
        FileNotFoundError
            There is no ``trials.csv``.
        """
        path = self.path / "trials.csv"
        if not path.is_file():
            message = f"{self.path}: no trials.csv. Run the sweep, then report."
            raise FileNotFoundError(message)
        return read_table(path)

    @cached_property
    def objectives(self) -> list[Objective]:
        """Objectives that the trials' metrics have."""
        listed = self.config.get("objectives") or _USUAL
        objectives = [Objective(item["metric"], str(item["direction"]).startswith("max")) for item in listed]
        return [item for item in objectives if item.metric in self.trials]

    @cached_property
    def methods_of_objectives(self) -> list[str]:
        """The methods whose stability or confirmed share is an objective."""
        parts = [o.metric.partition("/") for o in self.objectives]
        return [method for group, _, method in parts if group in _OF_METHODS]

    @cached_property
    def finished(self) -> pd.DataFrame:
        """Trials that have every objective."""
        return self.trials.dropna(subset=[item.metric for item in self.objectives]).reset_index(drop=True)

    @cached_property
    def pareto(self) -> set[str]:
        """Trials that are not dominated: the stored mark, else found from the objectives."""
        trials = self.finished
        if "pareto" in trials:
            return set(trials.loc[trials["pareto"].astype(str) == "True", "trial"])
        if not self.objectives:
            return set()
        values = trials[[item.metric for item in self.objectives]].to_numpy(dtype=float)
        return set(trials.loc[non_dominated(values, [item.maximise for item in self.objectives]), "trial"])

    @cached_property
    def chosen(self) -> str | None:
        """The chosen trial, where one is marked in ``trials.csv``."""
        if "chosen" not in self.trials:
            return None
        marked = self.trials.loc[self.trials["chosen"].astype(str) == "True", "trial"]
        return str(marked.iloc[0]) if len(marked) else None

    @cached_property
    def reason(self) -> str:
        """Why that trial was chosen."""
        if self.chosen is None or "reason" not in self.trials:
            return ""
        return str(self.trials.loc[self.trials["trial"] == self.chosen, "reason"].iloc[0])

    @cached_property
    def stability(self) -> pd.DataFrame | None:
        """Every method's Φ in every population and trial, with the trial's parameters; None where there is none."""
        table = self.table("sweep_stability")
        return None if table is None else table[table["phi"].notna()]

    @cached_property
    def headline_method(self) -> str | None:
        """The method whose stability is shown: that of an objective, else the contrast, else the first by name."""
        if self.stability is None:
            return None
        present = set(self.stability["method"])
        return next((m for m in [*self.methods_of_objectives, "contrast", *sorted(present)] if m in present), None)

    @cached_property
    def parameters(self) -> list[str]:
        """Columns of parameters, which have a dot in their names, that differ between trials."""
        return [
            c for c in self.trials.columns if "." in c and "/" not in c and self.trials[c].nunique(dropna=False) > 1
        ]
