"""The MLflow run of a sweep: one for all of its workers, with how far the sweep is."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from scballast.config import keys
from scballast.config.addresses import params_of
from scballast.config.schema import Config
from scballast.errors import ScballastError
from scballast.sweep.front import best_so_far
from scballast.sweep.messages import Described
from scballast.sweep.space import Space, describe
from scballast.sweep.standing import standing_description
from scballast.sweep.study import SweepStudy, is_alive
from scballast.tracking import StoredRun, Tracking
from scballast.tracking.leftovers import SILENT_DEATH
from scballast.tracking.publish import DESCRIPTION

logger = logging.getLogger(__name__)

_PENDING = "pending-"


def find_or_start_parent(
    study: SweepStudy, tracking: Tracking, config: Config, dataset: Described, command: str
) -> str:
    """Return the sweep's MLflow run, started if there is none; it belongs to this process if to no other.

    Parameters
    ----------
    dataset
        What the trials are run on.
    command
        The command line, without passwords.
    """
    with study.lock():
        known: str | None = study.attribute(keys.PARENT_RUN)
        # A command that comes when all is done leaves the run as it ended.
        if known is not None and (study.progress().is_over or _take_over(tracking, known)):
            return known
        name = study.name
        tags = {
            keys.SWEEP: name,
            keys.ROLE: "sweep",
            keys.COMMAND: command,
            keys.DATASET: dataset.name,
            keys.DATASET_DIGEST: dataset.digest,
            "optuna.storage": study.address.shown,
            **progress_tags(study),
        }
        run_id = tracking.start_run(name, parent_params(config, study.space), tags)
        study.set_attribute(keys.PARENT_RUN, run_id)
        return run_id


def keep_parent(study: SweepStudy, tracking: Tracking, run_id: str) -> None:
    """Bring the parent's tags and description up to date, and take it over when the process that held it is gone."""
    with study.lock():
        tags = progress_tags(study)
        if not study.progress().is_over:
            _take_over(tracking, run_id)
            # Its report's own takes this one's place at the end.
            tags[DESCRIPTION] = standing_description(study)
        tracking.set_tags(run_id, tags)


def progress_tags(study: SweepStudy) -> dict[str, str]:
    """Return the tags that say how far a sweep is."""
    progress = study.progress()
    return {
        keys.DONE: str(progress.done),
        keys.FAILED: str(progress.failed),
        keys.TOTAL: str(progress.total),
        keys.RACED: str(progress.raced_out),
        **({keys.STOPPED: progress.stop} if progress.stop else {}),
        keys.PROGRESS: f"{progress.done}/{progress.failed}/{progress.total}",
        keys.BEST: best_so_far(study.trials(), study.config.objectives),
    }


def parent_params(config: Config, space: Space = ()) -> dict[str, Any]:
    """Return the sweep's configuration as parameters: what is searched by its values, no passwords."""
    return params_of(config, of_sweep=True) | describe(space)


def fail_trial_run(
    tracking: Tracking, sweep: str, number: int, parent: str | None, config: Config | None, reason: str, trace: str
) -> None:
    """End a trial's run as failed; a trial that failed before its run began gets one that says so."""
    tags = {keys.SWEEP: sweep, keys.TRIAL: str(number)}
    runs = _runs_of(tracking, sweep, number)
    if runs is None:
        return
    if not runs:
        run_id = tracking.start_run(
            f"{sweep}-trial{number}", params_of(config) if config else {}, tags, parent_run_id=parent
        )
        tracking.fail_run(run_id, reason, trace)
    for run in runs:
        unexplained = run.tags.get(keys.FAILURE) == SILENT_DEATH
        if run.status == "RUNNING" or unexplained or (run.status == "FINISHED" and config is not None):
            tracking.fail_run(run.run_id, reason, trace)


def interrupt_trial_run(tracking: Tracking, sweep: str, number: int) -> None:
    """End a trial's run as stopped by the user, where its own process was stopped before it could."""
    for run in _runs_of(tracking, sweep, number, "RUNNING") or ():
        tracking.interrupt_run(run.run_id)


def finished_run(tracking: Tracking, sweep: str, number: int) -> tuple[Mapping[str, float], dict[str, str]] | None:
    """Return the metrics of a trial whose results were whole when its process died, and what to note of it."""
    runs = _runs_of(tracking, sweep, number, "FINISHED", settled=True)
    if not runs:
        return None
    return runs[0].metrics, {keys.RUN_ID: runs[0].run_id, keys.RESULTS: f"results/{runs[0].name}"}


def _runs_of(
    tracking: Tracking, sweep: str, number: int, status: str | None = None, *, settled: bool = False
) -> list[StoredRun] | None:
    """Return a trial's runs, ``settled``: with what dead processes left sent; None, as the log says: not to be had."""
    try:
        if settled:
            tracking.reap_stale()
            tracking.sync()
        return tracking.find_runs({keys.SWEEP: sweep, keys.TRIAL: str(number)}, status=status)
    except ScballastError as error:
        logger.warning("The run of trial %d cannot be looked up: %s", number, error)
        return None


def _take_over(tracking: Tracking, run_id: str) -> bool:
    """Make a run this process's own unless another live one holds it; False when there is no such run."""
    if run_id.startswith(_PENDING):
        return True
    try:
        run = tracking.get_run(run_id)
        if run.status != "RUNNING" or not is_alive(run.tags):
            tracking.reopen_run(run_id)
    except ScballastError as error:
        logger.warning("The sweep's run %s cannot be taken up again: %s", run_id, error)
        return False
    return True
