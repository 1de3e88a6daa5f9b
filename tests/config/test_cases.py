"""Settings that cannot run, one row each: what is said, and that nothing is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.helpers.data_examples import written

from scballast.commands.terminal import _remove
from scballast.config.compose import compose_config
from scballast.config.schema import Config, build_config
from scballast.errors import ConfigError, DataError, ScballastError
from scballast.experiment.run import prepare_dataset
from scballast.sweep.trial import run_trial, runs_dir

# 60 cells × 50 genes, two populations, two batches, four samples.
SMALL = ("data=h5ad", "data.population_key=cell_type", "data.min_cells=5", "data.n_top_genes=null", "rank.top_k=10")


@dataclass(frozen=True)
class Case:
    """Words of the command line, and fragments of the one message, in order."""

    words: tuple[str, ...]
    says: tuple[str, ...]
    error: type[ScballastError] = ConfigError


def one_sample(folder: Path) -> Path:
    return written(folder, lambda adata: setattr(adata, "obs", adata.obs.assign(sample="s1")))


WITH_DATA = {
    "k of all genes": Case(("rank.top_k=50",), ("rank.top_k: 50 is not below the number of genes, 50", "1 to 49")),
    "k above the genes": Case(("rank.top_k=200",), ("rank.top_k: 200", "number of genes, 50", "Allowed: 1 to 49.")),
    "k above the selected genes": Case(("data.n_top_genes=8",), ("rank.top_k: 10", "genes, 8", "Allowed: 1 to 7.")),
    "latent dimensions above the genes": Case(
        ("model.n_latent=50", "resample.kind=bootstrap"),
        ("model.n_latent: 50 is not below 50", "the genes (50)", "the smallest replicate (60)", "Allowed: 1 to 49."),
    ),
    "latent dimensions above the cells of a replicate": Case(
        ("model.n_latent=40",), ("model.n_latent: 40 is not below 30", "replicate (30)", "Allowed: 1 to 29.")
    ),
    "latent dimensions above the cells of half the donors": Case(
        ("model.n_latent=31", "resample.kind=donor", "data.sample_key=sample"), ("model.n_latent: 31 is not below 30",)
    ),
    "a replicate without cells": Case(
        ("resample.fraction=0.01",), ("resample.fraction: 0.01 of 60 cells leaves", "smallest replicate. Raise it")
    ),
    "pseudobulk without samples": Case(
        ("methods=[wilcoxon,pseudobulk]",), ("methods: 'pseudobulk' cannot run: it needs data.sample_key",)
    ),
    "association with no column": Case(
        ("association.keys=[batsch]",), ("no column 'batsch'. Nearest: 'batch'.", "Set association.keys"), DataError
    ),
    "association with a measurement": Case(
        ("association.keys=[score]",), ("association.keys: 'score' holds measurements", "2 to 200 categories")
    ),
    "a population key that is not there": Case(
        ("data.population_key=celltype",), ("obs has no column 'celltype'. Nearest: 'cell_type'",), DataError
    ),
    "labels that are not there": Case(
        ("data.labels=labels.csv",), ("labels.csv: there is no such file of labels",), DataError
    ),
}
BEFORE_DATA = {
    "an unknown method": Case(("methods=[wilcoxn]",), ("'wilcoxn' is not known. Did you mean 'wilcoxon'? Allowed: ",)),
    "an unknown baseline": Case(("baselines.methods=[ttest]",), ("baselines.methods: 'ttest'", "mean 't_test'?")),
    "no method": Case(("methods=[]",), ("methods: empty. Name at least one",)),
    "a method that the model does not offer": Case(
        ("model=nmf", "methods=[conditioned]"),
        ("'conditioned' cannot run: model.name=nmf cannot be conditioned on the population.",),
    ),
    "another model's own test": Case(
        ("model=pca", "methods=[ldvae_de]"), ("'ldvae_de' cannot run: model.name is pca, and only model.name=ldvae",)
    ),
    "a test without a likelihood": Case(
        ("model=pca", "methods=[scvi_de]"),
        ("'scvi_de' cannot run: model.name is pca; it comes with ldvae, scvi and drvi.",),
    ),
    "a softmax prior on PCA": Case(("model=pca", "+model.latent_distribution=ln"), ("latent_distribution", "pca")),
    "a device that torch does not offer": Case(("device=mps",), ("device=mps", "not offer it here. Use device=cpu.")),
    "a GPU where there is none": Case(("device=cuda",), ("device=cuda", "finds no GPU here. Use device=cpu")),
}
BY_ITSELF = {
    "watching no cells": Case(
        ("train.early_stopping=true", "train.train_size=1.0"), ("train.early_stopping", "train.train_size=1.0", "Lower")
    ),
    "a home that is not there": Case(
        ("runs_dir='~nobody-of-this-name/runs'",),
        (
            "runs_dir: ",
            "a user who is not",
        ),
    ),
    "an objective of another program": Case(
        ("objectives=[{metric: loss, direction: minimize}]",), ("objectives: 'loss' is not known.", "stability/…")
    ),
    "an objective without a direction": Case(
        ("objectives=[{metric: fit/heldout_nll, direction: down}]",),
        ("objectives[0].direction: 'down' is not allowed; allowed: maximize, minimize.",),
    ),
    "a group in place of a value": Case(("model.n_latent={a: 1}",), ("model.n_latent", "{'a': 1}", "int")),
    "a number in place of a group": Case(
        ("train=3",), ("train: '3' is not known. Allowed: default, quick, scvi_tools.",)
    ),
    "nothing in place of a group": Case(("model=null",), ("model: 'None' is not known.", "ldvae")),
    "a list in place of a group": Case(("model=[ldvae]",), ("model: ", "is not known.", "ldvae")),
    "a mapping for a group, checked too": Case(("train={lr: fast}",), ("train.lr: 'fast' is a str; allowed: float.",)),
    "a value twice": Case(("data.path=a.h5ad=b",), ("data.path=a.h5ad=b", "key=value")),
}


def check(message: str, says: Sequence[str]) -> None:
    position = 0
    for fragment in says:
        assert fragment in message[position:], message
        position = message.index(fragment, position) + len(fragment)
    assert "\n" not in message
    assert len(message) < 700


def composed(path: Path, words: Sequence[str]) -> Config:
    return compose_config([*SMALL, f"data.path={path}", f"runs_dir={path.parent / 'runs'}", *words])


@pytest.mark.parametrize("name", WITH_DATA)
def test_settings_that_do_not_fit_the_data_are_refused(name: str, tmp_path: Path) -> None:
    case = WITH_DATA[name]
    with pytest.raises(case.error) as caught:
        run_trial(composed(written(tmp_path), case.words))
    check(str(caught.value), case.says)
    assert not list((tmp_path / "runs").iterdir())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["resample.kind=donor"], ("resample.kind=donor: 2 samples or more", "the sample column has 1")),
        (["methods=[pseudobulk]"], ("'pseudobulk' cannot run: it needs 3 samples or more", "obs['sample'] has 1.")),
    ],
)
def test_one_sample_is_too_few(words: list[str], says: tuple[str, ...], tmp_path: Path) -> None:
    config = composed(one_sample(tmp_path), ["data.sample_key=sample", *words])
    with pytest.raises(ScballastError) as caught:
        run_trial(config)
    check(str(caught.value), says)
    assert not list((tmp_path / "runs").iterdir())


def test_donors_of_simulated_data_need_more_than_one() -> None:
    config = compose_config(["data=simulated", "resample.kind=donor", "data.simulation.population_sizes=[60,60]"])
    with pytest.raises(ConfigError, match=r"donor needs samples: .* raise data\.simulation\.n_donors"):
        prepare_dataset(config)


@pytest.mark.parametrize("name", BEFORE_DATA)
def test_what_the_data_do_not_decide_is_refused_before_they_are_read(name: str, tmp_path: Path) -> None:
    case = BEFORE_DATA[name]
    if "device=cuda" in case.words and _has_gpu():
        pytest.skip("there is a GPU here")
    config = composed(tmp_path / "there is no such file.h5ad".replace(" ", "_"), case.words)
    with pytest.raises(case.error) as caught:
        run_trial(config)
    check(str(caught.value), case.says)
    assert not list((tmp_path / "runs").iterdir())


def _has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


@pytest.mark.parametrize("name", BY_ITSELF)
def test_words_that_contradict_themselves_are_refused(name: str) -> None:
    case = BY_ITSELF[name]
    with pytest.raises(case.error) as caught:
        compose_config(case.words)
    check(str(caught.value), case.says)


def test_a_path_holds_no_NUL() -> None:
    with pytest.raises(ConfigError, match=r"data\.path: 'a\\x00b' holds a NUL character"):
        build_config({"data": {"path": "a\0b"}})


def test_numbers_that_nothing_can_hold() -> None:
    with pytest.raises(ConfigError, match=r"seed: 9223372036854775808 is out of range; it must be below 2\*\*63"):
        build_config({"seed": 2**63})
    with pytest.raises(ConfigError, match="seed: a very large number is out of range"):
        build_config({"seed": 10**5000})


def test_numbers_beyond_floating_point_are_not_finite() -> None:
    with pytest.raises(ConfigError, match=r"train\.lr: inf is not a finite number"):
        build_config({"train": {"lr": 10**400}})


@pytest.mark.parametrize("make", ["file", "link", "read-only"])
def test_a_folder_that_cannot_be_written_to(make: str, tmp_path: Path) -> None:
    place = tmp_path / "place"
    if make == "file":
        place.write_text("not a folder")
    elif make == "link":
        place.symlink_to(place)
    elif os.geteuid() == 0:
        pytest.skip("root writes to every folder")
    else:
        place.mkdir(mode=0o500)
    with pytest.raises(ConfigError, match=r"runs_dir: .*place/runs cannot be written to \(.+\)\. Name another folder"):
        runs_dir(Config(runs_dir=str(place / "runs")))


COMMANDS = {
    "unknown key": (("model.n_latnet=5",), "model.n_latnet"),
    "fits no data": (("rank.top_k=50",), "rank.top_k: 50"),
    "bad data": (("data.population_key=celltype",), "'celltype'"),
    "method": (("methods=[wilcoxn]",), "'wilcoxn'"),
    "folder": (("runs_dir=counts.h5ad/runs",), "runs_dir: counts.h5ad/runs cannot be written to"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_says_one_thing_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    words, fragment = COMMANDS[name]
    command = [str(Path(sys.executable).with_name("scballast")), *SMALL, f"data.path={written(tmp_path)}"]
    words = ("runs_dir=new/runs", *words)
    done = subprocess.run([*command, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert fragment in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert [entry.name for entry in tmp_path.rglob("*")] == ["counts.h5ad"]


def test_what_was_there_before_stays(tmp_path: Path) -> None:
    kept = tmp_path / "new" / "runs"
    own = kept / "hydra" / "day" / "time"
    (own / ".hydra").mkdir(parents=True)
    _remove(own, [])
    assert [entry.name for entry in tmp_path.rglob("*")] == ["new", "runs"]
    own.mkdir(parents=True)
    (kept / "mlflow.db").touch()
    _remove(own, [kept, kept.parent])
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["mlflow.db", "new", "runs"]


@pytest.mark.parametrize(
    "words", [["data.simulation.programs=\udc80"], ["association.keys=\udc80"], ["data.path=${\udc80}"]], ids=ascii
)
def test_bytes_of_another_encoding_do_not_spoil_the_message(words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        compose_config(words)
    assert "\\udc80" in str(caught.value)
    str(caught.value).encode("utf-8")


def test_a_text_of_several_lines_is_shown_on_one() -> None:
    with pytest.raises(ConfigError, match=r"^data\.simulation\.programs is 'a\\nb'\. Allowed: latent, "):
        build_config({"data": {"simulation": {"programs": "a\nb"}}})
