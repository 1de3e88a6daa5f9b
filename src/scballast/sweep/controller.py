"""A sweep from its command line to its report: read it from top to bottom and see all of it."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from scballast.config import keys
from scballast.config.addresses import without_password
from scballast.config.compose import as_written
from scballast.config.hydra_compat import launch_jobs
from scballast.config.schema import NOT_IN_IDENTITY, Config, to_leaves
from scballast.data.early import say_suggestions
from scballast.errors import ConfigError, DataError, ScballastError
from scballast.sweep.check import Composer, checked_points, without_missing_families
from scballast.sweep.child import ProcessDiedError, TrialProcess
from scballast.sweep.confirm import confirm_choice, confirmation_sentence
from scballast.sweep.door import door
from scballast.sweep.front import choose, notes_on, short_reason
from scballast.sweep.identity import Identity
from scballast.sweep.live import live_sweep
from scballast.sweep.messages import Described, DescribeRequest, served
from scballast.sweep.objectives import objectives_word, settled_objectives
from scballast.sweep.outcome import wrap_up
from scballast.sweep.parent import find_or_start_parent, finished_run, keep_parent
from scballast.sweep.racing import is_raced, obstacle
from scballast.sweep.samplers import build_sampler
from scballast.sweep.signals import reader_may_leave, signals_interrupt
from scballast.sweep.space import Point, Space, describe, n_asked_for, split_words
from scballast.sweep.storage import StorageAddress, storage_address
from scballast.sweep.study import Progress, Recover, SweepStudy
from scballast.sweep.trial import open_tracking
from scballast.sweep.watch import released_when_over
from scballast.sweep.worker import Worker, without_storage
from scballast.tracking import Tracking, load_mlflow

logger = logging.getLogger(__name__)

_BAD_INPUT = 2
_POLL_SECONDS = 1.0
_GOODBYE_POLLS = 5
# With launchers that send workers elsewhere and do not say how many: so many.
_N_SENT_WORKERS = 4


@dataclass(frozen=True)
class Sweep:
    """A sweep as its command line asks for it, checked."""

    words: list[str]
    space: Space
    points: list[Point]
    config: Config


def run_sweep(hydra_context: Any, master: DictConfig, words: Sequence[str]) -> None:
    """Run a sweep, or plan it; ends the program with its exit status when that is not 0.

    Parameters
    ----------
    hydra_context
        Hydra's own.
    master
        The composed configuration of the command line without what it sweeps.
    words
        The command line's overrides.
    """
    try:
        with signals_interrupt(), reader_may_leave():
            sweep = _checked(hydra_context, master, words)
            if sweep.config.plan:
                _plan(hydra_context, master, sweep)
                return
            progress = _run(hydra_context, master, sweep)
    except KeyboardInterrupt:
        sys.stderr.write("Stopped before the first trial.\n")
        sys.exit(1)
    except ScballastError as error:
        sys.stderr.write(f"{as_written(str(error), words)}\n")
        sys.exit(_BAD_INPUT if isinstance(error, ConfigError | DataError) else 1)
    if progress.done == 0 or not progress.is_over:
        sys.exit(1)


def _checked(hydra_context: Any, master: DictConfig, words: Sequence[str]) -> Sweep:
    loader = hydra_context.config_loader
    stored: Any = OmegaConf.to_container(master.sweep, resolve=True)
    shared, space = split_words(words, stored["search_space"] or {}, loader=loader)
    space, left_out = without_missing_families(space)
    for word, why in left_out.items():
        sys.stderr.write(f"Note: {word} is left out of the sweep: {why}\n")
    composer = Composer(loader, master, shared, space)
    config = composer.config(composer.first_point())
    points = checked_points(composer, config)
    build_sampler(config, 0)
    if config.sweep.racing and obstacle(config):
        message = f"sweep.racing: true is not possible: {obstacle(config)}. Change that, or leave racing out."
        raise ConfigError(message)
    if config.sweep.fused > 1 and not config.cache:
        message = (
            f"sweep.fused={config.sweep.fused}: trials that are trained together find their models in the cache. Leave "
            "cache=false out, or sweep.fused."
        )
        raise ConfigError(message)
    return Sweep(shared, space, points, config)


def _plan(hydra_context: Any, master: DictConfig, sweep: Sweep) -> None:
    from scballast.sweep.plan import print_sweep_plan

    config, points = sweep.config, sweep.points
    composer = Composer(hydra_context.config_loader, master, sweep.words, sweep.space)
    configs = [composer.config(point) for point in points] or [config]
    n_trials = len(points) or config.sweep.n_trials
    n_asked = n_asked_for(sweep.space)
    print_sweep_plan(
        configs, n_trials, n_asked, sweep.space, _n_workers(config, master), raced=is_raced(config, len(points))
    )
    say_suggestions(config.data, config.association.keys)


def _run(hydra_context: Any, master: DictConfig, sweep: Sweep) -> Progress:
    config, since = sweep.config, time.time()
    address = storage_address(config.sweep.storage, Path(config.runs_dir).expanduser().resolve())
    process = TrialProcess()
    stopped = False
    try:
        with live_sweep() as terminal:
            dataset = _describe(process, config, trains=_n_workers(config, master) == 1)
            sweep = _settle_objectives(sweep, dataset)
            config = sweep.config
            say_suggestions(config.data, config.association.keys)
            tracking = open_tracking(config)
            tracking.prepare()
            study, name = _open_study(sweep, address, dataset)
            parent = find_or_start_parent(study, tracking, without_storage(config), dataset, _command(name))
            logger.info("Sweep %s: %s.", name, study.progress())
            terminal.study = study
            worker = Worker(
                hydra_context=hydra_context,
                master=master,
                words=[word for word in sweep.words if not word.lstrip("+").startswith("sweep.storage=")],
                space=sweep.space,
                config=config,
                address=address,
                name=name,
                total=study.total,
                parent_run_id=parent,
                since=since,
                raced=is_raced(config, len(sweep.points)),
                process=process,
            )
            try:
                _work(study, tracking, worker)
                if config.sweep.confirm and study.progress().is_over:
                    confirm_choice(study, worker)
            except KeyboardInterrupt:
                stopped = True
    finally:
        process.close()
    if stopped:
        _say_goodbye(study, tracking, parent, name)
        sys.exit(1)
    tracking.reap_stale()
    wrap_up(study, tracking, parent, dataset)
    return _say_result(study, config, since, name, parent)


def _describe(process: TrialProcess, config: Config, *, trains: bool) -> Described:
    """Load and check the data in a process beside this one, where trials will run if it ``trains``."""
    process.send(DescribeRequest(without_storage(config), trains))
    with contextlib.suppress(ImportError):
        import optuna  # noqa: F401
    load_mlflow()
    try:
        answer = process.receive()
    except ProcessDiedError as error:
        message = f"the data could not be loaded: {error}."
        raise ScballastError(message) from error
    return served(answer, Described)


def _settle_objectives(sweep: Sweep, dataset: Described) -> Sweep:
    """Leave out default objectives that no trial would have: for the study, and by a word for every trial."""
    objectives, said = settled_objectives(sweep.config, dataset.methods)
    if not said:
        return sweep
    sys.stderr.write(f"Note: {said}\n")
    word = objectives_word([(objective.metric, objective.direction) for objective in objectives], quote="")
    return replace(sweep, words=[*sweep.words, word], config=replace(sweep.config, objectives=objectives))


# ---------------------------------------------------------------------- the study


def _open_study(sweep: Sweep, address: StorageAddress, dataset: Described) -> tuple[SweepStudy, str]:
    config = sweep.config
    searched = {dimension.key for dimension in sweep.space}
    groups = {key for key in searched if "." not in key}
    identity = Identity(
        kind=config.sweep.kind,
        dataset=dataset.name,
        digest=dataset.digest,
        space=describe(sweep.space),
        objectives=[(objective.metric, objective.direction) for objective in config.objectives],
        base={
            key: value
            for key, value in to_leaves(config).items()
            if key not in searched and key.split(".")[0] not in (*NOT_IN_IDENTITY, *groups)
        },
    )
    name = config.sweep.name or _free_name(address, dataset.name, identity)
    return SweepStudy.create_or_resume(
        name, address, config, sweep.space, identity, sweep.points, raced=is_raced(config, len(sweep.points))
    ), name


def _free_name(address: StorageAddress, dataset: str, identity: Identity) -> str:
    """Return a name from data set and date: today's sweep of the same kind if there is one, else a new one."""
    stem = f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', dataset)}-{date.today().isoformat()}"
    names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
    stored = ((name, SweepStudy.stored_identity(name, address)) for name in names)
    return next(name for name, known in stored if known is None or not identity.differences(known))


