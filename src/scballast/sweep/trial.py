"""One experiment as a trial: run, written to a folder, reported, and published to MLflow."""

from __future__ import annotations

import errno
import logging
import shlex
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from scballast.config import keys
from scballast.config.addresses import params_of
from scballast.config.schema import Config, config_hash
from scballast.data.dataset import Dataset
from scballast.engine.cache_folders import settle_matplotlib
from scballast.engine.native import precompile
from scballast.errors import ConfigError, ScballastError, memory_errors
from scballast.experiment.first_answer import OnFirstAnswer
from scballast.experiment.kept import Kept
from scballast.experiment.run import Experiment, prepare_dataset, run_experiment
from scballast.methods.registry import METHODS
from scballast.models import FAMILIES
from scballast.progress import expected_to_take
from scballast.report.description import first_answer_description
from scballast.results import result_folder, write_results
from scballast.sweep.estimate import stage_seconds
from scballast.sweep.messages import SweepPlace
from scballast.sweep.pages import share
from scballast.sweep.signals import how_stopped, signals_interrupt
from scballast.threads import at_once
from scballast.tracking import Tracking, TrackingSettings
from scballast.tracking.faults import READ_ONLY
from scballast.tracking.publish import DESCRIPTION

if TYPE_CHECKING:
    from scballast.report.drawing import Drawers

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrialOutcome:
    """A finished trial: its MLflow run, its folder of results, and what is still in memory."""

    run_id: str
    folder: Path
    experiment: Experiment


def runs_dir(config: Config) -> Path:
    """Return the absolute folder of everything that is written, made if it is not there.

    Raises
    ------
    ConfigError
        It cannot be made or written to.
    """
    try:
        path = Path(config.runs_dir).expanduser().resolve()
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".writable-{uuid.uuid4().hex}"
        probe.touch()
        probe.unlink()
    except (OSError, RuntimeError) as error:  # RuntimeError: a link to itself, or ~ of an unknown user
        reason = getattr(error, "strerror", None) or error
        message = (
            f"runs_dir: {config.runs_dir} cannot be written to ({reason}). Name another folder with runs_dir=FOLDER."
        )
        raise ConfigError(message) from error
    return path


def cache_dir(config: Config) -> Path | None:
    """Return the folder of what several experiments share, or None with ``cache=false``."""
    return runs_dir(config) / "cache" if config.cache else None


def open_tracking(config: Config) -> Tracking:
    """Return the tracking of this configuration; nothing is created yet."""
    return Tracking(
        TrackingSettings(uri=config.tracking.uri, experiment=config.tracking.experiment, runs_dir=runs_dir(config))
    )


def run_trial(
    config: Config,
    *,
    place: SweepPlace | None = None,
    prepared: Tracking | None = None,
    dataset: Dataset | None = None,
    on_checked: Callable[[], None] | None = None,
    on_first_answer: OnFirstAnswer | None = None,
    kept: Kept | None = None,
) -> TrialOutcome:
    """Run one experiment and publish it.

    The data are loaded and checked first: bad input leaves no run behind. Whatever happens after that, the
    run's status in MLflow says so.

    Parameters
    ----------
    config
        The whole configuration.
    place
        Its place in a sweep, if it has one.
    prepared
        Tracking that the controller has prepared already.
    dataset
        What `prepare_dataset` returned for this configuration, where the caller has it.
    on_checked
        Called when the data are loaded and known to be usable, before the work.
    on_first_answer
        Shown the answer of the methods that look at cells alone before models are trained; it is logged as the run's
        description too. None, as for a sweep's trials: there is no first answer.
    kept
        See :func:`scballast.experiment.run.run_experiment`.
    """
    settle_matplotlib()
    root = runs_dir(config)
    if config.train.engine == "ensemble" and config.device in ("auto", "cpu") and _needs_kernels(config):
        precompile()
    dataset = dataset or prepare_dataset(config)
    if on_checked is not None:
        on_checked()
    tracking = prepared or open_tracking(config)
    if prepared is None:
        tracking.prepare()
    name = run_name(config, dataset.name, place)
    tags = trial_tags(config, dataset.name, place)
    folder = root / "results" / name
    parent = place.parent_run_id if place else None
    # What a sweep compares are tables: of its trials those of the front get their pages when it ends.
    has_page = place is None or place.trial is None or config.sweep.reports == "all"
    # A sweep says what is left of all of its trials. Before the run begins: what fails here leaves none RUNNING.
    expected = stage_seconds(config, dataset) if place is None else None
    run_id = tracking.start_run(name, params_of(config), tags, parent_run_id=parent, folder=folder)

    def told(tables: Mapping[str, pd.DataFrame]) -> None:
        tracking.set_tags(run_id, {DESCRIPTION: first_answer_description(tables)})
        if on_first_answer is not None:
            on_first_answer(tables)

    try:
        with signals_interrupt(), memory_errors(), expected_to_take(expected):
            tell = None if on_first_answer is None else told
            experiment = run_experiment(config, dataset, cache_dir=cache_dir(config), on_first_answer=tell, kept=kept)
            results = replace(experiment.results, tags={**experiment.results.tags, **tags})
            experiment = replace(experiment, results=results)
            # The trials of a sweep are themselves what runs side by side.
            with _drawers(at_once() if has_page and place is None else 1) as others, _writable(root):
                # Whole before the report: a page that fails, or is killed, takes no result with it.
                with result_folder(folder) as partial:
                    write_results(experiment.results, partial)
                    _save_model(experiment, partial)
                    if not has_page:
                        _describe(folder.name, config, partial)
                failure = _report(experiment, folder, others, in_sweep=place is not None) if has_page else None
            tracking.publish(run_id, folder)
    except KeyboardInterrupt as error:
        tracking.interrupt_run(run_id, how_stopped(error))
        raise
    except BaseException as error:
        tracking.fail_run(run_id, f"{type(error).__name__}: {error}", traceback.format_exc())
        raise
    if failure is not None and place is None:  # of a trial of a sweep its values count
        raise failure
    return TrialOutcome(run_id, folder, experiment)


