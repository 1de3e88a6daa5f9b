"""Configuration: every YAML composes, and every mistake gets one clear message."""

from __future__ import annotations

from pathlib import Path

import pytest

from scballast.config.addresses import params_of
from scballast.config.compose import compose_config, config_groups
from scballast.config.schema import Config, build_config, conf_dir, config_hash, to_leaves, to_nested
from scballast.errors import ConfigError

OPTIONS = [
    (group, option) for group, options in config_groups().items() for option in options if not group.startswith("hydra")
]


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=lambda part: part)
def test_every_yaml_composes(group: str, option: str) -> None:
    words = [f"{group}={option}"]
    if (group, option) == ("data", "h5ad"):
        words += ["data.path=x.h5ad", "data.population_key=cell_type"]
    if group == "experiment":
        words = [f"+{words[0]}"] if "experiment:" not in (conf_dir() / "config.yaml").read_text() else words
    config = compose_config(words)
    assert isinstance(config, Config)


@pytest.mark.parametrize("path", sorted((conf_dir() / "experiment").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_experiment_opens_with_its_question_and_command(path: Path) -> None:
    head = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    text = "\n".join(head)
    assert "?" in text
    assert f"experiment={path.stem}" in text
    assert "minute" in text or "second" in text


def test_the_yaml_defaults_are_the_defaults_of_the_code() -> None:
    composed = to_leaves(compose_config([]))
    coded = to_leaves(Config())
    chosen = {
        "data.name": "pbmc68k",
        "data.population_key": "bulk_labels",
        "baselines.methods": composed["baselines.methods"],
    }
    differing = {key: value for key, value in composed.items() if coded[key] != value}
    assert differing == chosen


@pytest.mark.parametrize(
    ("word", "fragments"),
    [
        ("model.n_latnet=5", ("model.n_latnet", "Did you mean 'model.n_latent'?")),
        ("modle=ldvae", ("modle", "Did you mean 'model'?")),
        ("model=ldvea", ("model", "Did you mean 'ldvae'?", "nmf")),
        ("model.n_latent=ten", ("model.n_latent", "'ten'", "int")),
        ("model.n_latent=0", ("model.n_latent", "0", "at least 1")),
        ("model.n_latent=2.5", ("model.n_latent", "2.5", "int")),
        ("train.data=disk", ("train.data", "memory, stream")),
        ("model.gene_likelihood=normal", ("model.gene_likelihood", "nb, zinb, poisson")),
        ("model.dropout_rate=1.0", ("model.dropout_rate", "below 1.0")),
        ("train.lr=-1", ("train.lr", "above 0.0")),
        ("train.lr=inf", ("train.lr", "finite")),
        ("train.kl_warmup_epochs=1.5", ("train.kl_warmup_epochs", "1.5", "fraction in (0, 1]")),
        ("resample.fraction=0.8", ("resample.fraction", "0.8", "at most 0.5", "resample.kind=seed")),
        ("resample.kind=subsampel", ("resample.kind", "Did you mean 'subsample'?")),
        ("resample.kind=donor", ("donor", "data.sample_key")),
        ("data=h5ad", ("data.path", "missing")),
        ("device=gpu", ("device", "cuda")),
        ("objectives=[{metric: accuracy, direction: maximize}]", ("objectives", "accuracy", "stability/…")),
        ("objectives=[{metric: stability/contrast, direction: up}]", ("direction", "maximize")),
        ("methods=wilcoxon", ("methods", "'wilcoxon'")),
        ("seed=true", ("seed", "True")),
        ("model.n_latent", ("model.n_latent", "key=value")),
        ("++model.nothing=1", ("model.nothing",)),
        ("model.n_runs=10", ("no such key", "++model.n_runs=10")),
    ],
)
def test_a_mistake_is_named_with_the_remedy(word: str, fragments: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as error:
        compose_config([word])
    for fragment in fragments:
        assert fragment in str(error.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["train.engine=scvi"],
            "train.data: stream is of the ensemble; train.engine is scvi. Use train.engine=ensemble",
        ),
        (["device=cuda"], "train.data: stream trains on the CPU, and not on device=cuda"),
        (["cache=false"], "train.data: stream reads the prepared counts from the cache. Use cache=true"),
        (["data=simulated"], "train.data: stream leaves counts on disk, and those of data=simulated are made in"),
        (["resample.kind=thin"], "train.data: stream leaves counts on disk, and those of resample.kind=thin are made"),
    ],
)
def test_what_cannot_be_trained_from_disk_is_said(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose_config(["train.data=stream", *words])
    assert str(error.value).startswith(said)
    assert str(error.value).endswith("or train.data=memory.")
    compose_config(["train.data=stream"])


def test_models_that_need_all_counts_at_once_are_not_trained_from_disk() -> None:
    from scballast.models import family_of

    with pytest.raises(
        ConfigError, match=r"train\.data: stream is for models of the ensemble.*model\.name=pca needs all"
    ):
        family_of(compose_config(["model=pca", "train.data=stream"]))


def test_nested_values_round_trip() -> None:
    config = compose_config(["model.n_latent=7", "methods=[wilcoxon,contrast]", "train.kl_warmup_epochs=0.25"])
    assert build_config(to_nested(config)) == config


def test_the_hash_follows_what_is_computed_only() -> None:
    base = config_hash(compose_config([]))
    for word in ("runs_dir=elsewhere", "device=cpu", "sweep.name=x", "plan=true", "tracking.experiment=x"):
        assert config_hash(compose_config([word])) == base
    for word in ("seed=1", "model.n_latent=11", "rank.top_k=20", "resample.n_replicates=4", "train.engine=scvi"):
        assert config_hash(compose_config([word])) != base


def test_the_hash_of_a_path_does_not_depend_on_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["data=h5ad", "data.population_key=cell_type"]
    absolute = config_hash(compose_config([*words, f"data.path={tmp_path / 'x.h5ad'}"]))
    monkeypatch.chdir(tmp_path)
    assert config_hash(compose_config([*words, "data.path=x.h5ad"])) == absolute


def test_only_what_applies_to_a_run_is_logged_of_its_configuration() -> None:
    single = params_of(compose_config([]))
    unwanted = ("sweep.", "objectives", "data.simulation.", "tracking.", "plan", "runs_dir", "cache", "model.n_runs")
    assert [key for key in single if key.startswith((*unwanted, "train.early_stopping_patience"))] == []
    assert single["model.n_latent"] == "20"
    assert single["data.batch_key"] == "null"
    assert len(single) < 50
    assert "train.early_stopping_patience" in params_of(compose_config(["train.early_stopping=true"]))
    assert "train.data" not in single
    assert params_of(compose_config(["train.data=stream"]))["train.data"] == "stream"
    assert "model.n_runs" in params_of(compose_config(["model=cnmf"]))
    assert "data.simulation.n_genes" in params_of(compose_config(["data=simulated"]))
    of_sweep = params_of(compose_config([]), of_sweep=True)
    assert {key.partition(".")[0] for key in of_sweep.keys() - single.keys()} == {"sweep", "objectives"}
