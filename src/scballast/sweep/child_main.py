"""What runs in a trial's process: requests in, answers out."""

from __future__ import annotations

import logging.config
import math
import os
import shutil
import signal
import threading
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scballast.config import keys
from scballast.config.schema import Config, DataConfig, config_hash
from scballast.errors import ConfigError, ScballastError, memory_errors
from scballast.sweep import messages
from scballast.threads import seek_garbage_seldom

if TYPE_CHECKING:
    from scballast.data.dataset import Dataset
    from scballast.tracking import StoredRun, Tracking

logger = logging.getLogger(__name__)


@dataclass
class _Loaded:
    """The data set of the last request: the next trial most often wants the same."""

    key: tuple[DataConfig, int, bool] | None = None
    dataset: Dataset | None = None

    def get(self, config: Config) -> Dataset:
        from scballast.experiment.run import check_against_data, prepare_dataset

        # A plan does not read a large file; a probe does.
        key = (config.data, config.seed, config.plan is True)
        if self.key != key or self.dataset is None:
            self.dataset, self.key = prepare_dataset(config, outlined=config.plan is True), key
        else:
            check_against_data(config, self.dataset)
        return self.dataset


def main(connection: int, lifeline: int) -> None:
    """Answer requests until the worker closes the connection or is gone."""
    seek_garbage_seldom()
    threading.Thread(target=_end_with_worker, args=(lifeline,), daemon=True).start()
    # Not before the first request: an interrupt while modules load would show its traceback.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    pipe = Connection(connection)
    loaded = _Loaded()
    while True:
        try:
            request: messages.Request = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            answer = _answer(request, loaded)
        except KeyboardInterrupt:
            answer = messages.Interrupted()
        except ScballastError as error:
            answer = messages.Failed(str(error), "config" if isinstance(error, ConfigError) else "data")
        except BaseException as error:
            kind = "memory" if isinstance(error, MemoryError) else "error"
            answer = messages.Failed(f"{type(error).__name__}: {error}", kind, traceback.format_exc())
        pipe.send(answer)
        if isinstance(request, messages.DescribeRequest) and request.trains and isinstance(answer, messages.Described):
            try:
                _load_libraries(request.config)
            except KeyboardInterrupt:
                return


def _load_libraries(config: Config) -> None:
    """Import what training needs while the worker prepares the study."""
    from scballast.models import FAMILIES

    if FAMILIES[config.model.name].epochs:  # by scvi-tools, or as it does
        # What cannot be loaded, for whatever reason, is the first trial's to report.
        with suppress(Exception):
            import scvi  # noqa: F401


def _end_with_worker(lifeline: int) -> None:
    os.read(lifeline, 1)
    # Nobody waits for this trial any more; its run is ended by whoever finds its process gone.
    os._exit(1)


def _answer(request: messages.Request, loaded: _Loaded) -> messages.Answer:
    match request:
        case messages.DescribeRequest():
            return _describe(request.config, loaded)
        case messages.EstimateRequest():
            from scballast.sweep.estimate import estimate

            return estimate(request.configs, loaded.get)
        case messages.TrainRequest():
            return _train(request, loaded)
        case messages.PairRequest():
            _log_as(request.logging)
            return _pair(request, loaded)
        case messages.TrialRequest():
            _log_as(request.logging)
            return _run(request.config, loaded, request.place)


def _log_as(settings: Mapping[str, Any]) -> None:
    if settings:
        logging.config.dictConfig(dict(settings))


def _train(request: messages.TrainRequest, loaded: _Loaded) -> messages.Trained:
    from scballast.experiment.pairs import pair_setup
    from scballast.experiment.run import model_cache
    from scballast.experiment.setup import Setup
    from scballast.experiment.training import train_ahead
    from scballast.sweep.trial import cache_dir, open_tracking

    first = request.configs[0]
    cache = model_cache(first, cache_dir(first))
    assert cache is not None
    setups = []
    for config in request.configs:
        if (config.data, config.seed, config.device) != (first.data, first.seed, first.device):
            continue  # other cells: trained with their own trial
        dataset = loaded.get(config)
        if _finished_before(config, dataset, open_tracking(config)) is not None:
            continue
        wanted = [objective.metric for objective in config.objectives]
        setups.append(pair_setup(config, dataset, 0, wanted) if request.raced else Setup.of(config, dataset))
    with memory_errors():
        train_ahead(setups, cache)
    return messages.Trained()