def trial_tags(config: Config, dataset: str, place: SweepPlace | None) -> dict[str, str]:
    """Return the tags that a run has from its start."""
    tags = {keys.CONFIG_HASH: config_hash(config), keys.DATASET: dataset}
    if place is not None:
        number = {} if place.trial is None else {keys.TRIAL: str(place.trial)}
        tags |= {keys.SWEEP: place.sweep, **number, **dict(place.tags)}
    return tags


@contextmanager
def _writable(root: Path) -> Iterator[None]:
    """Say what it means for the user when the runs folder takes no more files."""
    try:
        yield
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise
        message = (
            f"{root}: the results cannot be written ({error.strerror}). Name another folder with runs_dir=FOLDER, or "
            "change its permissions, and run it again."
        )
        raise ScballastError(message) from error


def _needs_kernels(config: Config) -> bool:
    """Whether some model may be trained by the compiled kernels: the family's own, or the scVI of a baseline."""
    family = FAMILIES.get(config.model.name)  # names that are not known are refused later
    of_engine = family is not None and family.settings is not None
    return of_engine or any("scvi" in METHODS[name].roles for name in config.baselines.methods if name in METHODS)


def _describe(name: str, config: Config, folder: Path) -> None:
    """Write the description of a trial that has no page yet; where it cannot be made the results count without."""
    from scballast.report.experiment_report import describe_trial

    flag = "" if config.runs_dir == "runs" else f" --runs-dir {shlex.quote(config.runs_dir)}"
    try:
        describe_trial(folder, details=f"the report that `scballast report {name}{flag}` draws")
    except Exception as error:
        if isinstance(error, OSError):
            raise
        logger.exception("%s: the description failed.", name)


@contextmanager
def _drawers(n_processes: int) -> Iterator[Drawers | None]:
    """Let the processes that will draw load their libraries while tables are written; None: there is but this one."""
    if n_processes == 1:
        yield None
        return
    try:
        from scballast.report.drawing import drawers
    except Exception:  # the report says why, when the tables are whole
        yield None
        return
    with drawers(n_processes) as others:
        yield others


def _report(experiment: Experiment, folder: Path, others: Drawers | None, *, in_sweep: bool) -> ScballastError | None:
    """Add the report to a folder of results; where it cannot be made, return what to say, and leave the folder.

    An interrupt ends the drawing alone, of a sweep all.
    """
    from scballast.report.drawing import Drawers
    from scballast.report.experiment_report import render_trial_report

    start = time.perf_counter()
    try:
        with result_folder(folder) as partial:
            share(folder, partial)
            render_trial_report(partial, others or Drawers(1))
            metrics = {**experiment.results.metrics, "seconds/report": time.perf_counter() - start}
            write_results(replace(experiment.results, metrics=metrics, tables={}), partial)
    except (Exception, KeyboardInterrupt) as error:
        stopped = isinstance(error, KeyboardInterrupt)
        if stopped and in_sweep:
            raise
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        why = "it was stopped" if stopped else "the disk is full" if full else f"{type(error).__name__}: {error}"
        failure = ScballastError(
            f"{folder}: the report cannot be made ({why}). The tables are whole there and in "
            f"MLflow; to make it again: scballast report {folder}"
        )
        failure.__cause__ = error
        # What a disk refuses, or a user stops, has no place in the code.
        if not stopped:
            logger.error("%s: the report failed.", folder, exc_info=None if isinstance(error, OSError) else error)
        return failure
    return None


def _save_model(experiment: Experiment, folder: Path) -> None:
    """Keep the global model of the first replicate that has one, as scvi-tools saves it, without the cells."""
    model: Any = experiment.first_model()
    if model is not None:
        from scballast.models.saved import save_model

        save_model(model, folder / "model")


def run_name(config: Config, dataset: str, place: SweepPlace | None) -> str:
    """Return a name for a run: place in its sweep (first: narrow columns cut names), data set, model, time."""
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    trial = ""
    if place is not None:
        trial = "confirmation-" if place.trial is None else f"trial{place.trial}-"
    return f"{trial}{dataset}-{config.model.name}-{stamp}-{uuid.uuid4().hex[:6]}"
