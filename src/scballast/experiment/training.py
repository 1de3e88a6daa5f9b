"""The models of an experiment: which members it needs, trained together, and where each result lies."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from scballast.arrays import IntArray
from scballast.config.schema import Config
from scballast.data.dataset import Dataset
from scballast.engine.interface import Member, TrainedEnsemble
from scballast.engine.member_cache import MemberCache
from scballast.engine.schedule import split_sizes
from scballast.errors import TrainingError
from scballast.experiment.setup import Setup
from scballast.methods.method import Role
from scballast.models import FAMILIES
from scballast.models.family import FitRequest, ModelFamily
from scballast.progress import progress_bar, progress_of_rest
from scballast.seeds import Stream, integer_for

logger = logging.getLogger(__name__)


# An intercept of its own, and a library size prior with a variance, need a few cells.
_SMALLEST_CONDITION = 10
_SMALLEST_MODEL = 3


@dataclass(frozen=True)
class MemberKey:
    """Which model a member is: its role, replicate and, for ``per_population``, population index."""

    role: Role
    replicate: int
    population: int = -1


@dataclass(frozen=True)
class TrainedModels:
    """All models of an experiment by what they are for."""

    ensembles: Mapping[Role, TrainedEnsemble]
    positions: Mapping[MemberKey, int]
    cells: Mapping[MemberKey, IntArray]
    table: pd.DataFrame

    def find(self, key: MemberKey) -> tuple[TrainedEnsemble, int] | None:
        """Return the ensemble and position of a model, or None if there is none with a result."""
        position = self.positions.get(key)
        if position is None or position in self.ensembles[key.role].failures:
            return None
        return self.ensembles[key.role], position

    def global_models(self) -> list[tuple[TrainedEnsemble, int]]:
        """Return the global models that have a result, as `find` does, in the order of the replicates."""
        keys = sorted((key for key in self.positions if key.role == "global"), key=lambda key: key.replicate)
        return [trained for key in keys if (trained := self.find(key)) is not None]


def train_models(setup: Setup, cache: MemberCache | None = None) -> TrainedModels:
    """Train every model that the methods need, for every replicate.

    Parameters
    ----------
    setup
        The experiment.
    cache
        Where trained members are looked up and kept; ``None`` trains all of them.

    Returns
    -------
    TrainedModels
        With a table of one row per model: role, replicate, population, cells, steps, epochs, last KL weight
        and, where training failed, why.

    Raises
    ------
    TrainingError
        Not one global model has a result. Where all models of another role fail, theirs are the methods
        without scores, and the table says so.
    """
    requests = plan_members(setup, logger.warning)
    ensembles: dict[Role, TrainedEnsemble] = {}
    positions: dict[MemberKey, int] = {}
    lost: dict[MemberKey, str] = {}
    for roles in _trained_as_one(requests, setup.config):
        members = {key: member for role in roles for key, member in requests[role].items()}
        note = " and per population" if len(roles) > 1 else ""
        try:
            fitted = _fit(roles[0], list(members.values()), setup, cache, note)
        except TrainingError as error:
            if "global" in roles:
                raise
            lost |= dict.fromkeys(members, str(error))
            continue
        if "global" in roles and all(i in fitted.failures for i in range(len(requests["global"]))):
            message = f"ensemble: no global model has a result; the first: {fitted.failures[0]}. Lower train.lr."
            raise TrainingError(message)
        ensembles |= dict.fromkeys(roles, fitted)
        positions.update({key: position for position, key in enumerate(members)})
    cells = {key: np.asarray(member.cells) for members in requests.values() for key, member in members.items()}
    table = _training_table(ensembles, positions, lost, cells, setup.populations)
    return TrainedModels(ensembles, positions, cells, table)


def train_ahead(setups: Sequence[Setup], cache: MemberCache) -> None:
    """Train the models of several experiments on the same data as one, into the cache where each finds its own.

    A member's result depends on its own cells, seed and settings alone, so each experiment's results are those that
    it would have had by itself. What an ensemble does not hold (models without a likelihood, ``train.engine=scvi``)
    is left to the experiment.

    Parameters
    ----------
    setups
        The experiments; their data and device are the same, their settings and replicates may differ.
    cache
        Where trained members are looked up and kept.
    """
    fused: dict[tuple[Role, str], tuple[Setup, list[Member]]] = {}
    for setup in setups:
        for role, members in plan_members(setup).items():
            family = _family(role, setup)
            if family.settings is None or not _in_ensemble(family, setup.config) or not members:
                continue
            settings = family.settings(setup.config)
            _, together = fused.setdefault((role, family.name), (setup, []))
            together += [replace(member, overrides={**settings, **member.overrides}) for member in members.values()]
    for (role, _), (setup, together) in fused.items():
        # Where no member has a result, each experiment meets that again, and says it of its own.
        with suppress(TrainingError):
            _fit(role, together, setup, cache, note=f" of {len(setups)} trials")


class _CountedError(Exception):
    """Ends a training before it begins."""


def known_members(setup: Setup, cache: MemberCache) -> dict[MemberKey, bool]:
    """Return for each model whether the cache holds it; nothing is trained.

    Parameters
    ----------
    setup
        The experiment.
    cache
        As of `train_models`.
    """
    known: dict[MemberKey, bool] = {}
    for role, members in plan_members(setup).items():
        in_cache = [False] * len(members)
        if members and cache.holds_any() and _in_ensemble(_family(role, setup), setup.config):
            in_cache = _known(role, list(members.values()), setup, cache)
        known |= dict(zip(members, in_cache, strict=True))
    return known


def _known(role: Role, members: list[Member], setup: Setup, cache: MemberCache) -> list[bool]:
    known: list[bool] = []

    def note(in_cache: Sequence[bool]) -> None:
        known.extend(in_cache)
        raise _CountedError

    with suppress(_CountedError):
        _fit(role, members, setup, replace(cache, on_found=note))
    return known


def plan_members(setup: Setup, say: Callable[..., None] = lambda *_: None) -> dict[Role, dict[MemberKey, Member]]:
    """Return the members that the methods need, by the ensemble that each is trained in; the global ones always.

    Parameters
    ----------
    setup
        The experiment.
    say
        Told, as a logger's method is, of populations that have no model of their own, or a lesser one.
    """
    needed = {role for method in setup.methods for role in method.roles} - {"global", setup.family.name}
    streams: dict[Role, Stream] = {"conditioned": Stream.CONDITIONED_MODEL, "scvi": Stream.SCVI_MODEL}
    requests: dict[Role, dict[MemberKey, Member]] = {"global": _replicate_members(setup, "global", Stream.GLOBAL_MODEL)}
    if "per_population" in needed:
        requests["per_population"] = _population_members(setup, say)
    for role, stream in streams.items():
        if role in needed:
            requests[role] = _replicate_members(setup, role, stream)
    return requests


def condition_column(dataset: Dataset) -> npt.NDArray[np.object_]:
    """Return the covariate of ``conditioned``: the population, crossed with the batch where there is one.

    Populations that are not ranked share one condition, and so do the batches in which a population has
    fewer than ten cells: an intercept and a library size prior of its own need cells to rest on.

    Returns
    -------
    (n_cells,) text
    """
    names = [population.name for population in dataset.populations]
    condition = np.array([names[code] if code >= 0 else "\x1fothers" for code in dataset.population_codes], object)
    if dataset.batch_key is None:
        return condition
    batches = dataset.adata.obs[dataset.batch_key].astype(str).to_numpy(object)
    crossed = np.array([f"{first}\x1f{second}" for first, second in zip(condition, batches, strict=True)], object)
    values, counts = np.unique(crossed.astype(str), return_counts=True)
    small = set(values[counts < _SMALLEST_CONDITION])
    return np.array([first if both in small else both for first, both in zip(condition, crossed, strict=True)], object)


def _family(role: Role, setup: Setup) -> ModelFamily:
    return FAMILIES["scvi"] if role == "scvi" else setup.family


def _trained_as_one(requests: Mapping[Role, object], config: Config) -> list[tuple[Role, ...]]:
    """Return the roles that have members, by what is trained together; the global ones first.

    From disk, models that differ in their cells alone share each reading.
    """
    roles = [role for role, members in requests.items() if members]
    if config.train.data == "memory" or "per_population" not in roles:
        return [(role,) for role in roles]
    return [("global", "per_population"), *((role,) for role in roles if role not in ("global", "per_population"))]


def _fit(role: Role, members: list[Member], setup: Setup, cache: MemberCache | None, note: str = "") -> TrainedEnsemble:
    config, dataset = setup.config, setup.dataset
    adata, batch_key, family = dataset.adata, dataset.batch_key, _family(role, setup)
    if role == "conditioned":
        from anndata import AnnData

        adata = AnnData(adata.X, obs=adata.obs.copy(), var=adata.var)
        batch_key = "scballast_condition"
        adata.obs[batch_key] = pd.Categorical(condition_column(dataset))
    titles = {
        "global": f"training {family.name} (global)",
        "per_population": f"training {family.name} per population",
        "conditioned": f"training {family.name} conditioned on the population",
        "scvi": "training scvi (non-linear)",
    }
    title, n = titles[role] + note, len(members)
    request = FitRequest(adata, members, config, batch_key)
    if cache is None or not _in_ensemble(family, config):
        with progress_bar(title, n, unit="models") as advance:
            return family.fit(replace(request, on_progress=advance))
    if cache.on_found is not None:
        return family.fit(replace(request, cache=cache))
    with progress_of_rest(title, n, unit="models") as (begin, advance):
        counted = replace(cache, on_found=lambda known: begin(sum(known)))
        return family.fit(replace(request, on_progress=advance, cache=counted))


def _in_ensemble(family: ModelFamily, config: Config) -> bool:
    """Return whether the models are trained by the engine, which alone makes use of the cache."""
    return config.train.engine == "ensemble" and family.settings is not None


def _replicate_members(setup: Setup, role: Role, stream: Stream) -> dict[MemberKey, Member]:
    return {
        MemberKey(role, replicate.number): Member(
            cells=replicate.cells, seed=integer_for(setup.config.seed, stream, replicate.number)
        )
        for replicate in setup.replicates
    }


def _population_members(setup: Setup, say: Callable[..., None]) -> dict[MemberKey, Member]:
    config, members = setup.config, dict[MemberKey, Member]()
    for replicate in setup.replicates:
        codes = setup.dataset.population_codes[replicate.cells]
        for index, name in enumerate(setup.populations):
            cells = replicate.cells[codes == index]
            if cells.size < _SMALLEST_MODEL:
                message = "per_population: %r has %d cells in replicate %d; no model of its own."
                say(message, name, cells.size, replicate.number)
                continue
            overrides = {}
            if config.train.early_stopping and not split_sizes(cells.size, config.train.train_size, 1)[1]:
                message = (
                    "per_population: the %d cells of %r in replicate %d leave none to validate on; "
                    "its model trains without early stopping."
                )
                say(message, cells.size, name, replicate.number)
                overrides = {"early_stopping": False}
            seed = integer_for(config.seed, Stream.PER_POPULATION_MODEL, replicate.number, name)
            key = MemberKey("per_population", replicate.number, index)
            members[key] = Member(cells=cells, seed=seed, overrides=overrides)
    return members


def _training_table(
    ensembles: Mapping[Role, TrainedEnsemble],
    positions: Mapping[MemberKey, int],
    lost: Mapping[MemberKey, str],
    cells: Mapping[MemberKey, IntArray],
    populations: Sequence[str],
) -> pd.DataFrame:
    rows = []
    for key in (*positions, *lost):
        failure = lost[key] if key in lost else ensembles[key.role].failures.get(positions[key], "")
        curves = {} if failure else ensembles[key.role].history(positions[key])
        rows.append(
            {
                "role": key.role,
                "replicate": key.replicate,
                "population": populations[key.population] if key.population >= 0 else "",
                "n_cells": len(cells[key]),
                "n_steps": 0 if failure else ensembles[key.role].n_steps(positions[key]),
                "epochs": len(curves.get("elbo_train", ())),
                "final_kl_weight": curves["kl_weight"][-1] if curves.get("kl_weight") else np.nan,
                "final_elbo": curves["elbo_train"][-1] if curves.get("elbo_train") else np.nan,
                "failure": failure,
            }
        )
    return pd.DataFrame(rows)
