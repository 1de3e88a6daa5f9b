"""Which stages looked at a part of the cells, and at how many: what is too large to be held whole or tested whole."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scballast.arrays import IntArray
from scballast.experiment.embedding import MOST_CELLS as MOST_SHOWN
from scballast.experiment.memory import DENSE_BY_POPULATION
from scballast.experiment.setup import Setup
from scballast.methods.cell_view import MOST_CELLS
from scballast.verdict.unseen import MOST_CELLS as MOST_TESTED

COLUMNS = ("stage", "population", "n_cells", "n_looked_at")
PROGRAMS, TESTS, FIT, MAP = "search for programs", "tests of program lists", "held-out fit", "map of the cells"


def subsamples_table(setup: Setup) -> pd.DataFrame:
    """Return the stages that looked at a part of the cells.

    Returns
    -------
    DataFrame
        ``stage`` (a method's name, or in words), ``population`` (empty: all cells), ``n_cells`` that it could have
        looked at (in the largest replicate, where it looks at each) and ``n_looked_at``. Smaller populations were
        looked at whole and have no row.
    """
    config, names, codes = setup.config, setup.populations, setup.dataset.population_codes
    sizes = _sizes(codes, len(names))
    seen = np.max([_sizes(codes[replicate.cells], len(names)) for replicate in setup.replicates], axis=0)
    unseen = np.max([_sizes(codes[replicate.heldout], len(names)) for replicate in setup.replicates], axis=0)
    by_population = [(method.name, seen, MOST_CELLS) for method in setup.methods if method.name in DENSE_BY_POPULATION]
    if config.programs.find:
        by_population.append((PROGRAMS, sizes, 2 * MOST_CELLS))
    if any(method.estimand == "program" for method in setup.methods):
        by_population.append((TESTS, np.maximum(seen, unseen), MOST_TESTED))
    rows = [
        (stage, name, int(n_cells), most)
        for stage, of_populations, most in by_population
        for name, n_cells in zip(names, of_populations, strict=True)
        if n_cells > most
    ]
    if setup.from_models:
        of_all = [(MAP, max(replicate.cells.size for replicate in setup.replicates), MOST_SHOWN)]
        if setup.family.likelihood and config.fit.n_mc_samples:
            of_all.append((FIT, max(replicate.heldout.size for replicate in setup.replicates), config.fit.max_cells))
        rows += [(stage, "", int(n_cells), most) for stage, n_cells, most in of_all if n_cells > most]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _sizes(codes: IntArray, n_populations: int) -> IntArray:
    return np.bincount(codes[codes >= 0], minlength=n_populations)
