"""What no model decides, kept in a process from a sweep's trial to the next: it is the same in all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from scballast.arrays import FloatArray
from scballast.experiment.programs import program_tables
from scballast.experiment.scoring import Scores
from scballast.experiment.setup import Setup
from scballast.methods.cache import array_digest
from scballast.verdict.score_set import ScoreSet


@dataclass
class Kept:
    """Programs, and the rankings of baselines and their tests and agreement, of experiments on the same data.

    They are kept while the settings stay that decide them beside the data: the seed, how replicates are drawn, the
    length of lists, and the columns that programs are compared with.
    """

    _settings: tuple[Any, ...] = ()
    _programs: dict[str, pd.DataFrame] = field(default_factory=dict)
    _p_values: dict[str, tuple[str, FloatArray]] = field(default_factory=dict)
    _ranked: ScoreSet | None = None

    def programs(self, setup: Setup) -> dict[str, pd.DataFrame]:
        """Return `program_tables`; the caller may add and leave out rows and columns, and change no value."""
        self._hold(setup)
        if not self._programs:
            self._programs = program_tables(setup)
        return {name: table.copy(deep=False) for name, table in self._programs.items()}

    def p_values(self, setup: Setup, scores: Scores) -> dict[str, FloatArray]:
        """Return the p-values of baselines that were tested with the same scores, by their names."""
        self._hold(setup)
        known = {name: entry for name, entry in self._p_values.items() if name in scores}
        return {name: values for name, (digest, values) in known.items() if digest == array_digest(scores[name])}

    def keep_p_values(self, setup: Setup, scores: Scores, p_values: dict[str, FloatArray]) -> None:
        """Keep the p-values of a confirmation for the next experiment."""
        self._hold(setup)
        names = (method.name for method in setup.from_cells)
        self._p_values = {name: (array_digest(scores[name]), p_values[name]) for name in names}

    def ranked(self, setup: Setup) -> ScoreSet | None:
        """Return the rankings of baselines, and what is known of their agreement, for `rank_scores`; None: of none."""
        self._hold(setup)
        return self._ranked

    def keep_ranked(self, setup: Setup, score_set: ScoreSet) -> None:
        """Keep the rankings of baselines for the next experiment, with what its tables have computed of them."""
        self._hold(setup)
        self._ranked = score_set.only(tuple(setup.from_cells))

    def _hold(self, setup: Setup) -> None:
        config = setup.config
        settings = (config.seed, config.resample, config.rank.top_k, config.association.keys)
        if settings != self._settings:
            self._settings, self._programs, self._p_values, self._ranked = settings, {}, {}, None
