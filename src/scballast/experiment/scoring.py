"""Scores of every method, for every replicate and population."""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any, Literal

import numpy as np

from scballast.arrays import FloatArray, IntArray
from scballast.data.dataset import Dataset
from scballast.data.replicates import Replicate
from scballast.experiment.setup import Setup, column_codes, sample_codes
from scballast.experiment.training import MemberKey, TrainedModels
from scballast.methods.cache import ScoreCache, array_digest
from scballast.methods.cell_view import CellView
from scballast.methods.method import Method, Role
from scballast.methods.rankers import FactorView
from scballast.models import FAMILIES
from scballast.progress import progress_bar
from scballast.seeds import Stream, generator_for, integer_for
from scballast.threads import one_thread
from scballast.verdict.score_set import ScoreSet, rank_scores
from scballast.verdict.unseen import joined_codes

# (replicate, population, gene); NaN where a method has no score.
Scores = dict[str, FloatArray]


class ReplicateEvidence:
    """One replicate of an experiment as methods see it; see :class:`scballast.methods.method.Evidence`."""

    def __init__(self, setup: Setup, replicate: Replicate, models: TrainedModels | None = None) -> None:
        self._setup, self._replicate, self._models = setup, replicate, models
        self._views: dict[tuple[Role, int], FactorView | None] = {}

    @cached_property
    def cells(self) -> CellView:
        """The replicate's cells."""
        return cell_view(self._setup, self._replicate.cells, _controls_seed(self._setup, self._replicate))

    @property
    def de_mode(self) -> Literal["change", "vanilla"]:
        """``rank.de_mode``."""
        return self._setup.config.rank.de_mode  # type: ignore[return-value]  # the schema allows no other value

    def factors(self, role: Role, population: int = -1) -> FactorView | None:
        """Return a model as the rankers see it, read out once."""
        if self._models is None:
            return None
        key = (role, population)
        if key not in self._views:
            self._views[key] = factor_view(self._setup, self._replicate, self._models, role, population)
        return self._views[key]

    def model(self, role: Role) -> Any | None:
        """Return the scvi-tools model of a role; the configured family's own is the global one."""
        if self._models is None:
            return None
        trained_role: Role = "global" if role == self._setup.family.name else role
        trained = self._models.find(MemberKey(trained_role, self._replicate.number))
        return None if trained is None else trained[0].export(trained[1])

    def seed(self, method: str) -> int:
        """Return the seed of a method's draws."""
        return integer_for(self._setup.config.seed, Stream.DIFFERENTIAL_EXPRESSION, self._replicate.number, method)

    def shuffling(self) -> np.random.Generator:
        """Return the generator that shuffles the labels."""
        return generator_for(self._setup.config.seed, Stream.CONTROLS, self._replicate.number, "shuffled")


def baseline_scores(setup: Setup, cache: ScoreCache) -> Scores:
    """Score the methods that look at cells alone, from the cache where the same cells were scored before."""
    tasks = baseline_tasks(setup)
    n_new = sum(not cache.holds(origin) for _, methods in tasks for _, origin in methods)
    rows: dict[str, list[FloatArray]] = {method.name: [] for method in setup.from_cells}
    with progress_bar("scoring baselines", n_new, unit="rankings") as advance, one_thread():
        for replicate, methods in tasks:
            evidence = ReplicateEvidence(setup, replicate)  # one of all methods: its cells are logged once
            for method, origin in methods:
                n_before = cache.misses
                rows[method.name].append(cache.scores(origin, partial(method.score, evidence)))
                advance(cache.misses - n_before)
    return {name: np.stack(replicate_scores) for name, replicate_scores in rows.items()}


def baseline_tasks(setup: Setup) -> list[tuple[Replicate, list[tuple[Method, dict[str, Any]]]]]:
    """Return for each replicate the methods that look at cells alone, with what decides the scores of each."""
    return [
        (replicate, [(method, _origin(setup, method, replicate)) for method in setup.from_cells])
        for replicate in setup.replicates
    ]


