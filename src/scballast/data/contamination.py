"""What gets into a droplet beside its own cell: a second cell, and ambient counts."""

from __future__ import annotations

import numpy as np

from scballast.arrays import FloatArray, IntArray
from scballast.config.simulation import SimulationConfig
from scballast.seeds import Stream, generator_for

_AMBIENT_SHAPE = 4.0  # of the gamma distribution of the ambient share over cells: a spread of 50%
_LARGEST_AMBIENT_SHARE = 0.9


def second_cells(config: SimulationConfig, seed: int, population: int) -> IntArray:
    """Return (n_cells,) the population of the second cell of each droplet, -1 for none.

    All populations are as likely, the cell's own included: the first to arrive, so that an appended population only
    takes over some of the second cells.
    """
    size = config.population_sizes[population]
    chosen = generator_for(seed, Stream.SIMULATION, "doublets", population).random(size) < config.doublets
    arrivals = np.stack(
        [
            generator_for(seed, Stream.SIMULATION, "second_cells", population, other).standard_exponential(size)
            for other in range(len(config.population_sizes))
        ]
    )
    return np.where(chosen, arrivals.argmin(axis=0), -1)


def ambient_shares(config: SimulationConfig, seed: int, population: int) -> FloatArray:
    """Return (n_cells,) the share of each cell's counts that is expected to be ambient."""
    size = config.population_sizes[population]
    stream = generator_for(seed, Stream.SIMULATION, "ambient_share", population)
    shares = config.ambient * stream.standard_gamma(_AMBIENT_SHAPE, size=size) / _AMBIENT_SHAPE
    return np.minimum(shares, _LARGEST_AMBIENT_SHARE)


def ambient_rates(log_rate: FloatArray, log_fold_changes: FloatArray) -> FloatArray:
    """Return (n_genes,) the mean over populations of their rates, programs aside.

    Parameters
    ----------
    log_rate
        (n_genes,) b, log shares of a cell's counts.
    log_fold_changes
        (n_populations, n_genes) δ.
    """
    rates = np.exp(log_rate + log_fold_changes)
    return np.asarray((rates / rates.sum(axis=1, keepdims=True)).mean(axis=0))


def draw_ambient(rates: FloatArray, expected: float, seed: int, population: int, cell: int) -> FloatArray:
    """Return (n_genes,) ambient counts of one cell, ``expected`` of them on average."""
    stream = generator_for(seed, Stream.SIMULATION, "ambient", population, cell)
    return stream.poisson(expected * rates).astype(np.float32)
