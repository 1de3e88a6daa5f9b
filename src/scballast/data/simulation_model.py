"""The generative model of simulated cells: rates and counts of any cell by its identity, and the rest of a droplet."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from scballast.arrays import FloatArray, IntArray
from scballast.config.simulation import SimulationConfig
from scballast.data.planting import Program, plant
from scballast.data.simulation_fit import SimulationParameters
from scballast.seeds import Stream, generator_for

_GENE_JITTER = 0.1  # sd of the log rate around the fitted gene's, so that reused genes are not equal
_AMBIENT_SHAPE = 4.0  # of the gamma distribution of the ambient share over cells: a spread of 50%
_LARGEST_AMBIENT_SHARE = 0.9


@dataclass(frozen=True)
class Genes:
    """Genes of the simulation: b as log shares, and φ."""

    log_rate: FloatArray
    dispersion: FloatArray


class CellModel:
    """The rates and counts of any cell of the simulation, by the identity of the cell."""

    def __init__(self, config: SimulationConfig, seed: int, fitted: SimulationParameters) -> None:
        self.config, self.seed, self.fitted = config, seed, fitted
        self.genes = _draw_genes(config.n_genes, fitted, seed)
        self.log_fold_changes, self.programs = plant(config, seed)
        self.n_own_programs = 1 + max((p.number for p in self.programs if not p.is_shared), default=-1)
        self.n_activities = self.n_own_programs + any(program.is_shared for program in self.programs)
        self.ambient_rates = ambient_rates(self.genes.log_rate, self.log_fold_changes)
        self.donor_effects = cache(lambda population: _donor_effects(config, seed, population))

    def active(self, population: int) -> list[tuple[int, Program]]:
        """Return a population's programs, each with its column among the activities."""
        active_programs = [program for program in self.programs if program.is_active_in(population)]
        return [(self.n_own_programs if program.is_shared else program.number, program) for program in active_programs]

    def shift(self, population: int, activity: FloatArray, donors: IntArray) -> FloatArray:
        """Return (n_cells, n_genes) log rates less b, from (n_cells, n_activities) and (n_cells,)."""
        from_programs = np.zeros((activity.shape[0], self.config.n_genes))
        for column, program in self.active(population):
            from_programs[:, program.genes] = program.effects(activity[:, column])
        return np.asarray(self.log_fold_changes[population] + from_programs + self.donor_effects(population)[donors])

    def second_cell(self, other: int, donor: int, population: int, cell: int) -> tuple[FloatArray, float]:
        """Return the counts and the expected number of counts of a cell of ``other`` in another cell's droplet."""
        stream = generator_for(self.seed, Stream.SIMULATION, "second_cell", population, cell, other)
        library = float(draw_libraries(self.config, self.fitted, stream, 1)[0])
        activity = np.zeros((1, self.n_activities))
        for column, program in self.active(other):
            activity[:, column] = program.draw(stream, 1)
        rho, _ = softmax(self.genes.log_rate, self.shift(other, activity, np.array([donor])))
        return draw_cell(rho[0], library, self.genes.dispersion, stream), library


def _draw_genes(n_genes: int, fitted: SimulationParameters, seed: int) -> Genes:
    stream = generator_for(seed, Stream.SIMULATION, "genes")
    n_fitted = fitted.log_rate.size
    rounds = -(-n_genes // n_fitted)
    chosen = np.concatenate([stream.permutation(n_fitted) for _ in range(rounds)])[:n_genes]
    log_rate = fitted.log_rate[chosen] + _GENE_JITTER * stream.standard_normal(n_genes)
    return Genes(log_rate=log_rate - np.log(np.exp(log_rate).sum()), dispersion=np.exp(fitted.log_dispersion[chosen]))


def _donor_effects(config: SimulationConfig, seed: int, population: int) -> FloatArray:
    """Return (donor, gene) effects on the cells of one population; of a single donor, none."""
    effects = np.zeros((config.n_donors, config.n_genes))
    if config.n_donors == 1:
        return effects
    for donor in range(config.n_donors):
        overall = generator_for(seed, Stream.SIMULATION, "donor_effect", donor)
        here = generator_for(seed, Stream.SIMULATION, "donor_effect", donor, population)
        effects[donor] = config.donor_effect * overall.standard_normal(config.n_genes)
        effects[donor] += config.donor_population_effect * here.standard_normal(config.n_genes)
    return effects


def draw_libraries(
    config: SimulationConfig, fitted: SimulationParameters, stream: np.random.Generator, size: int
) -> FloatArray:
    """Return (size,) expected counts of cells: lognormal, of mean ``mean_counts``."""
    sd = fitted.library_log_sd if config.library_log_sd is None else config.library_log_sd
    return config.mean_counts * np.exp(sd * stream.standard_normal(size) - sd**2 / 2)


def softmax(log_rate: FloatArray, shift: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return ρ, and log ρ − log_rate; log_rate is normalised."""
    eta = log_rate + shift
    highest = eta.max(axis=1, keepdims=True)
    rho = np.exp(eta - highest)
    total = rho.sum(axis=1, keepdims=True)
    return rho / total, shift - highest - np.log(total)


def draw_cell(
    rho: FloatArray, library: float, dispersion: FloatArray, stream: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Return (n_genes,) negative binomial counts of one cell."""
    noise = stream.standard_gamma(1 / dispersion) * dispersion
    return stream.poisson(library * rho * noise).astype(np.float32)


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
