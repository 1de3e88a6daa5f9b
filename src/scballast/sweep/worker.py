"""A worker of a sweep: takes trials until none waits, and runs each as a Hydra job in a process beside it."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scballast.config.addresses import without_passwords
from scballast.config.schema import Config, config_hash, to_nested
from scballast.errors import ScballastError
from scballast.sweep.check import Composer, config_of
from scballast.sweep.child import ProcessDiedError, TrialProcess
from scballast.sweep.parent import fail_trial_run, finished_run, interrupt_trial_run, keep_parent
from scballast.sweep.space import Space, point_words
from scballast.sweep.storage import StorageAddress
from scballast.sweep.study import INTERRUPTED, Claim, SweepStudy
from scballast.sweep.trial import SweepPlace, open_tracking, runs_dir
from scballast.tracking import Tracking

if TYPE_CHECKING:
    from omegaconf import DictConfig

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
    process: TrialProcess = field(default_factory=TrialProcess)
    _composer: Composer | None = None

    def __call__(self, _: DictConfig) -> None:
        """Work until no trial waits."""
        study = SweepStudy.join(self.name, self.address, self.config, self.space, self.total)
        tracking = open_tracking(self.config)
        try:
            while study.failures_in_a_row(self.since) < self.config.sweep.max_failures:
                claim = study.claim(partial(finished_run, tracking, self.name))
                if claim is None:
                    return
                with study.heartbeat(claim):
                    self._run(study, tracking, claim)
                keep_parent(study, tracking, self.parent_run_id)
        finally:
            self.process.close()

    def _run(self, study: SweepStudy, tracking: Tracking, claim: Claim) -> None:
        start = time.perf_counter()
        config: Config | None = None
        died = False
        try:
            composed = self._compose(claim)
            config = config_of(composed)
            study.note(claim.number, {"scballast.config_hash": config_hash(config)})
            answer = self._run_job(composed, config, claim)
        except ProcessDiedError as error:
            answer, died = {"status": "failed", "reason": str(error), "traceback": ""}, True
            found = finished_run(tracking, self.name, claim.number)
            if found is not None and not study.missing_objectives(found[0]):
                study.complete(claim.number, *found)
                return
        except ScballastError as error:
            answer = {"status": "failed", "reason": str(error), "traceback": ""}
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            self.process.interrupt()
            reason = INTERRUPTED if interrupted else f"{type(error).__name__}: {error}"
            if interrupted:
                interrupt_trial_run(tracking, self.name, claim.number)
            study.fail(claim.number, reason, again=True)
            raise
        if answer["status"] == "interrupted":
            # Somebody stopped the trial's process alone: its parameters are asked again.
            answer |= {"reason": INTERRUPTED, "traceback": ""}
            died = True
        self._end(study, tracking, claim, config, answer, died=died, seconds=time.perf_counter() - start)

    def _compose(self, claim: Claim) -> DictConfig:
        from omegaconf import open_dict

        if self._composer is None:
            self._composer = Composer(self.hydra_context.config_loader, self.master, self.words, self.space)
        composed = self._composer.composed(claim.point)
        with open_dict(composed):
            composed.hydra.job.id = f"{self.name}-{claim.number}"
            composed.hydra.job.num = claim.number
        return composed

    def _run_job(self, composed: DictConfig, config: Config, claim: Claim) -> dict[str, Any]:
        """Run a trial as a Hydra job, with a job's folder, log and callbacks."""
        from hydra.core.utils import run_job

        folder = Path(composed.hydra.sweep.dir).absolute() / str(composed.hydra.sweep.subdir)
        root = runs_dir(self.config)
        shown = folder.relative_to(root).as_posix() if folder.is_relative_to(root) else str(folder)
        claim.trial.set_user_attr("scballast.hydra_dir", shown)
        place = SweepPlace(
            sweep=self.name,
            trial=claim.number,
            parent_run_id=self.parent_run_id,
            tags=(
                ("scballast.hydra_dir", shown),
                ("optuna.study", self.name),
                ("optuna.trial", str(claim.number)),
                ("optuna.storage", self.address.shown),
            ),
        )

        def task(_: DictConfig) -> dict[str, Any]:
            request = {
                "do": "trial",
                "config": to_nested(without_storage(config)),
                "place": place,
                "logging": _logging_of(composed),
            }
            answer = self.process.call(request)
            links = {"study": self.name, "trial": claim.number, "run_id": answer.get("run_id")}
            (folder / "mlflow.json").write_text(json.dumps(links) + "\n", encoding="utf-8")
            return answer

        done = run_job(
            task_function=task,
            config=composed,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
            hydra_context=self.hydra_context,
            configure_logging=False,
        )
        if isinstance(done._return_value, Exception):
            raise done._return_value
        answer: dict[str, Any] = done.return_value
        return answer

    def _end(
        self,
        study: SweepStudy,
        tracking: Tracking,
        claim: Claim,
        config: Config | None,
        answer: Mapping[str, Any],
        *,
        died: bool,
        seconds: float,
    ) -> None:
        """Tell Optuna and MLflow the same about a trial's end."""
        reason, trace = str(answer.get("reason", "")), str(answer.get("traceback", ""))
        if answer["status"] == "done":
            metrics: Mapping[str, float] = answer["metrics"]
            missing = study.missing_objectives(metrics)
            if not missing:
                notes = {"scballast.run_id": answer["run_id"], "scballast.results": self._shown(answer["folder"])}
                if answer["duplicate_of"]:
                    notes["scballast.duplicate_of"] = answer["duplicate_of"]
                study.complete(claim.number, metrics, notes)
                self._say(study, claim, seconds, "reused" if answer["duplicate_of"] else "done")
                return
            reason = (
                f"the objectives {', '.join(missing)} were not measured. Choose objectives among what this "
                f"configuration logs: {', '.join(sorted(metrics)[:30])}"
            )
        fail_trial_run(tracking, self.name, claim.number, self.parent_run_id, config, reason, trace)
        study.fail(claim.number, reason, trace, again=died, died=died)
        self._say(study, claim, seconds, f"failed: {reason}")
        if answer.get("kind") == "memory":
            # What is left in its memory may be too much for the next trial too.
            self.process.close()

    def _shown(self, folder: str) -> str:
        root = runs_dir(self.config)
        return Path(folder).relative_to(root).as_posix() if Path(folder).is_relative_to(root) else folder

    def _say(self, study: SweepStudy, claim: Claim, seconds: float, what: str) -> None:
        varied = tuple(dimension for dimension in self.space if len(dimension.choices) != 1)
        point = ", ".join(point_words(varied, claim.point)) or "no parameters"
        logger.info("Trial %d (%s) %s, %.0f s. %s.", claim.number, point, what, seconds, study.progress())


def without_storage(config: Config) -> Config:
    """Return a configuration whose study's address is fit to be logged: a trial needs it for nothing else."""
    return replace(config, sweep=without_passwords(config).sweep)


def _logging_of(composed: DictConfig) -> dict[str, Any]:
    """Return the job's logging configuration with its file in the job's folder."""
    from omegaconf import OmegaConf

    logging_config: Any = OmegaConf.to_container(composed.hydra.job_logging, resolve=True)
    return dict(logging_config)