def _origin(setup: Setup, method: Method, replicate: Replicate) -> dict[str, Any]:
    """Return everything that decides a baseline's scores in a replicate."""
    dataset = setup.dataset
    origin: dict[str, Any] = {
        "method": method.name,
        "data": dataset.digest,
        "genes": array_digest(np.asarray(dataset.adata.var_names, dtype=str)),
        "populations": list(setup.populations),
        "cells": array_digest(replicate.cells.astype(np.int64)),
        "sample_key": dataset.sample_key,
        "batch_key": dataset.batch_key,
        "n_components": setup.config.rank.n_components,
    }
    if method.estimand == "response" and dataset.condition_codes is not None:
        origin["conditions"] = array_digest(dataset.condition_codes.astype(np.int64))
    if not method.deterministic:
        origin["seed"] = _controls_seed(setup, replicate)
    return origin


def _controls_seed(setup: Setup, replicate: Replicate) -> int:
    return integer_for(setup.config.seed, Stream.CONTROLS, replicate.number)


def model_scores(setup: Setup, models: TrainedModels) -> Scores:
    """Score the methods that rest on trained models."""
    scores: dict[str, list[FloatArray]] = {method.name: [] for method in setup.from_models}
    with progress_bar("scoring models", len(scores) * len(setup.replicates), unit="rankings") as advance:
        for replicate in setup.replicates:
            evidence = ReplicateEvidence(setup, replicate, models)
            for method in setup.from_models:
                scores[method.name].append(method.score(evidence))
                advance(1)
    return {name: np.stack(rows) for name, rows in scores.items()}


def score_set_of(setup: Setup, scores: Scores, earlier: ScoreSet | None = None) -> ScoreSet:
    """Return the scores of a setup's methods as rankings; ``earlier`` as for :func:`rank_scores`."""
    return rank_scores(
        scores,
        methods=setup.methods,
        populations=setup.populations,
        genes=[str(gene) for gene in setup.dataset.adata.var_names],
        resample_kind=setup.config.resample.kind,
        seed=setup.config.seed,
        earlier=earlier,
    )


def cell_view(setup: Setup, cells: IntArray, seed: int) -> CellView:
    """Return some cells of an experiment, such as those of a replicate, as arrays."""
    dataset = setup.dataset
    codes_of_samples = sample_codes(dataset)
    names: tuple[str, ...] = ()
    if dataset.sample_key is not None:
        names = tuple(map(str, dataset.adata.obs[dataset.sample_key].astype("category").cat.categories))
    return CellView(
        counts=setup.counts[cells],
        total_counts=dataset.total_counts[cells],
        codes=dataset.population_codes[cells],
        n_populations=len(dataset.populations),
        populations=setup.populations,
        samples=None if codes_of_samples is None else codes_of_samples[cells],
        seed=seed,
        sample_names=names,
        n_components=setup.config.rank.n_components,
        blocks=blocks_of(dataset, cells),
        conditions=None if dataset.condition_codes is None else dataset.condition_codes[cells],
        null_conditions=None if setup.null_conditions is None else setup.null_conditions[cells],
    )


def factor_view(
    setup: Setup, replicate: Replicate, models: TrainedModels, role: Role = "global", population: int = -1
) -> FactorView | None:
    """Return a model of a replicate as the rankers see it, or None if it has no result.

    The view of a population's own model holds that population alone, as number 0.
    """
    key = MemberKey(role, replicate.number, population)
    trained = models.find(key)
    if trained is None:
        return None
    ensemble, position = trained
    family = FAMILIES["scvi"] if role == "scvi" else setup.family
    cells = models.cells[key]
    one_population = population >= 0
    return FactorView(
        scores=ensemble.posterior_means(position),
        loadings=ensemble.loadings(position) if family.linear else None,
        counts=setup.counts[cells],
        codes=np.zeros(len(cells), dtype=np.int64) if one_population else setup.dataset.population_codes[cells],
        softmax=family.softmax,
        simplex=family.simplex or (family.likelihood and setup.config.model.latent_distribution == "ln"),
        ridge=setup.config.rank.local_ridge,
    )


def blocks_of(dataset: Dataset, cells: IntArray) -> IntArray | None:
    """Return the code of batch crossed with sample of each cell, or None where the data have neither."""
    batches, samples = (column_codes(dataset, key) for key in (dataset.batch_key, dataset.sample_key))
    return joined_codes(batches, samples, cells)
