"""A worker of a sweep: takes trials until none waits, and runs each as a Hydra job in a process beside it."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from scballast.config import keys
from scballast.config.addresses import without_passwords
from scballast.config.duration import seconds_of
from scballast.config.hydra_compat import run_as_job
from scballast.config.schema import Config, config_hash
from scballast.errors import ScballastError
from scballast.sweep.check import Composer, config_of
from scballast.sweep.child import ProcessDiedError, TrialProcess, TrialTimeoutError
from scballast.sweep.messages import (
    Answer,
    Failed,
    Interrupted,
    PairDone,
    SweepPlace,
    Trained,
    TrainRequest,
    TrialDone,
    TrialRequest,
)
from scballast.sweep.parent import fail_trial_run, finished_run, interrupt_trial_run, keep_parent
from scballast.sweep.racing import add_pair, judge, n_pairs
from scballast.sweep.space import Space, point_words
from scballast.sweep.storage import StorageAddress
from scballast.sweep.study import INTERRUPTED, Claim, SweepStudy
from scballast.sweep.trial import open_tracking, runs_dir
from scballast.tracking import Tracking

logger = logging.getLogger(__name__)


@dataclass
class Worker:
    """What a worker needs, wherever Hydra's launcher starts it; called by Hydra as the job's task.

    Attributes
    ----------
    hydra_context, master
        Hydra's own: how a trial's configuration is composed.
    words
        Overrides that all trials share.
    config
        The sweep's configuration.
    since
        When the command was given, in seconds since the epoch: earlier failures do not stop it.
    raced
        Whether trials that cannot move the front are stopped.
    """

    hydra_context: Any
    master: DictConfig
    words: list[str]
    space: Space
    config: Config
    address: StorageAddress
    name: str
    total: int
    parent_run_id: str
    since: float
    raced: bool = False
    process: TrialProcess = field(default_factory=TrialProcess)
    _study: SweepStudy = field(init=False, repr=False, compare=False)
    _tracking: Tracking = field(init=False, repr=False, compare=False)

    def __call__(self, _: DictConfig) -> None:
        """Work until no trial waits."""
        self._study = SweepStudy.join(self.name, self.address, self.config, self.space, self.total)
        self._tracking = open_tracking(self.config)
        try:
            while self._study.failures_in_a_row(self.since) < self.config.sweep.max_failures:
                claims = self._claim()
                if not claims:
                    return
                with self._study.heartbeat(claims):
                    self._run_together(claims)
        finally:
            self.process.close()
            # A worker that is sent elsewhere next opens its own.
            del self._study, self._tracking

    def _claim(self) -> list[Claim]:
        """Take as many trials as are trained together, or those that are left."""
        claims: list[Claim] = []
        while len(claims) < self.config.sweep.fused:
            claim = self._study.claim(partial(finished_run, self._tracking, self.name))
            if claim is None:
                break
            claims.append(claim)
        return claims

    def _run_together(self, claims: Sequence[Claim]) -> None:
        """Train the models of all claims as one ensemble, then run one after another; give back what is not begun."""
        waiting = list(claims)
        try:
            if len(claims) > 1:
                self._train_ahead(claims)
            while waiting:
                over = self._study.failures_in_a_row(self.since) >= self.config.sweep.max_failures
                if len(waiting) < len(claims) and (over or self._study.progress().stop):
                    return
                self._run(waiting.pop(0))
                keep_parent(self._study, self._tracking, self.parent_run_id)
        finally:
            for claim in waiting:
                self._study.fail(claim.number, INTERRUPTED, again=True)

    def _train_ahead(self, claims: Sequence[Claim]) -> None:
        """Fill the cache with the models of several trials; what goes wrong here is met again by the trial it is of."""
        configs = []
        for claim in claims:
            with suppress(ScballastError):
                configs.append(without_storage(config_of(self._compose(claim))))
        if len(configs) < 2:
            return
        limit = seconds_of("sweep.trial_timeout", self.config.sweep.trial_timeout)
        deadline = math.inf if limit is None else time.monotonic() + limit * len(configs)
        start = time.perf_counter()
        try:
            answer = self.process.call(TrainRequest(tuple(configs), self.raced), deadline)
        except ProcessDiedError as error:
            answer = Failed(str(error) or "it took longer than sweep.trial_timeout allows all of them", died=True)
        except BaseException:
            self.process.interrupt()
            raise
        if isinstance(answer, Trained):
            logger.info("Trained %d trials together, %.0f s.", len(configs), time.perf_counter() - start)
            return
        reason = answer.reason if isinstance(answer, Failed) else "interrupted"
        logger.warning("%d trials could not be trained together (%s); they train one by one.", len(configs), reason)
        # What is left in its memory may be too much for the first of them too.
        self.process.close()

    def _run(self, claim: Claim) -> None:
        start = time.perf_counter()
        config: Config | None = None
        answer: Answer
        try:
            composed = self._compose(claim)
            config = config_of(composed)
            self._study.note(claim.number, {keys.CONFIG_HASH: config_hash(config)})
            answer = self._run_job(composed, config, claim)
        except ProcessDiedError as error:
            answer = Failed(str(error), died=True)
            if isinstance(error, TrialTimeoutError):
                # Asked again it would take as long.
                answer = Failed(f"sweep.trial_timeout={self.config.sweep.trial_timeout}: it took longer, and was ended")
            finished = finished_run(self._tracking, self.name, claim.number)
            if finished is not None and not self._study.missing_objectives(finished[0]):
                self._study.complete(claim.number, *finished)
                return
        except ScballastError as error:
            answer = Failed(str(error))
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            self.process.interrupt()
            reason = INTERRUPTED if interrupted else f"{type(error).__name__}: {error}"
            if interrupted:
                interrupt_trial_run(self._tracking, self.name, claim.number)
            self._study.fail(claim.number, reason, again=True)
            raise
        if isinstance(answer, Interrupted):
            # Somebody stopped the trial's process alone: its parameters are asked again.
            answer = Failed(INTERRUPTED, died=True)
        self._end(claim, config, answer, seconds=time.perf_counter() - start)

    @cached_property
    def composer(self) -> Composer:
        """What composes the configurations of its trials."""
        return Composer(self.hydra_context.config_loader, self.master, self.words, self.space)

    def _compose(self, claim: Claim) -> DictConfig:
        composed = self.composer.composed(claim.point)
        with open_dict(composed):
            composed.hydra.job.id = f"{self.name}-{claim.number}"
            composed.hydra.job.num = claim.number
        return composed

    def _run_job(self, composed: DictConfig, config: Config, claim: Claim) -> Answer:
        """Run a trial as a Hydra job, with a job's folder, log and callbacks."""
        folder = Path(composed.hydra.sweep.dir).absolute() / str(composed.hydra.sweep.subdir)
        shown = self._shown(folder)
        claim.trial.set_user_attr(keys.HYDRA_DIR, shown)
        place = SweepPlace(
            sweep=self.name,
            trial=claim.number,
            parent_run_id=self.parent_run_id,
            tags=(
                (keys.HYDRA_DIR, shown),
                ("optuna.study", self.name),
                ("optuna.trial", str(claim.number)),
                ("optuna.storage", self.address.shown),
            ),
        )

        limit = seconds_of("sweep.trial_timeout", self.config.sweep.trial_timeout)
        deadline = math.inf if limit is None else time.monotonic() + limit

        def task(_: DictConfig) -> Answer:
            # In the job, since Hydra knows the job's folder, and with it the place of its log, only there.
            request = TrialRequest(without_storage(config), place, _logging_of(composed))
            left = self._race(claim, request, deadline) if self.raced else request
            answer = self.process.call(left, deadline) if isinstance(left, TrialRequest) else left
            run_id = answer.run_id if isinstance(answer, TrialDone) else None
            links = {"study": self.name, "trial": claim.number, "run_id": run_id}
            (folder / "mlflow.json").write_text(json.dumps(links) + "\n", encoding="utf-8")
            return answer

        answer: Answer = run_as_job(self.hydra_context, composed, task)
        return answer

    def _race(self, claim: Claim, request: TrialRequest, deadline: float) -> TrialRequest | Answer:
        """Give a trial its pairs of replicates one by one, as long as it can move the front.

        Returns
        -------
        TrialRequest or Answer
            What is left to do: the whole trial, or one of the replicates that it had; its models are in the
            cache. An answer, where there was one: it failed, or the same configuration had finished.
        """
        values: dict[str, list[float]] = {}
        for pair in range(n_pairs(request.config)):
            done = self.process.call(replace(request, pair=pair), deadline)
            if not isinstance(done, PairDone):
                return done
            add_pair(values, done.values, self.config.objectives)
            self._study.note(claim.number, {keys.PAIRS: json.dumps(values)})
            keep_parent(self._study, self._tracking, self.parent_run_id)
            stopped = judge(self.config, values, self._study.trials())
            if stopped is not None:
                notes = {keys.STOPPED: stopped.reason, keys.RUNG: str(2 * stopped.pairs)}
                if stopped.rivals:
                    notes[keys.STOPPED_BY] = ", ".join(map(str, stopped.rivals))
                self._study.note(claim.number, notes)
                resample = replace(request.config.resample, n_replicates=2 * stopped.pairs)
                return replace(
                    request,
                    config=replace(request.config, resample=resample),
                    place=replace(request.place, tags=(*request.place.tags, *notes.items())),
                )
        return request

    def _end(self, claim: Claim, config: Config | None, answer: Answer, *, seconds: float) -> None:
        """Tell Optuna and MLflow the same about a trial's end."""
        if isinstance(answer, TrialDone):
            missing = self._study.missing_objectives(answer.metrics)
            stopped = self._study.trial(claim.number).user_attrs.get(keys.STOPPED)
            notes = {keys.RUN_ID: answer.run_id, keys.RESULTS: self._shown(Path(answer.folder))}
            if stopped:
                self._study.stop(claim.number, notes)
                self._say(claim, seconds, f"stopped: {stopped}")
                return
            if not missing:
                if answer.duplicate_of:
                    notes[keys.DUPLICATE_OF] = answer.duplicate_of
                self._study.complete(claim.number, answer.metrics, notes)
                self._say(claim, seconds, "reused" if answer.duplicate_of else "done")
                return
            answer = Failed(
                f"the objectives {', '.join(missing)} were not measured. Choose objectives among what this "
                f"configuration logs: {', '.join(sorted(answer.metrics)[:30])}"
            )
        failed = answer if isinstance(answer, Failed) else Failed(f"an answer of another kind: {answer}")
        trial = (self.name, claim.number, self.parent_run_id, config)
        fail_trial_run(self._tracking, *trial, failed.reason, failed.traceback)
        self._study.fail(claim.number, failed.reason, failed.traceback, again=failed.died, died=failed.died)
        self._say(claim, seconds, f"failed: {failed.reason.rstrip('.')}")
        if failed.kind == "memory":
            # What is left in its memory may be too much for the next trial too.
            self.process.close()

    def _shown(self, folder: Path) -> str:
        root = runs_dir(self.config)
        return folder.relative_to(root).as_posix() if folder.is_relative_to(root) else str(folder)

    def _say(self, claim: Claim, seconds: float, what: str) -> None:
        varied = tuple(dimension for dimension in self.space if len(dimension.choices) != 1)
        point = ", ".join(point_words(varied, claim.point)) or "no parameters"
        logger.info("Trial %d (%s) %s, %.0f s. %s.", claim.number, point, what, seconds, self._study.progress())


def without_storage(config: Config) -> Config:
    """Return a configuration whose study's address is fit to be logged: a trial needs it for nothing else."""
    return replace(config, sweep=without_passwords(config).sweep)


def _logging_of(composed: DictConfig) -> dict[str, Any]:
    """Return the job's logging configuration with its file in the job's folder."""
    logging_config: Any = OmegaConf.to_container(composed.hydra.job_logging, resolve=True)
    return dict(logging_config)
