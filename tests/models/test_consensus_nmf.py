"""Consensus NMF is that of its authors' package, and says where runs agree on too little."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pytest
from scipy import sparse
from tests.reference.consensus_nmf_authors import N_PROGRAMS, N_RUNS, example

from scballast.config.compose import compose_config
from scballast.engine.interface import Member
from scballast.errors import TrainingError
from scballast.models import FAMILIES
from scballast.models.consensus_nmf import consensus_nmf
from scballast.models.family import FitRequest

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "consensus_nmf_authors.json").read_text())


def test_programs_usages_and_gene_scores_are_those_of_the_authors_package() -> None:
    counts = example()
    found = consensus_nmf(sparse.csr_matrix(counts), N_PROGRAMS, REFERENCE["seeds"])
    per_million = counts / counts.sum(axis=1, keepdims=True) * 1e6
    expected = (np.array(REFERENCE["gene_spectra_tpm"]) / per_million.std(axis=0)).T
    assert found.n_kept == REFERENCE["n_kept"] < N_PROGRAMS * N_RUNS
    np.testing.assert_allclose(found.loadings, expected, atol=1e-5)
    np.testing.assert_allclose(found.usages, REFERENCE["usages"], atol=1e-5)
    np.testing.assert_allclose(found.gene_scores.T, REFERENCE["gene_spectra_score"], atol=1e-5)


def test_cells_and_genes_without_counts_get_nothing_and_change_nothing() -> None:
    counts, seeds = example(), REFERENCE["seeds"][:4]
    whole = consensus_nmf(sparse.csr_matrix(counts), 4, seeds)
    with_empty_cell = np.insert(counts, 7, 0.0, axis=0)
    found = consensus_nmf(sparse.csr_matrix(with_empty_cell), 4, seeds)
    np.testing.assert_array_equal(found.usages[7], 0.0)
    np.testing.assert_array_equal(np.delete(found.usages, 7, axis=0), whole.usages)
    counts[:, 3] = 0
    np.testing.assert_array_equal(consensus_nmf(sparse.csr_matrix(counts), 4, seeds).loadings[3], 0.0)


def _noise() -> anndata.AnnData:
    return anndata.AnnData(sparse.csr_matrix(np.random.default_rng(0).poisson(1.0, (200, 100)), dtype=np.float32))


def test_runs_that_agree_on_too_little_are_a_failure_with_a_reason() -> None:
    with pytest.raises(TrainingError, match=r"cnmf: of the 40 components of 2 runs, \d+ have others like them"):
        consensus_nmf(_noise().X, 20, range(2))


def test_a_member_that_fails_leaves_the_others() -> None:
    config = compose_config(["model=cnmf", "model.n_latent=20", "model.n_runs=2"])
    programs = Member(np.arange(200), seed=1, overrides={"n_latent": 1})
    found = FAMILIES["cnmf"].fit(FitRequest(_noise(), [programs, Member(np.arange(200), seed=2)], config))
    assert list(found.failures) == [1]
    assert "Lower model.n_latent" in found.failures[1]
    assert found.loadings(0).shape == (100, 1)
    with pytest.raises(TrainingError, match="cnmf: not one of 1 models has a result"):
        FAMILIES["cnmf"].fit(FitRequest(_noise(), [Member(np.arange(200), seed=2)], config))
