"""What a worker and its trials' process say to each other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from scballast.config.schema import Config
from scballast.errors import ConfigError, DataError, ScballastError


@dataclass(frozen=True)
class Work:
    """The work of one experiment.

    Attributes
    ----------
    members, trainings
        Models to train, and the ensembles in which they are trained together.
    known
        Models that the cache holds beside these.
    rankings, cached
        Rankings by baselines, and those of them that the cache holds.
    finished
        Whether the same configuration has finished on the same data.
    """

    members: int
    trainings: int
    known: int
    rankings: int
    cached: int
    finished: bool


@dataclass(frozen=True)
class SweepPlace:
    """Where a trial stands in a sweep; a run that is none of its trials has no number."""

    sweep: str
    trial: int | None
    parent_run_id: str | None
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class DescribeRequest:
    """Load and check the data of a configuration.

    Attributes
    ----------
    trains
        Whether trials will run in this process, which then loads what they need.
    """

    config: Config
    trains: bool


@dataclass(frozen=True)
class Described:
    """The data set, and the methods that run on it."""

    name: str
    digest: str
    methods: tuple[str, ...]


@dataclass(frozen=True)
class EstimateRequest:
    """Count the work of configurations, and tell the time of one."""

    configs: tuple[Config, ...]


@dataclass(frozen=True)
class Estimated:
    """The work of every configuration; time and memory of one, NaN where not known; where they come from.

    ``rest_seconds`` is the time of everything but training and baselines, ``source`` says what was measured.
    ``reading_seconds`` is the time to read a file of which only a sample was read, 0 where all of it was.
    ``memory_bytes`` is needed at the peak, ``machine_bytes`` there is; ``obstacle`` says why the one is too much.
    ``warnings`` are those of the data.
    """

    work: tuple[Work, ...]
    training_seconds: float
    baseline_seconds: float
    rest_seconds: float
    source: str
    reading_seconds: float = 0.0
    memory_bytes: float = math.nan
    machine_bytes: float = math.nan
    obstacle: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrialRequest:
    """Run a trial and publish it, or evaluate one complementary pair of its replicates, which publishes nothing.

    Attributes
    ----------
    logging
        Configuration of the job's logging, for ``logging.config.dictConfig``.
    pair
        Replicates 2 · pair and 2 · pair + 1; None: the whole trial.
    """

    config: Config
    place: SweepPlace
    logging: Mapping[str, Any] = field(default_factory=dict)
    pair: int | None = None


@dataclass(frozen=True)
class TrainRequest:
    """Train the models of several trials as one, into the cache where each trial finds its own.

    Attributes
    ----------
    configs
        Of the trials, each with its own settings.
    raced
        Whether the trials get their replicates in pairs: then the models of the first pair alone are trained.
    """

    configs: tuple[Config, ...]
    raced: bool


@dataclass(frozen=True)
class Trained:
    """The models are in the cache."""


@dataclass(frozen=True)
class PairDone:
    """The objectives' values on one pair; those that are not finite are left out."""

    values: Mapping[str, float]


@dataclass(frozen=True)
class TrialDone:
    """A published trial.

    Attributes
    ----------
    run_id, folder
        Its run in MLflow and its folder of results.
    metrics
        Finite values by name.
    duplicate_of
        The run whose results it reuses.
    """

    run_id: str
    folder: str
    metrics: Mapping[str, float]
    duplicate_of: str | None = None


@dataclass(frozen=True)
class DrawRequest:
    """Draw the figures and the page of a folder of results that has none, by so many processes."""

    folder: str
    n_processes: int = 1


@dataclass(frozen=True)
class Drawn:
    """The page is there."""


@dataclass(frozen=True)
class Failed:
    """The request could not be served.

    Attributes
    ----------
    kind
        ``config``, ``data``, ``memory`` or ``error``.
    died
        Whether the process ended without an answer, or was stopped from outside.
    """

    reason: str
    kind: str = "error"
    traceback: str = ""
    died: bool = False

    def error(self) -> ScballastError:
        """Return the error that a command ends with."""
        errors = {"config": ConfigError, "data": DataError}
        return errors.get(self.kind, ScballastError)(f"{self.reason}\n{self.traceback}".strip())


@dataclass(frozen=True)
class Interrupted:
    """Ctrl-C reached the process."""


Request = DescribeRequest | EstimateRequest | TrainRequest | TrialRequest | DrawRequest
Answer = Described | Estimated | Trained | PairDone | TrialDone | Drawn | Failed | Interrupted

Wanted = TypeVar("Wanted", Described, Estimated)


def served(answer: Answer, wanted: type[Wanted]) -> Wanted:
    """Return an answer of the wanted kind; raises what kept a command from getting it."""
    if isinstance(answer, wanted):
        return answer
    if isinstance(answer, Failed):
        raise answer.error()
    raise KeyboardInterrupt
