"""The genes that a simulation plants: markers M_c with their shifts, programs P_p with their loadings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scballast.arrays import BoolArray, FloatArray, IntArray
from scballast.config.simulation import SimulationConfig
from scballast.data.program_families import PROGRAM_FAMILIES
from scballast.seeds import Stream, generator_for

_SHARED = -1  # in place of a population's number: the program active in all of them
_STRENGTH_RATIO = 0.75  # of each program to the one before it
_OWN_SPACING = 2  # with programs=shared, one population in so many has programs of its own beside the shared one


@dataclass(frozen=True)
class Program:
    """One program: who has it, its number there, its genes, their loadings a_pg, its form.

    ``points`` are the genes' own places on the path, used by the family ``path`` alone; ``without`` the numbers of the
    populations that do not have the program, though all others do.
    """

    population: int
    number: int
    genes: IntArray
    loadings: FloatArray
    points: FloatArray
    family: str = "latent"
    without: tuple[int, ...] = ()

    @property
    def is_shared(self) -> bool:
        """Say whether the program is of all populations rather than of one."""
        return self.population == _SHARED

    def is_active_in(self, population: int) -> bool:
        """Say whether a population's cells have the program."""
        return (self.is_shared or self.population == population) and population not in self.without

    def activities(self, seed: int, population: int, n_cells: int) -> FloatArray:
        """Return (n_cells,) t_ip of a population's cells; more cells leave the first ones as they are."""
        owner = "shared" if self.is_shared else self.population
        stream = generator_for(seed, Stream.SIMULATION, "activity", owner, self.number, population)
        return self.draw(stream, n_cells)

    def draw(self, stream: np.random.Generator, n_cells: int) -> FloatArray:
        """Return (n_cells,) activities from a generator."""
        return PROGRAM_FAMILIES[self.family].activities(stream, n_cells)

    def effects(self, activities: FloatArray) -> FloatArray:
        """Return (n_cells, n_program_genes) shifts of the log rates at (n_cells,) activities."""
        return PROGRAM_FAMILIES[self.family].effects(activities, self.loadings, self.points)


def plant(config: SimulationConfig, seed: int) -> tuple[FloatArray, list[Program]]:
    """Return δ (population, gene), zero outside M_c, and the programs."""
    n_populations = len(config.population_sizes)
    log_fold_changes = np.zeros((n_populations, config.n_genes))
    programs: list[Program] = []
    if config.donor_only:
        return log_fold_changes, programs
    # The shared program's genes are taken first: they must be marker of no population.
    stream = generator_for(seed, Stream.SIMULATION, "shared_program")
    shared = stream.permutation(config.n_genes)[: config.n_program_genes if config.has_shared_program else 0]
    shared_loadings = _loadings(shared.size, config.program_strength, stream)
    for population in range(n_populations):
        stream = generator_for(seed, Stream.SIMULATION, "markers", population)
        free = _without(stream.permutation(config.n_genes), shared)
        markers = free[: config.n_markers]
        effects = config.marker_log_fold_change * stream.uniform(0.5, 1.5, size=markers.size)
        log_fold_changes[population, markers] = effects
        if not _has_own_programs(config, population):
            continue

        stream = generator_for(seed, Stream.SIMULATION, "programs", population)
        n_genes = config.n_programs * config.n_program_genes
        from_markers = markers[: round(config.overlap * n_genes)]
        rest = _without(stream.permutation(config.n_genes), np.concatenate([markers, shared]))
        genes = stream.permutation(np.concatenate([from_markers, rest[: n_genes - from_markers.size]]))
        for number, of_program in enumerate(np.split(genes, config.n_programs)):
            ratio = 1.0 if config.equal_strength else _STRENGTH_RATIO**number
            loadings = _loadings(of_program.size, config.program_strength * ratio, stream)
            programs.append(_program(config, seed, population, number, of_program, loadings))
    if config.has_shared_program:
        programs.append(_program(config, seed, _SHARED, 0, shared, shared_loadings))
    return log_fold_changes, programs


def _has_own_programs(config: SimulationConfig, population: int) -> bool:
    if config.programs == "none" or config.n_programs == 0 or population + 1 in config.without_program:
        return False
    return config.programs != "shared" or population % _OWN_SPACING == 0


def _program(
    config: SimulationConfig, seed: int, population: int, number: int, genes: IntArray, loadings: FloatArray
) -> Program:
    """Return a program of the configured form, the signs of its loadings as that form has them."""
    share_down = PROGRAM_FAMILIES[config.programs].share_down
    if share_down is not None:
        # Genes come in random order, so the first ones are as good as any to go down.
        signs = np.where(np.arange(genes.size) < round(share_down * genes.size), -1.0, 1.0)
        loadings = np.abs(loadings) * signs
    # Each gene's own place on the path, away from its ends, where a gene would not be seen to change.
    owner = "shared" if population == _SHARED else population
    points = generator_for(seed, Stream.SIMULATION, "switch_points", owner, number).uniform(0.1, 0.9, size=genes.size)
    without = tuple(number - 1 for number in config.without_program)
    return Program(population, number, genes, loadings, points, config.programs, without)


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
    return np.asarray(strength * sizes * stream.choice([-1.0, 1.0], size=n_genes))


def _without(genes: IntArray, taken: IntArray) -> IntArray:
    return genes[~np.isin(genes, taken)]
