"""What a trial's process answers to each request."""

from __future__ import annotations

import json
import logging.config
import math
import shutil
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from scballast.config import keys
from scballast.config.addresses import params_of
from scballast.config.schema import Config, DataConfig, config_hash
from scballast.data.dataset import Dataset
from scballast.errors import ScballastError, memory_errors
from scballast.experiment.kept import Kept
from scballast.experiment.pairs import pair_setup, setup_objectives
from scballast.experiment.run import check_against_data, model_cache, prepare_dataset
from scballast.experiment.setup import Setup
from scballast.experiment.training import train_ahead
from scballast.methods.plan import plan_methods
from scballast.results import MARKER, is_complete, link_or_copy, result_folder
from scballast.sweep import messages
from scballast.sweep.estimate import estimate
from scballast.sweep.pages import add_page
from scballast.sweep.trial import cache_dir, open_tracking, run_name, run_trial, runs_dir, trial_tags
from scballast.tracking import StoredRun, Tracking
from scballast.tracking.publish import PUBLISHED_MARKER

logger = logging.getLogger(__name__)


@dataclass
class Answers:
    """Answers requests; keeps the data set of the last one, for the next trial most often wants the same."""

    _key: tuple[DataConfig, int, bool] | None = None
    _dataset: Dataset | None = None
    _kept: Kept = field(default_factory=Kept)

    def load(self, config: Config) -> Dataset:
        """Return the data of a configuration, which is checked against them."""
        # A plan does not read a large file; a probe does.
        key = (config.data, config.seed, config.plan is True)
        if self._key != key or self._dataset is None:
            self._dataset, self._key = prepare_dataset(config, outlined=config.plan is True), key
            self._kept = Kept()
        else:
            check_against_data(config, self._dataset)
        return self._dataset

    def __call__(self, request: messages.Request) -> messages.Answer:
        """Answer a request; what it cannot be answered for is raised."""
        match request:
            case messages.DescribeRequest():
                return _describe(request.config, self.load(request.config))
            case messages.EstimateRequest():
                return estimate(request.configs, self.load)
            case messages.TrainRequest():
                return self._train(request)
            case messages.TrialRequest():
                if request.logging:
                    logging.config.dictConfig(dict(request.logging))
                return _run(request, self.load(request.config), self._kept)
            case messages.DrawRequest():
                add_page(Path(request.folder), n_processes=request.n_processes)
                return messages.Drawn()

    def _train(self, request: messages.TrainRequest) -> messages.Trained:
        first = request.configs[0]
        cache = model_cache(first, cache_dir(first))
        assert cache is not None
        setups = []
        for config in request.configs:
            if (config.data, config.seed, config.device) != (first.data, first.seed, first.device):
                continue  # other cells: trained with their own trial
            dataset = self.load(config)
            if _finished_before(config, dataset, open_tracking(config)) is None:
                setups.append(pair_setup(config, dataset, 0) if request.raced else Setup.of(config, dataset))
        with memory_errors():
            train_ahead(setups, cache)
        return messages.Trained()


def _describe(config: Config, dataset: Dataset) -> messages.Described:
    methods = plan_methods(config, has_samples=dataset.sample_key is not None)
    return messages.Described(dataset.name, dataset.digest, tuple(method.name for method in methods))


def _run(request: messages.TrialRequest, dataset: Dataset, kept: Kept) -> messages.TrialDone | messages.PairDone:
    config, place, tracking = request.config, request.place, open_tracking(request.config)
    # Of the pairs of a trial the first asks for all.
    original = None if request.pair else _finished_before(config, dataset, tracking)
    if original is not None:
        return _reuse(config, place, tracking, *original)
    if request.pair is not None:
        with memory_errors():
            pair = pair_setup(config, dataset, request.pair)
            return messages.PairDone(setup_objectives(pair, cache_dir=cache_dir(config)))
    outcome = run_trial(config, place=place, prepared=tracking, dataset=dataset, kept=kept)
    metrics = {name: v for name, v in outcome.experiment.results.metrics.items() if math.isfinite(v)}
    return messages.TrialDone(outcome.run_id, str(outcome.folder), metrics)


def _finished_before(config: Config, dataset: Dataset, tracking: Tracking) -> tuple[StoredRun, Path] | None:
    """Return the run of the same configuration on the same data, and its folder, if both are there."""
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
