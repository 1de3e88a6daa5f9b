"""One experiment from counts to tables: read it from top to bottom and see all of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scballast.config import keys
from scballast.config.addresses import params_of, without_passwords
from scballast.config.schema import Config, config_hash, to_nested
from scballast.data import load_dataset
from scballast.data.counts_cache import CountsCache
from scballast.data.dataset import Dataset, GeneChoice
from scballast.data.outline import Outline
from scballast.data.simulate import Truth
from scballast.engine.member_cache import MemberCache
from scballast.errors import ConfigError, noticed_before
from scballast.experiment.circularity import circular_warnings, circularity_table, thin_dataset
from scballast.experiment.confirming import cells_of, undertrained_methods
from scballast.experiment.first_answer import OnFirstAnswer, tell_first_answer
from scballast.experiment.gene_lists import gene_list_tables
from scballast.experiment.gene_sets import enrichment_table, read_gmt
from scballast.experiment.gene_table import genes_table, with_symbols
from scballast.experiment.heldout_fit import fit_table
from scballast.experiment.hotspot_modules import METHOD as HOTSPOT
from scballast.experiment.hotspot_modules import hotspot_modules_table
from scballast.experiment.kept import Kept
from scballast.experiment.latent import grouping, latent_tables
from scballast.experiment.marker_effects import marker_effects_table
from scballast.experiment.memory import cache_obstacle, check_fits, expected_need, memory_need
from scballast.experiment.metrics import collect_metrics, logged_metrics, mean_history
from scballast.experiment.minimal_sets import CANDIDATES_FROM, minimal_sets_table
from scballast.experiment.program_models import program_models_table
from scballast.experiment.scoring import baseline_scores, model_scores, score_set_of
from scballast.experiment.setup import Setup, replicates_of
from scballast.experiment.subsamples import subsamples_table
from scballast.experiment.training import TrainedModels, train_models
from scballast.methods.cache import ScoreCache
from scballast.methods.plan import left_out, plan_methods
from scballast.methods.pseudobulk import FEWEST_SAMPLES
from scballast.models import FAMILIES
from scballast.results import Results
from scballast.threads import one_thread
from scballast.verdict.answer import answer_table
from scballast.verdict.caveats import caveats, caveats_table
from scballast.verdict.confirmation import Confirmation, confirm
from scballast.verdict.score_set import ScoreSet, rankings_table
from scballast.verdict.tables import concordance_table, consensus_table, differences_table, stability_table
from scballast.verdict.truth import truth_table

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Experiment:
    """An experiment's results, and the models behind them while they are still in memory."""

    results: Results
    models: TrainedModels | None

    def first_model(self) -> Any:
        """Return the scvi-tools model of the first replicate that has one, or None."""
        trained = self.models.global_models() if self.models else []
        if not trained or not FAMILIES[self.results.config["model"]["name"]].likelihood:
            return None
        return trained[0][0].export(trained[0][1])


def prepare_dataset(config: Config, also: GeneChoice | None = None, *, outlined: bool = False) -> Dataset:
    """Load and check the data, and check the configuration against them.

    Parameters
    ----------
    config
        The whole configuration.
    also
        Chooses genes that are kept beside the analysed ones (``data.load_dataset``).
    outlined
        Of a large file read a sample alone, to plan with (``Dataset.outline``).

    Raises
    ------
    DataError, ConfigError
        What is wrong, where, and what to do.
    """
    check_without_data(config)
    dataset = load_dataset(
        config.data,
        seed=config.seed,
        obs_keys=config.association.keys,
        also=also,
        outlined=outlined,
        on_outline=None if outlined else partial(_check_outline, config),
        cache=counts_cache(config),
    )
    with noticed_before(dataset.warnings):
        check_against_data(config, dataset)
        if not outlined:
            check_fits(memory_need(config, dataset))
    return dataset


def _check_outline(config: Config, outline: Outline) -> None:
    obstacle = cache_obstacle(config, outline)
    if obstacle is not None:
        raise ConfigError(obstacle)
    check_fits(expected_need(config, outline))


