"""What ``plan=true`` prints: the work that a command means, and its time as far as it is known; nothing is run."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

from scballast.config.duration import seconds_of
from scballast.config.schema import Config
from scballast.errors import ScballastError
from scballast.progress import duration
from scballast.sweep.child import ProcessDiedError, TrialProcess
from scballast.sweep.messages import Estimated, EstimateRequest, served
from scballast.sweep.racing import n_pairs, obstacle, share_trained, usual_share
from scballast.sweep.space import Space

# Counting the work of a configuration takes a moment; of larger sweeps the first ones stand for all.
_MOST_COUNTED = 200


def print_plan(config: Config) -> None:
    """Print what one experiment means."""
    estimated = _estimate([config])
    work = estimated.work[0]
    print("One experiment.")
    if work.finished:
        print("The same configuration has finished on the same data before; it would be run anew.")
    _print_work(estimated, (work.members, work.trainings, work.known), 1)
    _print_warnings(estimated)


def print_sweep_plan(
    configs: Sequence[Config], n_trials: int, n_asked: int, space: Space, n_workers: int, *, raced: bool
) -> None:
    """Print what a sweep means.

    Parameters
    ----------
    configs
        The distinct configurations of a grid; for a tuned sweep one that stands for all.
    n_trials
        How many trials the sweep has.
    n_asked
        How many configurations a grid asks for, with those that are asked for twice.
    space
        What is searched.
    n_workers
        How many workers share the work.
    raced
        Whether trials that cannot move the front are stopped.
    """
    counted = list(configs[:_MOST_COUNTED])
    estimated = _estimate(counted)
    work = estimated.work
    config = configs[0]
    finished = sum(trial_work.finished for trial_work in work)
    todo = n_trials - finished
    share = n_trials / len(work)
    kind = "A grid" if config.sweep.kind == "grid" else f"A search by {config.sweep.sampler}"
    print(f"{kind} of {n_trials} trials over {', '.join(d.key for d in space) or 'one configuration'}.")
    for dimension in space:
        print(f"  {dimension.key}: {dimension.text}")
    if config.sweep.kind == "grid":
        print(f"Duplicates left out: {n_asked - n_trials}.")
    print(f"Finished before, and reused: {finished}.")
    left = [trial_work for trial_work in work if not trial_work.finished]
    models = [(trial_work.members, trial_work.trainings, trial_work.known) for trial_work in left] or [(0, 0, 0)]
    members = tuple(round(share * sum(numbers)) for numbers in zip(*models, strict=True))
    shares = (usual_share(config, todo), share_trained(todo, 1 / n_pairs(config))) if raced and todo else None
    _print_work(estimated, members, todo, n_workers, shares)
    for line in rules(config, raced=raced):
        print(line)
    _print_warnings(estimated)


def rules(config: Config, *, raced: bool) -> list[str]:
    """Return the rules by which a sweep or its trials end early, a sentence each."""
    sweep, lines = config.sweep, []
    if raced:
        lines.append(
            f"Racing: after each of {n_pairs(config)} pairs of replicates a trial that cannot reach the front is "
            "stopped; the numbers of members and trainings are without that."
        )
        if sweep.tolerance > 0:
            lines.append(
                f"So is one expected to add less than {100 * sweep.tolerance:.3g} % to the front's hypervolume."
            )
    elif obstacle(config) and sweep.racing is not False:
        lines.append(f"No racing: {obstacle(config)}.")
    if sweep.timeout is not None:
        lines.append(f"No trial begins after {duration(seconds_of('sweep.timeout', sweep.timeout) or 0.0)} of work.")
    if sweep.trial_timeout is not None:
        limit = seconds_of("sweep.trial_timeout", sweep.trial_timeout) or 0.0
        lines.append(f"A trial that takes longer than {duration(limit)} ends as failed.")
    if sweep.stop == "no_improvement":
        lines.append(f"The sweep ends when {sweep.patience} trials in a row have not moved the front by 1 %.")
    return lines


def _estimate(configs: Sequence[Config]) -> Estimated:
    process = TrialProcess()
    try:
        answer = process.call(EstimateRequest(tuple(configs)))
    except ProcessDiedError as error:
        message = f"the count ended early: {error}."
        raise ScballastError(message) from error
    except KeyboardInterrupt:
        process.interrupt()
        raise
    finally:
        process.close()
    return served(answer, Estimated)


def _print_work(
    estimated: Estimated,
    members: tuple[int, ...],
    todo: int,
    n_workers: int = 1,
    shares: tuple[float, float] | None = None,
) -> None:
    """Print models and rankings, their time, what reading a large file takes, and whether the memory is enough."""
    new, trainings, known_models = members
    beside = f" The cache holds {known_models} more." if known_models else ""
    print(f"Members to train: {new}, in {trainings} trainings.{beside}")
    # Rankings by baselines do not depend on the model: all trials share them.
    rankings, cached = (max(getattr(work, what) for work in estimated.work) for what in ("rankings", "cached"))
    print(f"Rankings by baselines: {rankings}, of which the cache holds {cached}.")
    print(_time(estimated, todo, n_workers, shares))
    if estimated.reading_seconds:
        known = not math.isnan(estimated.reading_seconds)
        seconds = f"about {duration(estimated.reading_seconds)}" if known else "a time that is not known"
        print(f"Reading: {seconds}, besides; the numbers above and below are told from a sample of the file.")
    needed, there = estimated.memory_bytes / 1e9, estimated.machine_bytes / 1e9
    if estimated.obstacle is not None:
        print(f"Memory: it may not fit. {estimated.obstacle}")
    elif not math.isnan(needed):
        of_all = f", {n_workers} workers at once {needed * n_workers:.1f} GB" if n_workers > 1 else ""
        too_many = " Set sweep.n_workers lower." if n_workers > 1 and needed * n_workers > there else ""
        print(f"Memory: about {needed:.1f} GB{of_all}; there are {there:.1f} GB here.{too_many}")


def _print_warnings(estimated: Estimated) -> None:
    for warning in estimated.warnings:
        sys.stderr.write(f"Warning: {warning}\n")


def _time(estimated: Estimated, todo: int, n_workers: int, shares: tuple[float, float] | None = None) -> str:
    """Say how long it takes; of raced sweeps, by the shares that they train, what to expect and the least."""
    if not todo:
        return "Time: none; everything has finished before."
    rest_of_one = 0.0 if math.isnan(estimated.rest_seconds) else estimated.rest_seconds
    rounds = math.ceil(todo / max(1, min(n_workers, todo)))

    def seconds(share_trained: float) -> float:
        return estimated.baseline_seconds + (estimated.training_seconds * share_trained + rest_of_one) * rounds

    if math.isnan(seconds(1.0)):
        return "Time: not known; no run of this model in this folder has been timed. plan=probe tries a little of it."
    shared = f", {n_workers} workers" if n_workers > 1 else ""
    rest = (
        ", and some seconds per experiment for its statistics and report" if math.isnan(estimated.rest_seconds) else ""
    )
    raced = ""
    if shares is not None:
        usual, least = (duration(seconds(share)) for share in shares)
        raced = f" without racing; with it about {usual}, {least} at least"
    return f"Time: about {duration(seconds(1.0))}{raced}{shared}{rest} (from {estimated.source})."
