"""Pseudobulk against reference values of PyDESeq2, and what it says when samples are missing."""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from tests.helpers.baseline_examples import score_of

from scballast.methods.cell_view import CellView
from scballast.methods.pseudobulk import wald_statistic
from scballast.methods.registry import METHODS

REFERENCE = Path(__file__).parents[1] / "reference"


@pytest.fixture(scope="module")
def view() -> CellView:
    spec = importlib.util.spec_from_file_location("pydeseq2_wald", REFERENCE / "pydeseq2_wald.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    counts, samples, inside = script.example()
    order = np.random.default_rng(0).permutation(samples.size)
    return CellView(
        counts=csr_matrix(counts.astype(np.float32))[order],
        total_counts=counts.sum(axis=1)[order],
        codes=np.where(inside, 0, -1)[order],
        n_populations=1,
        populations=("planted",),
        samples=samples[order],
        seed=0,
        sample_names=script.SAMPLES,
    )


def test_equals_the_reference(view: CellView) -> None:
    expected = pd.read_csv(REFERENCE / "pydeseq2_wald.csv", index_col=0)["stat"]
    scores = score_of(METHODS["pseudobulk"], view)[0]
    genes = [int(name.removeprefix("gene")) for name in expected.index]
    np.testing.assert_allclose(scores[genes], expected.to_numpy(), rtol=1e-4)
    assert np.flatnonzero(np.isnan(scores)).tolist() == sorted(set(range(40)) - set(genes))
    assert set(np.argsort(-np.nan_to_num(scores, nan=-np.inf))[:5]) == set(range(5))


def test_swapping_the_sides_changes_the_sign() -> None:
    rng = np.random.default_rng(1)
    inside, outside = rng.poisson(50.0, (2, 4, 30))
    np.testing.assert_allclose(wald_statistic(inside, outside), -wald_statistic(outside, inside), rtol=1e-3, atol=1e-3)


def test_cells_without_a_sample_have_no_part(view: CellView) -> None:
    assert view.samples is not None
    left_out = np.random.default_rng(2).random(view.codes.size) < 0.1
    without = replace(view, samples=np.where(left_out, -1, view.samples))
    dropped = replace(
        view,
        counts=view.counts[~left_out],
        total_counts=view.total_counts[~left_out],
        codes=view.codes[~left_out],
        samples=view.samples[~left_out],
    )
    np.testing.assert_array_equal(score_of(METHODS["pseudobulk"], without), score_of(METHODS["pseudobulk"], dropped))


def test_names_the_samples_that_are_too_small(view: CellView, caplog: pytest.LogCaptureFixture) -> None:
    assert view.samples is not None
    two_left_out = replace(view, samples=np.where(view.samples < 2, view.samples, -1))
    with caplog.at_level(logging.WARNING):
        result = score_of(METHODS["pseudobulk"], two_left_out)
    assert np.isnan(result).all()
    (message,) = caplog.messages
    assert "'planted': 2 of 2 samples have at least 10 cells in it and outside it, 3 needed" in message

    caplog.clear()
    last_three = replace(view, samples=np.where(view.samples > 1, view.samples, -1))
    with caplog.at_level(logging.WARNING):
        result = score_of(METHODS["pseudobulk"], last_three)
    assert np.isnan(result).all()
    (message,) = caplog.messages
    assert "2 of 5 samples" in message
    assert message.endswith("too few (in and outside): p1 (0 and 0), p2 (0 and 0), p4 (9 and 45).")


def test_every_gene_has_a_zero(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    counts = np.random.default_rng(3).poisson(20.0, (2, 4, 24))
    counts[0, :, :12] = 0
    counts[1, :, 12:] = 0
    with caplog.at_level(logging.INFO):
        statistic = wald_statistic(counts[0], counts[1])
    assert (statistic[:12] < 0).all()
    assert (statistic[12:] > 0).all()
    assert any("size factors from the positive counts" in message for message in caplog.messages)
    assert any("PyDESeq2 says: As the residual degrees of freedom" in message for message in caplog.messages)
    assert capfd.readouterr().err == ""
