"""The models of an experiment: which members it needs, trained together, and where each result lies."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from scballast.config.schema import Config
from scballast.data.dataset import Dataset
from scballast.data.replicates import Replicate
from scballast.engine.interface import Member, TrainedEnsemble
from scballast.engine.schedule import split_sizes
from scballast.errors import TrainingError
from scballast.methods.plan import PlannedMethod
from scballast.models import FAMILIES, fit_members
from scballast.progress import progress_bar
from scballast.seeds import Stream, integer_for

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

IntArray = npt.NDArray[np.integer[Any]]
Role = Literal["global", "per_population", "conditioned", "scvi"]

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


def train_models(
    config: Config,
    dataset: Dataset,
    replicates: Sequence[Replicate],
    methods: Sequence[PlannedMethod],
) -> TrainedModels:
    """Train every model that the methods need, for every replicate.

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
    requests = plan_members(config, dataset, replicates, methods)
    ensembles: dict[Role, TrainedEnsemble] = {}
    positions: dict[MemberKey, int] = {}
    lost: dict[MemberKey, str] = {}
    for role, members in requests.items():
        if not members:
            continue
        try:
            ensembles[role] = _fit(role, list(members.values()), config, dataset)
        except TrainingError as error:
            if role == "global":
                raise
            lost |= dict.fromkeys(members, str(error))
            continue
        positions.update({key: position for position, key in enumerate(members)})
    cells = {key: _cells_of(member) for members in requests.values() for key, member in members.items()}
    table = _training_table(ensembles, positions, lost, cells, dataset)
    return TrainedModels(ensembles, positions, cells, table)


def plan_members(
    config: Config,
    dataset: Dataset,
    replicates: Sequence[Replicate],
    methods: Sequence[PlannedMethod],
) -> dict[Role, dict[MemberKey, Member]]:
    """Return the members that the methods need, by the ensemble that each is trained in."""
    sources = {method.source for method in methods}
    family = FAMILIES[config.model.name]
    requests: dict[Role, dict[MemberKey, Member]] = {"global": _global_members(config, replicates)}
    if "per_population" in sources:
        requests["per_population"] = _population_members(config, dataset, replicates)
    if "conditioned" in sources:
        requests["conditioned"] = _replicate_members(config, replicates, "conditioned", Stream.CONDITIONED_MODEL)
    if "scvi_de" in sources and family.name != "scvi":
        requests["scvi"] = _replicate_members(config, replicates, "scvi", Stream.SCVI_MODEL)
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


def _fit(role: Role, members: list[Member], config: Config, dataset: Dataset) -> TrainedEnsemble:
    adata, batch_key, name = dataset.adata, dataset.batch_key, config.model.name
    if role == "conditioned":
        import pandas as pd

        adata = adata.copy()
        batch_key = "scballast_condition"
        adata.obs[batch_key] = pd.Categorical(condition_column(dataset))
    if role == "scvi":
        name = "scvi"
    titles = {
        "global": f"training {name} (global)",
        "per_population": f"training {name} per population",
        "conditioned": f"training {name} conditioned on the population",
        "scvi": "training scvi (non-linear)",
    }
    with progress_bar(titles[role], len(members), unit="models") as advance:
        return fit_members(name, adata, members, config, batch_key=batch_key, on_progress=advance)


def _global_members(config: Config, replicates: Sequence[Replicate]) -> dict[MemberKey, Member]:
    return _replicate_members(config, replicates, "global", Stream.GLOBAL_MODEL)


def _replicate_members(
    config: Config, replicates: Sequence[Replicate], role: Role, stream: Stream
) -> dict[MemberKey, Member]:
    return {
        MemberKey(role, replicate.number): Member(
            cells=replicate.cells, seed=integer_for(config.seed, stream, replicate.number)
        )
        for replicate in replicates
    }


def _population_members(config: Config, dataset: Dataset, replicates: Sequence[Replicate]) -> dict[MemberKey, Member]:
    members: dict[MemberKey, Member] = {}
    for replicate in replicates:
        codes = dataset.population_codes[replicate.cells]
        for index, population in enumerate(dataset.populations):
            own = replicate.cells[codes == index]
            if own.size < _SMALLEST_MODEL:
                logger.warning(
                    "per_population: %r has %d cells in replicate %d; no model of its own.",
                    population.name,
                    own.size,
                    replicate.number,
                )
                continue
            overrides = {}
            if config.train.early_stopping and not split_sizes(own.size, config.train.train_size, 1)[1]:
                logger.warning(
                    "per_population: the %d cells of %r in replicate %d leave none to validate on; "
                    "its model trains without early stopping.",
                    own.size,
                    population.name,
                    replicate.number,
                )
                overrides = {"early_stopping": False}
            seed = integer_for(config.seed, Stream.PER_POPULATION_MODEL, replicate.number, population.name)
            key = MemberKey("per_population", replicate.number, index)
            members[key] = Member(cells=own, seed=seed, overrides=overrides)
    return members


def _cells_of(member: Member) -> IntArray:
    if member.cells is None:
        message = "members of an experiment name their cells"
        raise ValueError(message)
    return member.cells


def _training_table(
    ensembles: Mapping[Role, TrainedEnsemble],
    positions: Mapping[MemberKey, int],
    lost: Mapping[MemberKey, str],
    cells: Mapping[MemberKey, IntArray],
    dataset: Dataset,
) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for key in (*positions, *lost):
        failure = lost[key] if key in lost else ensembles[key.role].failures.get(positions[key], "")
        curves = {} if failure else ensembles[key.role].history(positions[key])
        rows.append(
            {
                "role": key.role,
                "replicate": key.replicate,
                "population": dataset.populations[key.population].name if key.population >= 0 else "",
                "n_cells": len(cells[key]),
                "n_steps": 0 if failure else ensembles[key.role].n_steps(positions[key]),
                "epochs": len(curves.get("elbo_train", ())),
                "final_kl_weight": curves["kl_weight"][-1] if curves.get("kl_weight") else np.nan,
                "final_elbo": curves["elbo_train"][-1] if curves.get("elbo_train") else np.nan,
                "failure": failure,
            }
        )
    return pd.DataFrame(rows)