# ---------------------------------------------------------------------- the work


def _work(study: SweepStudy, tracking: Tracking, worker: Worker) -> None:
    """Launch workers until every trial has ended, here or in other commands that share the study."""
    look_up = partial(finished_run, tracking, worker.name)
    while study.failures_in_a_row(worker.since) < worker.config.sweep.max_failures:
        progress = study.progress()
        if progress.waiting and not progress.stop:
            _launch(study, worker, progress, look_up)
            keep_parent(study, tracking, worker.parent_run_id)
        with study.lock():
            given_up = study.give_up_dead(look_up)
        if given_up:
            logger.info("Given up, since their processes are gone: trials %s.", ", ".join(map(str, given_up)))
            tracking.reap_stale()
        progress = study.progress()
        if progress.is_over:
            return
        if not progress.waiting or progress.stop:
            # Other commands still work; if one of them dies, its trial comes back here.
            time.sleep(_POLL_SECONDS)


def _launch(study: SweepStudy, worker: Worker, progress: Progress, look_up: Recover) -> None:
    n_workers = min(_n_workers(worker.config, worker.master), max(1, progress.waiting))
    jobs = [[*worker.words, f"hydra.sweep.subdir=workers/{os.getpid()}-{number}"] for number in range(n_workers)]
    if n_workers > 1:
        # The data are in this process for the first trial; workers elsewhere load their own.
        worker.process.close()
    sent, n_begun = _are_sent(worker.master), study.n_begun()
    try:
        with released_when_over(study, look_up) if sent else contextlib.nullcontext():
            launch_jobs(worker.hydra_context, worker.master, worker, jobs)
    except ScballastError:
        raise
    except Exception as error:
        # A launcher gives up all workers when one is killed; the trials of the others are asked again.
        if n_workers == 1 and not sent:
            raise
        if study.n_begun() == n_begun:
            message = f"{_launcher_name(worker.master)} could not start a worker: {' '.join(str(error).split())}"
            raise ScballastError(message) from error
        logger.warning("The launcher lost its workers (%s); starting new ones.", type(error).__name__)
        time.sleep(_POLL_SECONDS)


