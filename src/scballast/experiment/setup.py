"""What an experiment is made of, put together once: configuration, data, replicates and methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from scipy import sparse

from scballast.arrays import IntArray
from scballast.config.schema import Config
from scballast.data.dataset import Dataset
from scballast.data.replicates import Replicate, draw_replicates
from scballast.methods.method import RESPONSE_NULL, Method
from scballast.methods.plan import plan_methods
from scballast.methods.response import permuted_conditions
from scballast.models import family_of
from scballast.models.family import ModelFamily
from scballast.seeds import Stream, generator_for


@dataclass(frozen=True)
class Setup:
    """An experiment before anything is trained or scored.

    Attributes
    ----------
    config
        The whole configuration.
    dataset
        The checked data.
    replicates
        Which cells each sees.
    methods
        What is run, in the order of the tables.
    """

    config: Config
    dataset: Dataset
    replicates: tuple[Replicate, ...]
    methods: tuple[Method, ...]

    @classmethod
    def of(cls, config: Config, dataset: Dataset) -> Self:
        """Draw the replicates and choose the methods."""
        methods = plan_methods(config, has_samples=dataset.sample_key is not None)
        return cls(config, dataset, replicates_of(config, dataset), methods)

    @property
    def family(self) -> ModelFamily:
        """The configured kind of model."""
        return family_of(self.config)

    @property
    def populations(self) -> tuple[str, ...]:
        """Names of the ranked populations."""
        return tuple(population.name for population in self.dataset.populations)

    @cached_property
    def counts(self) -> sparse.csr_matrix:
        """(n_cells, n_genes) raw counts of all cells, CSR."""
        return sparse.csr_matrix(self.dataset.adata.X)

    @cached_property
    def null_conditions(self) -> IntArray | None:
        """(n_cells,) conditions after permuting, the same for every replicate; None without conditions."""
        dataset = self.dataset
        if dataset.condition_codes is None:
            return None
        generator = generator_for(self.config.seed, Stream.CONTROLS, RESPONSE_NULL)
        samples = sample_codes(dataset)
        return permuted_conditions(dataset.condition_codes, dataset.population_codes, samples, generator)

    @property
    def from_cells(self) -> Sequence[Method]:
        """The methods that look at cells alone."""
        return [method for method in self.methods if not method.roles]

    @property
    def from_models(self) -> Sequence[Method]:
        """The methods that read trained models."""
        return [method for method in self.methods if method.roles]


def replicates_of(config: Config, dataset: Dataset) -> tuple[Replicate, ...]:
    """Return the replicates of an experiment; they depend on the data, the seed and ``resample`` alone."""
    return draw_replicates(
        config.resample.kind,  # type: ignore[arg-type]  # the configuration allows no other value
        config.resample.n_replicates,
        dataset.label_codes,
        dataset.labels,
        seed=config.seed,
        fraction=config.resample.fraction,
        samples=sample_codes(dataset),
        conditions=dataset.condition_codes,
    )


def sample_codes(dataset: Dataset) -> IntArray | None:
    """Return the code of each cell's sample (donor), (n_cells,), or None where they are not known."""
    return column_codes(dataset, dataset.sample_key)


def column_codes(dataset: Dataset, key: str | None) -> IntArray | None:
    """Return the code of each cell's value in an obs column, (n_cells,), negative where it is missing; None: no key."""
    return None if key is None else np.asarray(dataset.adata.obs[key].astype("category").cat.codes, dtype=np.int64)
