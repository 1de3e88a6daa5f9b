"""The configuration: every key, its type, its allowed values; checked once, before any data is read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from scballast.config.duration import seconds_of
from scballast.config.simulation import SimulationConfig
from scballast.config.values import build, key_field, one_of, shown, unknown_key
from scballast.errors import ConfigError


def _obs_column(about: str) -> Any:
    """Return the field of a key that names an obs column; null: there is none."""
    return key_field(None, f"obs column with {about}", names="obs column")


@dataclass(frozen=True)
class DataConfig:
    """Which cells: the file, the columns, the genes."""

    kind: str = one_of("set by the group: embedded, file or simulated", "embedded", "file", "simulated")
    name: str | None = key_field(None, "name in the UI; null: the file's")
    path: str | None = key_field(None, "your counts: .h5ad, .zarr, 10x .h5 or a matrix folder", names="file of counts")
    labels: str | None = key_field(None, "a .csv or .tsv of labels, cell names first", names="table of labels")
    layer: str | None = key_field(None, "layer that holds the raw counts; null: X; raw: .raw")
    population_key: str | None = _obs_column("the populations (cell types)")
    batch_key: str | None = _obs_column("the experimental batch; the model is conditioned on it")
    sample_key: str | None = _obs_column("the sample or donor: pseudobulk, resample.kind=donor, permutations")
    condition_key: str | None = _obs_column("two conditions: ranks the genes that respond within populations")
    condition_reference: str | None = key_field(
        None, "the condition that the other is compared with; null: the one named like a control"
    )
    gene_symbols: str | None = key_field(
        None, "var column with the gene symbols; null: found by itself; none: no symbols"
    )
    unlabelled: str = one_of("cells without a population stay in the global model, or are dropped", "keep", "drop")
    duplicates: str = one_of("cells with exactly the counts of another one are left out, or kept", "drop", "keep")
    round: bool = key_field(default=False, about="round counts that are nearly whole")
    n_top_genes: int | None = key_field(2000, "most variable genes that are analysed; null: all", minimum=2)
    min_cells: int = key_field(20, "smaller populations are not ranked", minimum=2)
    simulation: SimulationConfig = field(default_factory=SimulationConfig)


@dataclass(frozen=True)
class ModelConfig:
    """Which model; field names are scvi-tools'."""

    name: str = key_field("ldvae", "set by the group model=…")
    n_latent: int = key_field(20, "latent dimensions", minimum=1)
    gene_likelihood: str = one_of("distribution of a count", "nb", "zinb", "poisson")
    latent_distribution: str = one_of("normal, or ln: on the simplex", "normal", "ln")
    n_hidden: int = key_field(128, "units of a hidden layer", minimum=1)
    n_layers: int = key_field(1, "hidden layers of the encoder", minimum=1)
    dropout_rate: float = key_field(0.1, "dropout of the encoder", minimum=0.0, below=1.0)
    dispersion: str = one_of("one dispersion per gene, or per gene and batch", "gene", "gene-batch")
    use_observed_lib_size: bool = key_field(default=False, about="take a cell's total as its library size, or model it")
    n_runs: int = key_field(100, "runs of NMF behind a consensus; cnmf only", minimum=2, family="cnmf")


FAMILY_KEYS = {key.name: key.metadata["family"] for key in fields(ModelConfig) if "family" in key.metadata}
"""The families that have keys of ``model`` for themselves, by the keys' names."""


@dataclass(frozen=True)
class TrainConfig:
    """How models are trained; field names are scvi-tools' where it has one."""

    engine: str = one_of("all models at once, or scvi-tools' trainer one after another", "ensemble", "scvi")
    data: str = one_of("counts in memory, or left on disk and read once per epoch for all models", "memory", "stream")
    max_epochs: int | None = key_field(None, "epochs; null: scvi-tools' rule for the number of cells", minimum=1)
    batch_size: int = key_field(128, "cells of a minibatch", minimum=2)
    lr: float = key_field(2e-3, "learning rate", above=0.0)
    weight_decay: float = key_field(1e-6, "L2 penalty of the optimiser", minimum=0.0)
    train_size: float = key_field(0.9, "share of the cells that is trained on", above=0.0, maximum=1.0)
    kl_warmup_epochs: int | float | None = key_field(
        0.25, "an integer: epochs; a fraction: share of the epochs; null: none", minimum=0
    )
    early_stopping: bool = key_field(default=False, about="stop when the validation loss no longer falls")
    early_stopping_patience: int = key_field(45, "epochs to wait for it", minimum=1)


