"""A sweep as an Optuna study: its identity, its trials, and how any number of workers share them.

A grid is a study whose trials are all fixed beforehand; a tuned sweep one whose trials wait without
parameters until a worker takes them. Everything else is the same: claiming, ending, giving up the
trials of dead processes, resuming.
"""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from scballast.config import keys
from scballast.config.schema import Config
from scballast.sweep.front import HELDOUT_NLL, Scores, score_trials
from scballast.sweep.identity import Identity, check_identity
from scballast.sweep.optuna_compat import FrozenTrial, Study, Trial, asked_parameters, set_trial_attributes
from scballast.sweep.samplers import build_sampler
from scballast.sweep.space import Point, Space
from scballast.sweep.stopping import stop_reason
from scballast.sweep.storage import StorageAddress, open_storage, sweep_lock
from scballast.tracking.leftovers import SILENT_DEATH
from scballast.tracking.liveness import HEARTBEAT_SECONDS, ProcessIdentity, current_process

logger = logging.getLogger(__name__)


# Parameters whose process died while their worker lived on are tried so often in all: memory may have
# been short for another's sake, but a trial that is too large stays so.
MOST_ATTEMPTS = 3
# A trial that ended so, or as `SILENT_DEATH` says, failed for no fault of its own.
INTERRUPTED = "interrupted by the user"


@dataclass(frozen=True)
class Progress:
    """How far a sweep is: numbers of trials.

    Attributes
    ----------
    raced_out
        Trials that were stopped because they could not move the front.
    stop
        Why no further trial begins; empty while there is no reason.
    """

    done: int
    failed: int
    running: int
    waiting: int
    total: int
    raced_out: int = 0
    stop: str = ""

    @property
    def is_over(self) -> bool:
        """Whether every trial has ended, or those under way when the sweep stopped have."""
        return self.done + self.failed + self.raced_out >= self.total or (bool(self.stop) and not self.running)

    def __str__(self) -> str:
        raced = f"{self.raced_out} stopped early, " if self.raced_out else ""
        return f"{self.done} done, {self.failed} failed, {raced}{self.total} in all"


@dataclass(frozen=True)
class Claim:
    """A trial that this worker has taken."""

    trial: Trial
    number: int
    point: Point


# Given a dead trial's number: the metrics of its run and what to note of it, if it had finished after all.
Recover = Callable[[int], tuple[Mapping[str, float], Mapping[str, Any]] | None]


