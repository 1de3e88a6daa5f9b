"""The data sets of the arena: every simulator under one form, all cells seen by every method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from tests.benchmarks.published_simulators import Simulated, cnmf_programs, splatter_groups

from scballast.config.compose import compose_config
from scballast.config.schema import Config
from scballast.data.dataset import Dataset
from scballast.data.load import dataset_from_anndata
from scballast.data.replicates import Replicate
from scballast.experiment.run import prepare_dataset
from scballast.experiment.setup import Setup
from scballast.methods.method import Estimand
from scballast.verdict.truth import average_precision

OWN = ("additive", "switch", "path", "shared", "latent")
SIMULATORS = (*OWN, "cnmf", "splatter")


@dataclass(frozen=True)
class Size:
    """How large a data set is: genes, cells of each population, those without a program (numbers from 1)."""

    n_genes: int = 600
    populations: tuple[int, ...] = (400, 150, 60, 100)
    without: tuple[int, ...] = (4,)
    n_markers: int = 40
    n_program_genes: int = 30


@dataclass(frozen=True)
class Judged:
    """A data set with what was planted.

    Attributes
    ----------
    planted, judged
        By estimand: (n_populations, n_genes) bool, in the order of ``dataset``; genes that are not judged changed by
        too little to be asked for.
    """

    dataset: Dataset
    planted: dict[str, np.ndarray]
    judged: dict[str, np.ndarray]

    def precision(self, estimand: str, scores: np.ndarray) -> dict[int, float]:
        """Return average precision by cells of the population, from (n_populations, n_genes) scores.

        A population without scores counts as one whose genes are all tied, which is chance. Populations in which
        nothing is planted are left out; no entry where the simulator plants no such genes.
        """
        found = {}
        for row, population in enumerate(self.dataset.populations):
            if estimand in self.planted and self.planted[estimand][row].any():
                told = self.judged[estimand][row]
                values = np.where(np.isnan(scores[row, told]), -np.inf, scores[row, told])
                values = np.zeros_like(values) if np.isneginf(values).all() else values
                found[population.n_cells] = float(average_precision(values, self.planted[estimand][row, told]))
        return found


def planted_by(simulator: str) -> tuple[Estimand, ...]:
    """Return the estimands whose genes a simulator plants."""
    return ("marker",) if simulator == "splatter" else ("marker", "program")


def data_set(simulator: str, depth: int, seed: int, size: Size) -> Judged:
    """Simulate and check a data set."""
    if simulator in OWN:
        return _own(simulator, depth, seed, size)
    if simulator == "splatter":
        return _published(splatter_groups(size.populations, size.n_genes, depth, seed))
    return _published(cnmf_programs(size.populations, size.without, size.n_genes, depth, seed))


def setup_of(judged: Judged, model: str, methods: Sequence[str], overrides: Sequence[str], seed: int) -> Setup:
    """Return the experiment of a model family on the data set: one replicate, of all its cells."""
    words = [f"model={model}", f"methods=[{','.join(methods)}]", f"seed={seed}", "data=simulated", *overrides]
    cells = np.arange(judged.dataset.adata.n_obs)
    everything = (Replicate(0, cells, np.zeros(0, dtype=cells.dtype)),)
    return replace(Setup.of(compose_config(words), judged.dataset), replicates=everything)


def _own(simulator: str, depth: int, seed: int, size: Size) -> Judged:
    config = compose_config(
        [
            "data=simulated",
            "model=pca",
            f"seed={seed}",
            f"data.simulation.programs={simulator}",
            f"data.simulation.mean_counts={depth}",
            f"data.simulation.n_genes={size.n_genes}",
            f"data.simulation.population_sizes=[{','.join(map(str, size.populations))}]",
            f"data.simulation.without_program=[{','.join(map(str, size.without))}]",
            f"data.simulation.n_markers={size.n_markers}",
            f"data.simulation.n_program_genes={size.n_program_genes}",
            "data.simulation.doublet_share=0.03",
            "data.simulation.ambient_share=0.05",
        ]
    )
    dataset = prepare_dataset(config)
    assert dataset.truth is not None
    planted = {"marker": dataset.truth.marker_sets, "program": dataset.truth.program_sets}
    return Judged(dataset, planted, {kind: np.ones_like(sets) for kind, sets in planted.items()})


def _published(simulated: Simulated) -> Judged:
    config: Config = compose_config(["data=simulated", "model=pca"])
    dataset = dataset_from_anndata(simulated.adata, config.data, name="simulated")
    genes = simulated.adata.var_names.get_indexer(dataset.adata.var_names)
    codes = list(simulated.adata.obs["population"].cat.categories)
    rows = np.array([codes.index(population.name) for population in dataset.populations])

    def kept(sets: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {kind: values[np.ix_(rows, genes)] for kind, values in sets.items()}

    return Judged(dataset, kept(simulated.planted), kept(simulated.judged))