def run_experiment(
    config: Config,
    dataset: Dataset,
    *,
    cache_dir: Path | None,
    on_first_answer: OnFirstAnswer | None = None,
    kept: Kept | None = None,
) -> Experiment:
    """Draw replicates, train, score, evaluate.

    Parameters
    ----------
    config
        The whole configuration.
    dataset
        From :func:`prepare_dataset`.
    cache_dir
        Folder of trained models, and of scores that do not depend on them, shared by all experiments; None: no
        cache.
    on_first_answer
        Called with ``answer`` and ``answer_genes`` of the methods that look at cells alone, before models are trained;
        not called where none are.
    kept
        Of earlier experiments on the same data, what no model decides; this one's is kept there.
    """
    cache, seconds = ScoreCache(cache_dir), dict[str, float]()
    tables: dict[str, pd.DataFrame] = {}
    circular: tuple[str, ...] = ()
    if config.resample.kind == "thin":
        with _timed(seconds, "circularity"):
            thinned = thin_dataset(dataset, config.seed)
            tables["circularity"] = circularity_table(config, thinned)
            circular, dataset = circular_warnings(tables["circularity"]), thinned.again
    setup, kept = Setup.of(config, dataset), kept or Kept()
    gene_sets = read_gmt(config.programs.gene_sets) if config.programs.find and config.programs.gene_sets else None
    for name, obstacle in left_out(config, has_samples=dataset.sample_key is not None).items():
        logger.info("%s is left out: %s.", name, obstacle)
    with _timed(seconds, "baselines"):
        scores = baseline_scores(setup, cache)
    cells, tested, ranked = cells_of(setup), {}, kept.ranked(setup)
    models: TrainedModels | None = None
    if setup.from_models:
        if on_first_answer is not None:
            with _timed(seconds, "first_answer"), one_thread():
                ranked = score_set_of(replace(setup, methods=tuple(setup.from_cells)), scores, ranked)
                tested = tell_first_answer(setup, ranked, cells, on_first_answer)
        with _timed(seconds, "training"):
            models = train_models(setup, model_cache(config, cache_dir))
        with _timed(seconds, "rankings"), one_thread():
            scores.update(model_scores(setup, models))
        with _timed(seconds, "fit"):
            tables["fit"] = fit_table(setup, models)
        with _timed(seconds, "latent"):
            tables.update(latent_tables(setup, models))
            if HOTSPOT in scores:
                tables["hotspot_modules"] = hotspot_modules_table(setup, models)
        tables["training"] = models.table
    undertrained = undertrained_methods(setup, tables.get("training"))
    if config.programs.find:
        with _timed(seconds, "programs"):
            tables.update(kept.programs(setup))
            if models is not None:
                tables["program_models"] = program_models_table(setup, models, tables["program_activity"])
    with _timed(seconds, "confirmation"), one_thread():
        score_set, top_k = score_set_of(setup, scores, ranked), config.rank.top_k
        tested = {**kept.p_values(setup, scores), **tested}
        confirmation = confirm(score_set, cells, setup.replicates, top_k, seed=config.seed, known=tested)
        kept.keep_p_values(setup, scores, confirmation.p_values)
    with _timed(seconds, "statistics"), one_thread():
        tables.update(statistics_tables(score_set, confirmation, top_k, dataset.truth, undertrained))
        kept.keep_ranked(setup, score_set)
        tables.update(gene_list_tables(setup, cells, tables))
        tables["marker_effects"] = marker_effects_table(setup)
        if CANDIDATES_FROM in scores:
            tables["minimal_sets"] = minimal_sets_table(setup, scores)
    if gene_sets is not None:
        tables["program_enrichment"] = enrichment_table(tables, dataset, gene_sets)
    tables["populations"] = populations_table(dataset)
    tables["subsamples"] = subsamples_table(setup)
    tables = with_symbols({**tables, "genes": genes_table(dataset)}, dataset)
    known = caveats(tables, to_nested(config), (*circular, *dataset.warnings))
    tables["caveats"] = caveats_table(known)
    warnings = tuple(caveat.text for caveat in known if caveat.warned)
    for warning in warnings:
        logger.warning("Warning: %s", warning)
    cached = {"cache/hits": float(cache.hits), "cache/misses": float(cache.misses)}
    results = Results(
        tables=tables,
        metrics=logged_metrics({**collect_metrics(tables, config, seconds), **cached}, config),
        history=mean_history(models),
        config=to_nested(without_passwords(config)),
        params=params_of(config),
        tags=_tags(setup),
        warnings=warnings,
    )
    return Experiment(results, models)


def counts_cache(config: Config) -> CountsCache | None:
    """Return the cache of analysed counts under the folder of the runs; None with ``cache=false``."""
    folder = Path(config.runs_dir).expanduser().resolve() / "cache" / "counts"
    on_disk = config.train.data == "stream"
    return CountsCache(folder, int(config.cache_gib * 2**30), is_disk=on_disk) if config.cache else None


def model_cache(config: Config, cache_dir: Path | None) -> MemberCache | None:
    """Return the cache of trained models in the folder of cached scores."""
    return None if cache_dir is None else MemberCache(cache_dir / "models", int(config.cache_gib * 2**30))


def statistics_tables(
    score_set: ScoreSet,
    confirmation: Confirmation,
    top_k: int,
    truth: Truth | None = None,
    undertrained: Collection[tuple[str, str]] = (),
) -> dict[str, pd.DataFrame]:
    """Return every table that follows from the scores and their confirmation."""
    stability = stability_table(score_set, top_k)
    concordance = concordance_table(score_set, top_k)
    against_truth = {} if truth is None else {"truth": truth_table(score_set, truth, top_k)}
    return {
        "rankings": rankings_table(score_set),
        "stability": stability,
        "concordance": concordance,
        "consensus": consensus_table(score_set, top_k, confirmation.q_values),
        "differences": differences_table(score_set, top_k),
        "confirmation": confirmation.summary,
        "confirmation_genes": confirmation.genes,
        "answer": answer_table(
            stability,
            concordance,
            confirmation.summary,
            against_truth.get("truth"),
            top_k=top_k,
            undertrained=undertrained,
        ),
        **against_truth,
    }


