"""The methods section says what was done, and nothing that was not."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tests.helpers import report_fixture as made

from scballast.config.compose import compose_config
from scballast.config.schema import to_nested
from scballast.report.experiment_report import _facts
from scballast.report.stored_tables import ResultFolder
from scballast.report.wording import methods_text
from scballast.verdict.answer import rule_steps


def text_of(folder: Path, *words: str) -> str:
    made.write_trial(folder, made.Shape(n_populations=2))
    config = to_nested(compose_config(words))
    (folder / "config" / "resolved.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return " ".join(methods_text(ResultFolder(folder)))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("pca", "principal component"),
        ("nmf", "non-negative matrix"),
        ("factor_analysis", "rotated by varimax"),
        ("cnmf", "100 factorisations"),
    ],
)
def test_decompositions_claim_no_likelihood_and_no_training(model: str, said: str, tmp_path: Path) -> None:
    text = text_of(tmp_path, f"model={model}", "model.n_latent=7")
    assert said in text
    for claim in ("scvi-tools", "likelihood", "KL", "epochs", "learning rate", "latent distribution"):
        assert claim not in text


@pytest.mark.parametrize(
    ("word", "said"),
    [("nb", "negative binomial counts with one size for all genes"), ("poisson", "7 factors of Poisson counts")],
)
def test_glm_pca_states_its_counts_and_no_training(word: str, said: str, tmp_path: Path) -> None:
    text = text_of(tmp_path, "model=glmpca", "model.n_latent=7", f"model.gene_likelihood={word}")
    assert said in text
    for claim in ("scvi-tools", "KL", "epochs", "learning rate", "latent distribution"):
        assert claim not in text


def test_training_from_disk_is_stated(tmp_path: Path) -> None:
    said = "cells from windows of 131,072 at a time, of random blocks of cells in random order"
    assert said in text_of(tmp_path / "disk", "train.data=stream")
    assert said not in text_of(tmp_path / "memory")


@pytest.mark.parametrize(("model", "has_likelihood"), [("ldvae", True), ("pca", False), ("factor_analysis", False)])
def test_the_head_of_the_report_names_a_likelihood_where_there_is_one(
    model: str, has_likelihood: bool, tmp_path: Path
) -> None:
    text_of(tmp_path, f"model={model}")
    named = {fact.label for fact in _facts(ResultFolder(tmp_path))}
    assert "latent dimensions" in named
    assert ({"likelihood", "latent distribution"} <= named) == has_likelihood
    assert ("likelihood" in named) == has_likelihood


@pytest.mark.parametrize(("model", "said"), [("ldvae", "autoencoder LinearSCVI"), ("scvi", "variational autoencoder")])
def test_vaes_state_their_likelihood_and_training(model: str, said: str, tmp_path: Path) -> None:
    text = text_of(tmp_path, f"model={model}", "model.gene_likelihood=zinb", "train.max_epochs=33")
    assert said in text
    assert "zinb likelihood" in text
    assert "trained for 33 epochs" in text
    assert "KL warm-up over 25% of the epochs" in text
    assert "Ridge of local: 1000" in text


def test_topics_state_their_training_and_what_their_loadings_are(tmp_path: Path) -> None:
    text = text_of(tmp_path, "model=topic", "model.n_latent=7", "train.max_epochs=33", "train.lr=0.004")
    assert "AmortizedLDA of scvi-tools) with 7 topics, trained for 33 epochs" in text
    assert "learning rate 0.004, of the topics 0.04" in text
    assert "negative binomial" not in text


def test_the_rule_of_the_answer_is_stated_step_by_step() -> None:
    steps = rule_steps()
    assert len(steps) == 3
    assert steps[0].startswith("Candidates are the methods")
    assert steps[2].startswith("Of the trusted methods")
    assert not any(mark in step for step in steps for mark in "*`\n")
