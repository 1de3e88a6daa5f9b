"""The genes that a simulation plants: markers M_c with their shifts, programs P_p with their loadings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scballast.config.simulation import SimulationConfig
from scballast.seeds import Stream, generator_for

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.integer[Any]]
BoolArray = npt.NDArray[np.bool_]

_SHARED = -1  # in place of a population's number: the program active in all of them
_STRENGTH_RATIO = 0.75  # of each program to the one before it


@dataclass(frozen=True)
class Program:
    """One program: who has it, its number there, its genes and their loadings a_pg."""

    population: int
    number: int
    genes: IntArray
    loadings: FloatArray

    def is_active_in(self, population: int) -> bool:
        """Say whether a population's cells have the program."""
        return self.population in (population, _SHARED)

    def activities(self, seed: int, population: int, n_cells: int) -> FloatArray:
        """Return (n_cells,) t_ip of a population's cells; more cells leave the first ones as they are."""
        owner = "shared" if self.population == _SHARED else self.population
        stream = generator_for(seed, Stream.SIMULATION, "activity", owner, self.number, population)
        activities: FloatArray = stream.standard_normal(n_cells)
        return activities


def plant(config: SimulationConfig, seed: int) -> tuple[FloatArray, list[Program]]:
    """Return δ (population, gene), zero outside M_c, and the programs."""
    n_populations = len(config.population_sizes)
    log_fold_changes = np.zeros((n_populations, config.n_genes))
    programs: list[Program] = []
    if config.donor_only:
        return log_fold_changes, programs
    # The shared program's genes are taken first: they must be marker of no population.
    stream = generator_for(seed, Stream.SIMULATION, "shared_program")
    shared = stream.permutation(config.n_genes)[: config.n_program_genes if config.shared_program else 0]
    shared_loadings = _loadings(shared.size, config.program_strength, stream)
    for population in range(n_populations):
        stream = generator_for(seed, Stream.SIMULATION, "markers", population)
        free = _without(stream.permutation(config.n_genes), shared)
        markers = free[: config.n_markers]
        effects = config.marker_log_fold_change * stream.uniform(0.5, 1.5, size=markers.size)
        log_fold_changes[population, markers] = effects

        stream = generator_for(seed, Stream.SIMULATION, "programs", population)
        n_genes = config.n_programs * config.n_program_genes
        from_markers = markers[: round(config.overlap * n_genes)]
        rest = _without(stream.permutation(config.n_genes), np.concatenate([markers, shared]))
        genes = stream.permutation(np.concatenate([from_markers, rest[: n_genes - from_markers.size]]))
        for number, of_program in enumerate(np.split(genes, config.n_programs) if config.n_programs else []):
            ratio = 1.0 if config.equal_strength else _STRENGTH_RATIO**number
            loadings = _loadings(of_program.size, config.program_strength * ratio, stream)
            programs.append(Program(population, number, of_program, loadings))
    if config.shared_program:
        programs.append(Program(_SHARED, 0, shared, shared_loadings))
    return log_fold_changes, programs


def program_sets(programs: Sequence[Program], parents: IntArray, n_genes: int) -> BoolArray:
    """Return (n_labels, n_genes) the genes of the programs active in the population that each label belongs to."""
    sets = np.zeros((parents.size, n_genes), dtype=bool)
    for program in programs:
        rows = np.flatnonzero([program.is_active_in(parent) for parent in parents])
        sets[np.ix_(rows, program.genes)] = True
    return sets


def _loadings(n_genes: int, strength: float, stream: np.random.Generator) -> FloatArray:
    """Return loadings of both signs whose root mean square is ``strength`` in expectation."""
    sizes = stream.uniform(0.5, 1.5, size=n_genes) / np.sqrt(13 / 12)
    loadings: FloatArray = strength * sizes * stream.choice([-1.0, 1.0], size=n_genes)
    return loadings


def _without(genes: IntArray, taken: IntArray) -> IntArray:
    return genes[~np.isin(genes, taken)]