@dataclass(frozen=True)
class ResampleConfig:
    """How replicates are drawn."""

    kind: str = one_of(
        "disjoint halves, same cells, with replacement, halves of the samples, or thinned counts",
        *("subsample", "seed", "bootstrap", "donor", "thin"),
    )
    n_replicates: int = key_field(10, "data sets drawn; fewer than 3 give no interval", minimum=1)
    fraction: float = key_field(0.5, "share of the cells in each", above=0.0, maximum=1.0)


@dataclass(frozen=True)
class RankConfig:
    """How scores become rankings and selections."""

    top_k: int = key_field(50, "genes in a list", minimum=1)
    local_ridge: float = key_field(1000.0, "penalty of `local`, in cells", minimum=0.0)
    n_components: int | None = key_field(None, "components of within_pca and residual_pca", minimum=1)
    de_mode: str = one_of("mode of scvi-tools' differential_expression", "change", "vanilla")


@dataclass(frozen=True)
class GenesConfig:
    """What is shown of the genes that were found."""

    exclude: tuple[str, ...] = key_field((), "classes of genes left out of the answers' genes")


@dataclass(frozen=True)
class FitConfig:
    """How held-out fit is measured; 0 samples leave it out."""

    n_mc_samples: int = key_field(64, "draws per cell of the held-out likelihood; 0: leave it out", minimum=0)
    max_cells: int = key_field(2000, "held-out cells evaluated per replicate", minimum=1)


@dataclass(frozen=True)
class AssociationConfig:
    """Which obs columns the latent dimensions are compared with (the populations always are)."""

    keys: tuple[str, ...] = key_field((), "further obs columns to compare latent dimensions with")
    n_permutations: int = key_field(999, "permutations of their test; 0: leave it out", minimum=0)
    region_de: bool = key_field(default=False, about="differential expression of the axes' extremes")


@dataclass(frozen=True)
class ProgramsConfig:
    """Sets of co-expressed genes within populations."""

    find: bool = key_field(default=True, about="gather the program genes of each population into programs")
    gene_sets: str | None = key_field(None, "a .gmt file of gene sets to compare the programs with")


@dataclass(frozen=True)
class BaselinesConfig:
    """The methods beside the model's own."""

    methods: tuple[str, ...] = key_field((), "methods beside the model's own; set by the group baselines=fast|full")


@dataclass(frozen=True)
class TrackingConfig:
    """Where results are logged; without an address, SQLite under ``runs_dir``."""

    uri: str | None = key_field(None, "address of an MLflow server; null: SQLite under runs_dir")
    experiment: str = key_field("scballast", "name of the MLflow experiment")
    population_metrics: bool = key_field(default=False, about="log metrics of populations, pairs and controls too")


@dataclass(frozen=True)
class SweepConfig:
    """How a sweep runs (``scballast -m``)."""

    kind: str = one_of("set by the group sweep=grid|optuna", "grid", "optuna")
    name: str | None = key_field(None, "a named sweep can be resumed; null: from data set and date")
    n_trials: int = key_field(20, "trials of a tuned sweep", minimum=1)
    sampler: str = one_of("Optuna's sampler", "tpe", "nsgaii", "nsgaiii", "gp", "random", "qmc", "grid")
    sampler_kwargs: Mapping[str, Any] = key_field(dict, "its arguments")
    storage: str | None = key_field(None, "null: SQLite under runs_dir; postgresql://…; journal:FILE")
    max_failures: int = key_field(5, "failures in a row that stop a sweep", minimum=1)
    n_workers: int | None = key_field(None, "processes that share the trials", minimum=1)
    timeout: str | int | float | None = key_field(None, "no trial begins after so long, as 2h or 30min")
    trial_timeout: str | int | float | None = key_field(None, "a trial that takes longer ends as failed")
    stop: str = one_of("no_improvement: end when trials no longer move the front", "never", "no_improvement")
    patience: int = key_field(10, "so many trials in a row that do not", minimum=1)
    racing: bool | None = key_field(None, "stop trials that cannot move the front")
    tolerance: float = key_field(
        0.01, "of racing: stop trials expected to add less than this share to the front's volume", minimum=0, below=1.0
    )
    fused: int = key_field(1, "trials of a worker whose models are trained together", minimum=1)
    confirm: bool = key_field(
        default=False, about="run the chosen configuration once more with another seed, beside its own values"
    )
    reports: str = one_of(
        "trials whose report is drawn: of the Pareto front, at the end; or all, each at once", "front", "all"
    )
    search_space: Mapping[str, Any] | None = key_field(dict, "what is searched, in Hydra's sweep syntax")