class SweepStudy:
    """A sweep's study; create it with `create_or_resume`, join it with `join`."""

    def __init__(self, study: Study, address: StorageAddress, config: Config, space: Space, total: int) -> None:
        self._study = study
        self.address = address
        self.config = config
        self.space = space
        self.total = total

    # ------------------------------------------------------------------ opening

    @classmethod
    def create_or_resume(
        cls,
        name: str,
        address: StorageAddress,
        config: Config,
        space: Space,
        identity: Identity,
        points: Sequence[Point],
        *,
        raced: bool = True,
    ) -> SweepStudy:
        """Create a sweep's study or take it up again, and bring its trials up to the number wanted.

        Parameters
        ----------
        points
            The fixed configurations of a grid; empty: ``sweep.n_trials`` that the sampler chooses.
        raced
            Whether trials that racing stopped stay so; otherwise they are asked again, and go on where they were:
            the models that they had are in the cache.

        Raises
        ------
        ConfigError
            The study of this name has another search space, data set, objectives or settings.
        """
        import optuna

        with sweep_lock(address):
            storage = open_storage(address)
            directions: list[Any] = [objective.direction for objective in config.objectives]
            if name in optuna.get_all_study_names(storage):
                study = optuna.load_study(study_name=name, storage=storage)
                check_identity(study, name, identity)
            else:
                study = optuna.create_study(study_name=name, storage=storage, directions=directions)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                    study.set_metric_names([objective.metric for objective in config.objectives])
            if keys.IDENTITY not in study.user_attrs:
                study.set_user_attr(keys.IDENTITY, identity.to_json())
            sweep = cls(study, address, config, space, len(points) or config.sweep.n_trials)
            sweep._fill(points, raced=raced)
        return sweep

    @classmethod
    def join(cls, name: str, address: StorageAddress, config: Config, space: Space, total: int) -> SweepStudy:
        """Open the study that a controller has created."""
        import optuna

        with sweep_lock(address):
            study = optuna.load_study(study_name=name, storage=open_storage(address))
        return cls(study, address, config, space, total)

    @staticmethod
    def stored_identity(name: str, address: StorageAddress) -> str | None:
        """Return the identity of the study of a name, if there is one."""
        import optuna

        with sweep_lock(address):
            storage = open_storage(address)
            if name not in optuna.get_all_study_names(storage):
                return None
            identity: str | None = optuna.load_study(study_name=name, storage=storage).user_attrs.get(keys.IDENTITY)
            return identity

    def _fill(self, points: Sequence[Point], *, raced: bool) -> None:
        """Add the waiting trials that are not there yet, and ask a grid's failed configurations again."""
        for trial in [] if raced else current_trials(self._trials()):
            if trial.state.name == "PRUNED":
                self._ask_again(trial, attempt=1)
        trials = self._trials()
        if points:
            # Configurations by number: a kill between two of them leaves the first ones there.
            there = [trial.user_attrs.get(keys.POINT) for trial in trials]
            for index, point in enumerate(points):
                if index not in there:
                    self._study.enqueue_trial(point, user_attrs={keys.POINT: index})
            at_work = any(trial.state.name == "RUNNING" and is_alive(trial.user_attrs) for trial in trials)
            for trial in [] if at_work else current_trials(trials):
                if trial.state.name == "FAIL":
                    self._ask_again(trial, attempt=1)
            return
        for _ in range(self.total - len(current_trials(trials))):
            self._study.enqueue_trial({})

    # ------------------------------------------------------------------ taking and ending trials

    def claim(self, recover: Recover) -> Claim | None:
        """Take the next trial, or return None when none waits.

        Parameters
        ----------
        recover
            Called for the trials of dead processes, which are ended first.
        """
        with self.lock():
            self.give_up_dead(recover)
            trials = self._trials()
            progress = self._progress(trials)
            waiting = [trial for trial in trials if trial.state.name == "WAITING"]
            begun = progress.done + progress.failed + progress.raced_out + progress.running
            if not waiting or progress.stop or begun >= self.total:
                return None
            self._study.sampler = build_sampler(self.config, waiting[0].number)
            trial = self._study.ask()
            trial.set_user_attr(keys.HEARTBEAT, time.time())
            # The owner comes last: a trial that runs without one belongs to a process that died in here.
            trial.set_user_attr(keys.PROCESS, current_process().to_json())
        point = {dimension.key: dimension.suggest(trial) for dimension in self.space}
        return Claim(trial, trial.number, point)

    def complete(self, number: int, metrics: Mapping[str, float], notes: Mapping[str, Any]) -> None:
        """End a trial with its objectives' values; its fit is noted, objective or not."""
        fit = {keys.HELDOUT_NLL: metrics[HELDOUT_NLL]} if HELDOUT_NLL in metrics else {}
        self._end(number, self.values(metrics), {**notes, **fit})

    def stop(self, number: int, notes: Mapping[str, Any]) -> None:
        """End a trial that could not move the front; the sampler learns from it."""
        self._end(number, None, notes, "PRUNED")

    def fail(self, number: int, reason: str, traceback: str = "", *, again: bool = False, died: bool = False) -> None:
        """End a trial as failed.

        Parameters
        ----------
        again
            Whether its parameters are asked again; the failed trial then counts no more.
        died
            Whether its process died, which is not tried for ever.
        """
        with self.lock():
            trial = self.trial(number)
            attempt = int(trial.user_attrs.get(keys.ATTEMPT, 1))
            if again and not (died and attempt >= MOST_ATTEMPTS):
                self._ask_again(trial, attempt=attempt + int(died))
            self._end(number, None, {keys.REASON: reason, keys.TRACEBACK: traceback})

    def values(self, metrics: Mapping[str, float]) -> list[float]:
        """Return the objectives' values of a trial.

        A grid shows whatever it ran: where a configuration has no value (a PCA has no held-out fit), its
        trial carries the worst one, infinity, and is in no Pareto front.
        """
        worst = {"minimize": float("inf"), "maximize": float("-inf")}
        return [metrics.get(objective.metric, worst[objective.direction]) for objective in self.config.objectives]

    def missing_objectives(self, metrics: Mapping[str, float]) -> list[str]:
        """Return the objectives that a trial ought to have and has not."""
        if self.config.sweep.kind == "grid":
            return []
        return [objective.metric for objective in self.config.objectives if objective.metric not in metrics]

    def give_up_dead(self, recover: Recover) -> list[int]:
        """End the trials whose process is gone and ask their parameters again; to be called under the lock."""
        given_up = []
        for trial in self._trials():
            if trial.state.name != "RUNNING" or is_alive(trial.user_attrs):
                continue
            recovered = recover(trial.number)
            if recovered is not None and not self.missing_objectives(recovered[0]):
                # Its results were whole when it died, and have been published since.
                self.complete(trial.number, *recovered)
                continue
            self._ask_again(trial, attempt=int(trial.user_attrs.get(keys.ATTEMPT, 1)))
            self._end(trial.number, None, {keys.REASON: SILENT_DEATH})
            given_up.append(trial.number)
        return given_up

    def note(self, number: int, notes: Mapping[str, Any]) -> None:
        """Set attributes of a running trial."""
        set_trial_attributes(self._study, number, notes)

    def _end(self, number: int, values: list[float] | None, notes: Mapping[str, Any], without: str = "FAIL") -> None:
        from optuna.trial import TrialState

        try:
            self.note(number, notes)
            state = TrialState[without] if values is None else TrialState.COMPLETE
            self._study.tell(number, values, state=state)
        except (ValueError, RuntimeError):
            # Another worker took this one for dead: the machine slept, or the disk hung for ten minutes.
            if not self.trial(number).state.is_finished():
                raise
            logger.warning("Trial %d was given up by another worker before it ended.", number)

    def _ask_again(self, trial: FrozenTrial, *, attempt: int) -> None:
        if any(other.user_attrs.get(keys.RETRY_OF) == trial.number for other in self._trials()):
            return
        notes: dict[str, Any] = {keys.RETRY_OF: trial.number, keys.ATTEMPT: attempt}
        if keys.POINT in trial.user_attrs:
            notes[keys.POINT] = trial.user_attrs[keys.POINT]
        self._study.enqueue_trial(asked_parameters(trial), user_attrs=notes)

    # ------------------------------------------------------------------ looking

    @property
    def name(self) -> str:
        """The sweep's name."""
        return str(self._study.study_name)

    def attribute(self, key: str) -> Any:
        """Return what is noted of the sweep under a key, or None."""
        return self._study.user_attrs.get(key)

    def set_attribute(self, key: str, value: Any) -> None:
        """Note something of the sweep, for all of its workers."""
        self._study.set_user_attr(key, value)

    def trial(self, number: int) -> FrozenTrial:
        """Return one trial, whether it counts or not."""
        return self._trials()[number]

    def lock(self) -> AbstractContextManager[None]:
        """Hold the sweep's lock."""
        return sweep_lock(self.address)

    @contextmanager
    def heartbeat(self, claims: Sequence[Claim]) -> Iterator[None]:
        """Give signs of life for trials, for workers on other machines to see."""
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(HEARTBEAT_SECONDS):
                for claim in claims:
                    with suppress(Exception):
                        claim.trial.set_user_attr(keys.HEARTBEAT, time.time())

        thread = threading.Thread(target=beat, name="scballast-sweep-heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def trials(self) -> list[FrozenTrial]:
        """Return the trials that count, in order; those asked again since are left out."""
        return current_trials(self._trials())

    def scores(self) -> Scores:
        """Return what the finished trials have reached."""
        return score_trials(self.trials(), self.config.objectives)

    def progress(self) -> Progress:
        """Return how far the sweep is."""
        return self._progress(self._trials())

    def n_begun(self) -> int:
        """Return how many trials were ever taken, those asked again since included."""
        return sum(trial.state.name != "WAITING" for trial in self._trials())

    def failures_in_a_row(self, since: float) -> int:
        """Return how many trials have failed, after a moment in seconds, since the last that finished."""
        ended = [(t.datetime_complete.timestamp(), t) for t in self._trials() if t.datetime_complete is not None]
        count = 0
        for moment, trial in sorted(ended, key=lambda pair: (pair[0], pair[1].number)):
            if trial.state.name in ("COMPLETE", "PRUNED"):
                count = 0
            elif moment > since and trial.user_attrs.get(keys.REASON) not in (INTERRUPTED, SILENT_DEATH):
                count += 1
        return count

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _progress(self, trials: Sequence[FrozenTrial]) -> Progress:
        states = [trial.state.name for trial in current_trials(trials)]
        return Progress(
            done=states.count("COMPLETE"),
            failed=states.count("FAIL"),
            running=states.count("RUNNING"),
            waiting=states.count("WAITING"),
            total=self.total,
            raced_out=states.count("PRUNED"),
            stop=stop_reason(self.config, trials),
        )


def current_trials(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials without those whose parameters were asked again."""
    replaced = {trial.user_attrs.get(keys.RETRY_OF) for trial in trials}
    return [trial for trial in trials if trial.number not in replaced or trial.state.name == "COMPLETE"]


def is_alive(noted: Mapping[str, Any]) -> bool:
    """Return whether the process is alive that a trial's attributes, or a run's tags, name as theirs."""
    process = ProcessIdentity.from_json(noted.get(keys.PROCESS, ""))
    silent = time.time() - float(noted.get(keys.HEARTBEAT, 0.0))
    return process is not None and process.is_alive(silent_seconds=silent)