def check_without_data(config: Config) -> None:
    """Check what is known before the data are read, but not to the configuration alone: device and methods.

    Raises
    ------
    ConfigError
        The device is not there, or a method is unknown or cannot run with the model.
    """
    plan_methods(config, has_samples=True)
    if config.device in ("cuda", "mps"):  # the others are there always, and torch takes seconds to load
        from scballast.engine.ensemble import choose_device

        choose_device(config.device)
    if config.train.data == "stream":
        from scballast.engine.ensemble import check_streamed

        check_streamed(config.device)
    if config.programs.gene_sets is not None:
        read_gmt(config.programs.gene_sets)


def check_against_data(config: Config, dataset: Dataset) -> None:
    """Check what can only be checked with the data at hand.

    Raises
    ------
    ConfigError
        The selection is as large as the genes, the latent space as large as genes or cells, a method asked
        for by name needs samples that are not there, or an association key is no grouping.
    DataError
        Resampling by donor with one donor.
    """
    n_genes = dataset.adata.n_vars
    if config.rank.top_k >= n_genes:
        message = (
            f"rank.top_k: {config.rank.top_k} is not below the number of genes, {n_genes}, so every gene would "
            f"be selected. Allowed: 1 to {n_genes - 1}."
        )
        raise ConfigError(message)
    plan_methods(config, has_samples=dataset.sample_key is not None)
    n_samples = 0 if dataset.sample_key is None else dataset.adata.obs[dataset.sample_key].nunique()
    if "pseudobulk" in (config.methods or ()) and n_samples < FEWEST_SAMPLES:
        message = (
            f"methods: 'pseudobulk' cannot run: it needs {FEWEST_SAMPLES} samples or more, and "
            f"obs[{dataset.sample_key!r}] has {n_samples}. Leave it out of methods, or name another data.sample_key."
        )
        raise ConfigError(message)
    if config.resample.kind == "donor" and dataset.sample_key is None:
        simulated = " or, for simulated data, raise data.simulation.n_donors" if dataset.truth is not None else ""
        message = f"resample.kind: donor needs samples: set data.sample_key to their obs column{simulated}."
        raise ConfigError(message)
    n_cells = min(replicate.cells.size for replicate in replicates_of(config, dataset))
    limit = min(n_genes, n_cells)
    if limit < 2:
        message = (
            f"resample.fraction: {config.resample.fraction} of {dataset.adata.n_obs} cells leaves {n_cells} in the "
            "smallest replicate. Raise it; at most 0.5."
        )
        raise ConfigError(message)
    if config.model.n_latent >= limit:
        message = (
            f"model.n_latent: {config.model.n_latent} is not below {limit}, the smaller of the genes ({n_genes}) "
            f"and the cells of the smallest replicate ({n_cells}). Allowed: 1 to {limit - 1}."
        )
        raise ConfigError(message)
    for key in config.association.keys:
        grouping(dataset, key)


def populations_table(dataset: Dataset) -> pd.DataFrame:
    """Return every label with its cells, and the name that metrics have of those that are ranked."""
    ranked = {population.name: population for population in dataset.populations}
    counts = np.bincount(dataset.label_codes[dataset.label_codes >= 0], minlength=len(dataset.labels))
    rows = [
        (label, ranked[label].safe_name if label in ranked else "", int(count), label in ranked)
        for label, count in zip(dataset.labels, counts, strict=True)
    ]
    return pd.DataFrame(rows, columns=["population", "safe_name", "n_cells", "ranked"])


def _tags(setup: Setup) -> dict[str, str]:
    config, dataset = setup.config, setup.dataset
    packages = ("scballast", "scvi-tools", "torch", "anndata", "scanpy", "numpy", "mlflow", "optuna")
    return {
        keys.CONFIG_HASH: config_hash(config),
        keys.DATASET: dataset.name,
        keys.DATASET_DIGEST: dataset.digest,
        keys.DEVICE: _device_name(setup),
        keys.RESAMPLE_KIND: config.resample.kind,
        keys.VERSIONS: ", ".join(f"{package} {version(package)}" for package in packages),
        **_source_commit(),
    }


def _source_commit() -> dict[str, str]:
    """Return the commit of the source tree that runs, where it is a git checkout, under MLflow's own name."""
    import subprocess

    folder = Path(__file__).parents[3]
    if not (folder / ".git").exists():
        return {}
    try:
        command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty"]
        described = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError) as error:
        logger.info("The commit of the source is not known: %s.", error)
        return {}
    return {"mlflow.source.git.commit": described.stdout.strip()}


def _device_name(setup: Setup) -> str:
    """Return where models are trained; those without epochs are fitted on the CPU, and torch is not needed."""
    device = setup.config.device
    if device == "cpu" or not (setup.family.epochs or any("scvi" in method.roles for method in setup.methods)):
        return "cpu"
    import torch

    if device in ("auto", "cuda") and torch.cuda.is_available():
        return f"cuda ({torch.cuda.get_device_name()})"
    return "cpu" if device == "auto" else device


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Note the wall time of a stage."""
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start