@dataclass(frozen=True)
class Objective:
    """A logged metric and the direction in which it gets better."""

    metric: str = "confirmed/contrast"
    direction: str = one_of("where it gets better", "maximize", "minimize")


DEFAULT_OBJECTIVES = (Objective("confirmed/contrast", "maximize"), Objective("confirmed/local", "maximize"))


@dataclass(frozen=True)
class Config:
    """One experiment, whole."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    resample: ResampleConfig = field(default_factory=ResampleConfig)
    baselines: BaselinesConfig = field(default_factory=BaselinesConfig)
    rank: RankConfig = field(default_factory=RankConfig)
    genes: GenesConfig = field(default_factory=GenesConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    association: AssociationConfig = field(default_factory=AssociationConfig)
    programs: ProgramsConfig = field(default_factory=ProgramsConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    objectives: tuple[Objective, ...] = key_field(DEFAULT_OBJECTIVES, "logged metrics to tune, each with its direction")
    methods: tuple[str, ...] | None = key_field(None, "the methods to run, by name; null: all that apply")
    seed: int = key_field(0, "of all random numbers", minimum=0)
    device: str = one_of("where models train", "auto", "cpu", "cuda", "mps")
    runs_dir: str = key_field("runs", "folder of everything that is written")
    cache: bool = key_field(default=True, about="use trained models, scores and counts of runs_dir/cache again")
    cache_gib: float = key_field(
        4.0, "of models, and of counts, the least recently used go when they take more", minimum=0.0
    )
    plan: bool | str = key_field(
        default=False, about="say what would run, and run nothing; probe: try a little of it for the time"
    )


_METRICS = "stability confirmed concordance fit axis truth factors programs seconds train".split()
"""What the name of a metric begins with that a sweep may tune."""

GENE_CLASSES = ("ribosomal", "mitochondrial", "haemoglobin", "stress", "cell cycle")

# These say where and how results are kept, not what they are.
NOT_IN_IDENTITY = ("tracking", "sweep", "objectives", "device", "runs_dir", "cache", "cache_gib", "plan")


def conf_dir() -> Path:
    """Return the folder of the YAML configs: inside an installed package, or beside ``src``."""
    installed = Path(__file__).parents[1] / "conf"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "conf"


def build_config(values: Mapping[str, Any]) -> Config:
    """Check plain nested values and return the typed configuration.

    Raises
    ------
    ConfigError
        A key is unknown, a value has the wrong type or is out of range, or values contradict each other.
    """
    config: Config = build(Config, values, "")
    for message in _contradictions(config):
        raise ConfigError(message)
    for key, text in (("sweep.timeout", config.sweep.timeout), ("sweep.trial_timeout", config.sweep.trial_timeout)):
        seconds_of(key, text)
    for name in config.genes.exclude:
        if name not in GENE_CLASSES:
            raise unknown_key(where="genes.exclude", name=name, allowed=GENE_CLASSES)
    for objective in config.objectives:
        if objective.metric.split("/")[0] not in _METRICS:
            raise unknown_key(where="objectives", name=objective.metric, allowed=[f"{name}/…" for name in _METRICS])
    return config


def to_leaves(config: Any) -> dict[str, Any]:
    """Return every leaf of a configuration, or a group of it, by its dotted key, in the order of the dataclasses."""
    leaves: dict[str, Any] = {}
    for entry in dataclasses.fields(config):
        value = getattr(config, entry.name)
        if dataclasses.is_dataclass(value):
            leaves |= {f"{entry.name}.{key}": leaf for key, leaf in to_leaves(value).items()}
        else:
            leaves[entry.name] = _plain(value)
    return leaves


def to_nested(config: Any) -> dict[str, Any]:
    """Return a configuration, or a group of it, as plain nested values, as YAML holds them."""
    return {entry.name: _plain(getattr(config, entry.name)) for entry in dataclasses.fields(config)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_nested(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


def config_hash(config: Config) -> str:
    """Return 16 letters that name what is computed, not where or by whom it is kept.

    No digits: pandas 2 crashes on a table whose first row has a name such as ``2e59870917870bdf``, which begins as
    a number.
    """
    leaves = {key: value for key, value in to_leaves(config).items() if key.split(".")[0] not in NOT_IN_IDENTITY}
    for key, path in (("data.path", config.data.path), ("data.labels", config.data.labels)):
        if path is not None:
            leaves[key] = str(Path(path).expanduser().resolve())
    digits = hashlib.sha256(json.dumps(leaves, sort_keys=True).encode()).hexdigest()[:16]
    return digits.translate(str.maketrans("0123456789", "ghijklmnop"))


def _contradictions(config: Config) -> Iterator[str]:
    """Yield what is wrong with values beside each other, the first first."""
    data, resample, warmup = config.data, config.resample, config.train.kl_warmup_epochs
    if data.kind == "file" and data.path is None:
        yield "data.path: missing. Give the file: data.path=counts.h5ad data.population_key=cell_type."
    if data.kind == "file" and data.population_key is None:
        yield (
            "data.population_key: missing. Name the obs column that holds the populations (cell types): "
            "data.population_key=COLUMN."
        )
    if resample.kind in ("subsample", "thin") and resample.fraction > 0.5:
        yield (
            f"resample.fraction: {resample.fraction} is out of range for resample.kind={resample.kind}: replicates "
            "2i and 2i+1 share no cell, so it must be at most 0.5. For all cells use resample.kind=seed."
        )
    if resample.kind == "donor" and data.sample_key is None and data.kind != "simulated":
        yield "resample.kind: donor needs data.sample_key, the obs column of the samples or donors."
    if data.condition_reference is not None and data.condition_key is None:
        yield "data.condition_reference: it names a value of data.condition_key, which is not set. Set that too."
    paths = {"data.path": data.path, "data.labels": data.labels, "programs.gene_sets": config.programs.gene_sets}
    for key, path in {**paths, "runs_dir": config.runs_dir}.items():
        try:
            Path(path or ".").expanduser()
        except RuntimeError:
            yield f"{key}: {shown(path)} names the home of a user who is not here. Write the path out."
    if config.train.early_stopping and config.train.train_size == 1.0:
        yield "train.early_stopping: true needs cells to watch, and train.train_size=1.0 leaves none. Lower it."
    if isinstance(warmup, float) and not 0.0 < warmup <= 1.0:
        yield (
            f"train.kl_warmup_epochs: {warmup} is out of range; an integer is a number of epochs, "
            "a fraction in (0, 1] a share of them."
        )
    if config.train.data == "stream":
        remedy = "or train.data=memory"
        if config.train.engine == "scvi":
            yield f"train.data: stream is of the ensemble; train.engine is scvi. Use train.engine=ensemble, {remedy}."
        if config.device in ("cuda", "mps"):
            yield (
                f"train.data: stream trains on the CPU, and not on device={config.device}, which holds all counts. "
                f"Use device=cpu, {remedy}."
            )
        for is_made, made, other in (
            (data.kind == "simulated", "data=simulated", "a file of counts"),
            (resample.kind == "thin", "resample.kind=thin", "resample.kind=subsample"),
        ):
            if is_made:
                yield (
                    f"train.data: stream leaves counts on disk, and those of {made} are made in memory. "
                    f"Use {other}, {remedy}."
                )
        if not config.cache:
            yield f"train.data: stream reads the prepared counts from the cache. Use cache=true, {remedy}."
    if isinstance(config.plan, str) and config.plan != "probe":
        yield f"plan: {shown(config.plan)} is not allowed; allowed: true, false, probe."
