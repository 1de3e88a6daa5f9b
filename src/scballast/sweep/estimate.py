"""How much work experiments mean, and how long it would take: counted, and probed by a little of it."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from scballast.config import keys
from scballast.config.schema import Config, config_hash
from scballast.data.dataset import Dataset
from scballast.engine.interface import Member
from scballast.engine.schedule import default_max_epochs
from scballast.experiment.memory import cache_obstacle, machine_memory, memory_need, memory_obstacle
from scballast.experiment.run import model_cache
from scballast.experiment.scoring import ReplicateEvidence, baseline_tasks
from scballast.experiment.setup import Setup
from scballast.experiment.training import known_members, plan_members, train_models
from scballast.methods.cache import ScoreCache
from scballast.progress import progress_bar
from scballast.sweep.messages import Estimated, Work
from scballast.sweep.rates import Rates, stored_rates, usual_rest
from scballast.threads import one_thread


def estimate(configs: Sequence[Config], load: Callable[[Config], Dataset]) -> Estimated:
    """Count the work of every configuration, and tell the time of the first that is not done.

    The time comes from the stored rates of this machine; with ``plan=probe`` from a little of the work itself.

    Parameters
    ----------
    configs
        Checked configurations.
    load
        Returns the data of one.

    Returns
    -------
    Estimated
        The work of each, and the time of one.
    """
    start = time.perf_counter()
    # To know a model by its name takes a digest of all counts: done for one experiment, not for each of a sweep.
    counted = [_count(config, load(config), of_cache=len(configs) == 1) for config in configs]
    work = [
        replace(config_work, finished=_has_finished(c, load(c)))
        for c, (config_work, _) in zip(configs, counted, strict=True)
    ]
    first = next((place for place, config_work in enumerate(work) if not config_work.finished), 0)
    todo, dataset = configs[first], load(configs[first])
    if todo.plan == "probe":
        training, baselines, rest = _probe_training(todo, dataset), _probe_baselines(todo, dataset), math.nan
        source = f"a probe of {time.perf_counter() - start:.0f} s"
    else:
        rates = stored_rates(Path(todo.runs_dir).expanduser().resolve(), todo.model.name)
        setup = Setup.of(todo, dataset)
        usual = rates.or_usual(setup.family.seconds_per_cell)
        baselines, training, rest = _seconds(usual, setup, *counted[first])
        source = f"{rates.n_runs} finished run{'s' * (rates.n_runs != 1)} in {todo.runs_dir}"
        if not rates.n_runs:
            source = "two cores elsewhere, roughly; plan=probe tries a little of it here"
        elif usual != rates:
            source += ", and what is usual on two cores where these tell nothing"
    outline, need, machine = dataset.outline, memory_need(todo, dataset), machine_memory()
    no_cache = None if outline is None else cache_obstacle(todo, outline)
    return Estimated(
        tuple(work),
        training,
        baselines,
        rest,
        source,
        reading_seconds=0.0 if outline is None else outline.seconds,
        memory_bytes=need.total,
        machine_bytes=machine,
        obstacle=no_cache or memory_obstacle(need, machine),
        warnings=tuple(dataset.warnings),
    )


def stage_seconds(config: Config, dataset: Dataset) -> tuple[float, float, float] | None:
    """Return what baselines, training and the rest will take, as they did in finished runs; None: not known.

    Nothing is asked of MLflow: a run goes on where its server gives no answer.
    """
    rates = stored_rates(Path(config.runs_dir).expanduser().resolve(), config.model.name)
    if not rates.n_runs:
        return None
    seconds = _seconds(rates, Setup.of(config, dataset), *_count(config, dataset, of_cache=True))
    return None if any(math.isnan(value) for value in seconds) else seconds


def _seconds(rates: Rates, setup: Setup, work: Work, new: Sequence[Member]) -> tuple[float, float, float]:
    """Return the seconds of baselines, of training these models and of the rest; NaN where not known."""
    missing = (work.rankings - work.cached) / work.rankings if work.rankings else 0.0
    return (
        rates.baselines * len(setup.replicates) * setup.dataset.adata.n_obs * missing if missing else 0.0,
        rates.training * _cell_epochs(setup, new) if new else 0.0,
        rates.rest * usual_rest(setup.dataset.adata.n_obs, len(setup.dataset.populations)),
    )


def _cell_epochs(setup: Setup, members: Iterable[Member]) -> int:
    """Return the cells of models, each as often as it has epochs; models without epochs have one."""
    config = setup.config
    total = 0
    for member in members:
        n_cells = setup.dataset.adata.n_obs if member.cells is None else len(member.cells)
        epochs = (config.train.max_epochs or default_max_epochs(n_cells)) if setup.family.epochs else 1
        total += n_cells * epochs
    return total


def _cache_dir(config: Config) -> Path:
    return Path(config.runs_dir).expanduser().resolve() / "cache"


def _count(config: Config, dataset: Dataset, *, of_cache: bool) -> tuple[Work, list[Member]]:
    """Return the work of an experiment, and the models to train: all, or those that the cache does not hold."""
    setup = Setup.of(config, dataset)
    requests = plan_members(setup) if setup.from_models else {}
    cache = ScoreCache(_cache_dir(config))
    held = [cache.holds(origin) for _, methods in baseline_tasks(setup) for _, origin in methods]
    looks = of_cache and config.cache and dataset.outline is None
    models = model_cache(config, _cache_dir(config)) if looks else None
    known = known_members(setup, models) if requests and models is not None else {}
    new = {role: [m for key, m in members.items() if not known.get(key)] for role, members in requests.items()}
    return Work(
        members=sum(len(members) for members in new.values()),
        trainings=sum(bool(members) for members in new.values()),
        known=sum(known.values()),
        rankings=len(held),
        cached=sum(held),
        finished=False,
    ), [member for members in new.values() for member in members]


def _has_finished(config: Config, dataset: Dataset) -> bool:
    from scballast.tracking import Tracking, TrackingSettings

    if dataset.outline is not None:
        return False  # its digest is not known before it is read
    root = Path(config.runs_dir).expanduser().resolve()
    settings = TrackingSettings(uri=config.tracking.uri, experiment=config.tracking.experiment, runs_dir=root)
    if settings.database is not None and not settings.database.exists():
        return False
    tags = {keys.CONFIG_HASH: config_hash(config), keys.DATASET_DIGEST: dataset.digest}
    return bool(Tracking(settings).find_runs(tags, status="FINISHED"))


def _probe_training(config: Config, dataset: Dataset) -> float:
    """Extrapolate from one and three epochs: what every training costs, and what each epoch adds."""
    setup = Setup.of(config, dataset)
    if not setup.from_models:
        return 0.0
    if not setup.family.epochs:
        return _time_training(setup)
    one_epoch, three_epochs = (
        _time_training(replace(setup, config=replace(config, train=replace(config.train, max_epochs=n))))
        for n in (1, 3)
    )
    per_epoch = max(0.0, (three_epochs - one_epoch) / 2)
    rule = default_max_epochs(round(dataset.adata.n_obs * config.resample.fraction))
    return one_epoch + per_epoch * ((config.train.max_epochs or rule) - 1)


def _time_training(setup: Setup) -> float:
    start = time.perf_counter()
    train_models(setup)
    return time.perf_counter() - start


def _probe_baselines(config: Config, dataset: Dataset) -> float:
    """Time one ranking of each method of which the cache lacks one, and keep none."""
    setup, cache = Setup.of(config, dataset), ScoreCache(_cache_dir(config))
    tasks = [
        (ReplicateEvidence(setup, replicate), [method for method, origin in methods if not cache.holds(origin)])
        for replicate, methods in baseline_tasks(setup)
    ]
    number = Counter(method.name for _, methods in tasks for method in methods)
    seconds: dict[str, float] = {}
    with progress_bar("scoring baselines", number.total(), unit="rankings"), one_thread():
        for evidence, methods in tasks:
            for method in methods:
                if method.name not in seconds:
                    start = time.perf_counter()
                    method.score(evidence)
                    seconds[method.name] = time.perf_counter() - start
    return sum(seconds[name] * n for name, n in number.items())