def _n_workers(config: Config, master: DictConfig) -> int:
    """Return how many workers to launch: ``sweep.n_workers``, or what the launcher is set to."""
    if config.sweep.n_workers is not None:
        return config.sweep.n_workers
    launcher = _launcher(master)
    if "joblib" in launcher:
        n_jobs = int(master.hydra.launcher.n_jobs)
        return n_jobs if n_jobs > 0 else max(1, (os.cpu_count() or 1) + 1 + n_jobs)
    return _N_SENT_WORKERS if _are_sent(master) else 1


def _are_sent(master: DictConfig) -> bool:
    """Return whether the launcher sends workers elsewhere, where this process does not see how they end."""
    return not any(name in _launcher(master) for name in ("basic", "joblib"))


def _launcher(master: DictConfig) -> str:
    return str(master.hydra.launcher.get("_target_", "")).lower()


def _launcher_name(master: DictConfig) -> str:
    return f"hydra/launcher={master.hydra.runtime.choices.get('hydra/launcher', 'basic')}"


# ---------------------------------------------------------------------- the end


def _say_goodbye(study: SweepStudy, tracking: Tracking, parent: str, name: str) -> None:
    """After Ctrl-C: end what this command began, leave what others are at, say how to go on."""
    progress = study.progress()
    for _ in range(_GOODBYE_POLLS):
        # Workers that a launcher started take a moment to end.
        with study.lock():
            study.give_up_dead(lambda _: None)
        progress = study.progress()
        if not progress.running:
            break
        time.sleep(_POLL_SECONDS)
    tracking.reap_stale()
    keep_parent(study, tracking, parent)
    if not progress.running:
        tracking.interrupt_run(parent)
    sys.stderr.write(f"Stopped: {progress}. Finished trials are kept. Go on with:\n  {_command(name)}\n")


def _say_result(study: SweepStudy, config: Config, since: float, name: str, parent: str) -> Progress:
    progress = study.progress()
    if not progress.is_over:
        reasons = [t.user_attrs.get(keys.REASON, "") for t in study.trials() if t.state.name == "FAIL"]
        sys.stderr.write(
            f"Stopped after {study.failures_in_a_row(since)} failures in a row (sweep.max_failures="
            f"{config.sweep.max_failures}): {progress}. The last: {reasons[-1] if reasons else 'none'}\n"
            f"Go on with:\n  {_command(name)}\n"
        )
    elif progress.done == 0:
        sys.stderr.write(f"Every trial failed: {progress}.\n")
    else:
        sys.stderr.write(f"Sweep {name}: {progress}.\n")
        if progress.stop and progress.waiting:
            sys.stderr.write(f"Ended early: {progress.stop}. With a larger limit it goes on:\n  {_command(name)}\n")
        _say_choice(study)
    folder = Path(config.runs_dir).expanduser().resolve() / "sweeps" / name
    if (folder / "report.html").is_file():
        sys.stderr.write("\n".join(door(parent, folder, config)) + "\n")
    return progress


def _say_choice(study: SweepStudy) -> None:
    """Name the chosen trial and why, and the fits that were left out."""
    scores = study.scores()
    for sentence in notes_on(scores):
        sys.stderr.write(f"{sentence}\n")
    choice = choose(scores)
    if choice is not None:
        pairs = zip(scores.objectives, scores.values[choice.number], strict=True)
        values = ", ".join(f"{objective.metric} {value:.4g}" for objective, value in pairs)
        varied = {dimension.key for dimension in study.space if len(dimension.ends()) > 1}
        point = study.trial(choice.number).params.items()
        searched = ", ".join(f"{key}={value}" for key, value in point if key in varied)
        sys.stderr.write(f"Chosen: trial {choice.number}{f' ({searched})' if searched else ''}: {values}.\n")
        sys.stderr.write(f"Why: {short_reason(scores)}.\n")
        if confirmed := confirmation_sentence(study):
            sys.stderr.write(f"{confirmed}\n")


def _command(name: str) -> str:
    """Return the command that resumes the sweep, without passwords."""
    words = [without_secret(word) for word in sys.argv[1:]]
    if not any(word.startswith("sweep.name=") for word in words):
        words.append(f"sweep.name={name}")
    return shlex.join(["scballast", *words])


def without_secret(word: str) -> str:
    """Return a word of the command line without the password of an address."""
    key, separator, value = word.partition("=")
    return f"{key}{separator}{without_password(value)}" if "://" in value else word