def _pair(request: messages.PairRequest, loaded: _Loaded) -> messages.PairDone | messages.TrialDone:
    from scballast.experiment.pairs import pair_metrics
    from scballast.sweep.trial import cache_dir, open_tracking

    config, dataset = request.config, loaded.get(request.config)
    if request.pair == 0:
        tracking = open_tracking(config)
        original = _finished_before(config, dataset, tracking)
        if original is not None:
            return _reuse(config, request.place, tracking, *original)
    wanted = [objective.metric for objective in config.objectives]
    with memory_errors():
        return messages.PairDone(pair_metrics(config, dataset, request.pair, wanted, cache_dir=cache_dir(config)))


def _describe(config: Config, loaded: _Loaded) -> messages.Described:
    from scballast.methods.plan import plan_methods

    dataset = loaded.get(config)
    methods = plan_methods(config, has_samples=dataset.sample_key is not None)
    return messages.Described(
        name=dataset.name,
        digest=dataset.digest,
        populations=tuple(population.safe_name for population in dataset.populations),
        methods=tuple(method.name for method in methods),
    )


def _run(config: Config, loaded: _Loaded, place: messages.SweepPlace) -> messages.TrialDone:
    from scballast.sweep.trial import open_tracking, run_trial

    dataset = loaded.get(config)
    tracking = open_tracking(config)
    original = _finished_before(config, dataset, tracking)
    if original is not None:
        return _reuse(config, place, tracking, *original)
    outcome = run_trial(config, place=place, prepared=tracking, dataset=dataset)
    metrics = {name: v for name, v in outcome.experiment.results.metrics.items() if math.isfinite(v)}
    return messages.TrialDone(outcome.run_id, str(outcome.folder), metrics)


def _finished_before(config: Config, dataset: Dataset, tracking: Tracking) -> tuple[StoredRun, Path] | None:
    """Return the run of the same configuration on the same data, and its folder, if both are there."""
    from scballast.results import is_complete
    from scballast.sweep.trial import runs_dir

    tags = {keys.CONFIG_HASH: config_hash(config), keys.DATASET_DIGEST: dataset.digest}
    try:
        runs = tracking.find_runs(tags, status="FINISHED")
    except ScballastError as error:
        logger.warning("Finished configurations cannot be looked up, so this one is computed: %s", error)
        return None
    for run in runs:
        folder = runs_dir(config) / "results" / run.name
        if is_complete(folder) and keys.DUPLICATE_OF not in run.tags:
            return run, folder
    return None


def _reuse(
    config: Config, place: messages.SweepPlace, tracking: Tracking, original: StoredRun, folder: Path
) -> messages.TrialDone:
    """Publish a finished run's results as this trial's: nothing is computed, and no file takes space twice."""
    import json

    from scballast.config.addresses import params_of
    from scballast.results import MARKER, link_or_copy, result_folder
    from scballast.sweep.trial import run_name, trial_tags
    from scballast.tracking.publish import PUBLISHED_MARKER

    name = run_name(config, original.tags.get(keys.DATASET, "data"), place)
    tags = {**trial_tags(config, original.tags.get(keys.DATASET, ""), place), keys.DUPLICATE_OF: original.run_id}
    target = folder.with_name(name)
    run_id = tracking.start_run(name, params_of(config), tags, parent_run_id=place.parent_run_id, folder=target)
    try:
        with result_folder(target) as partial:
            shutil.copytree(folder, partial, copy_function=link_or_copy, dirs_exist_ok=True)
            for original_file in (MARKER, PUBLISHED_MARKER, "tags.json"):
                (partial / original_file).unlink(missing_ok=True)
            stored = json.loads((folder / "tags.json").read_text(encoding="utf-8"))
            (partial / "tags.json").write_text(json.dumps({**stored, **tags}, ensure_ascii=False), encoding="utf-8")
        tracking.publish(run_id, target)
    except BaseException as error:
        tracking.fail_run(run_id, f"{type(error).__name__}: {error}", traceback.format_exc())
        raise
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return messages.TrialDone(run_id, str(target), metrics, duplicate_of=original.run_id)
