"""How much of a program's activity a latent space tells, against what was built into it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scballast.experiment.program_models import held_share, programs_in_models


def test_the_share_is_what_was_built_in() -> None:
    rng = np.random.default_rng(0)
    latent = rng.standard_normal((400, 5))
    told = latent @ np.array([1.0, 0.0, -1.0, 0.0, 0.0])
    assert held_share(latent, told) == pytest.approx(1.0, abs=1e-3)
    # Half of the variance is noise that no dimension knows.
    assert held_share(latent, told + np.sqrt(2.0) * rng.standard_normal(400)) == pytest.approx(0.5, abs=0.08)
    assert held_share(latent * 1e6 + 3.0, told) == pytest.approx(held_share(latent, told), abs=1e-6)


def test_many_dimensions_that_know_nothing_tell_nothing() -> None:
    rng = np.random.default_rng(1)
    shares = [held_share(rng.standard_normal((40, 30)), rng.standard_normal(40)) for _ in range(20)]
    # The best of six penalties is a little optimistic; fitted cells would give three quarters.
    assert np.mean(np.clip(shares, 0.0, None)) < 0.05


def test_each_cell_is_left_out_by_hand() -> None:
    rng = np.random.default_rng(2)
    latent, activity = rng.standard_normal((30, 3)), rng.standard_normal(30)
    activity += latent[:, 0]
    standardised = (latent - latent.mean(axis=0)) / latent.std(axis=0)

    def error(penalty: float) -> float:
        """Mean squared error of each cell by the ridge of the 29 others, the intercept not penalised."""
        squares = []
        for cell in range(30):
            others = np.arange(30) != cell
            x, y = standardised[others], activity[others]
            centre = x.mean(axis=0)
            gram = (x - centre).T @ (x - centre) + penalty * np.eye(3)
            slope = np.linalg.solve(gram, (x - centre).T @ (y - y.mean()))
            squares.append((activity[cell] - y.mean() - (standardised[cell] - centre) @ slope) ** 2)
        return float(np.mean(squares))

    best = min(error(10.0**power) for power in range(-1, 5))
    alone = np.mean([(activity[i] - np.delete(activity, i).mean()) ** 2 for i in range(30)])
    assert held_share(latent, activity) == pytest.approx(1.0 - best / alone, rel=1e-6)


def test_few_cells_and_constants_have_no_share() -> None:
    assert np.isnan(held_share(np.ones((9, 2)), np.arange(9.0)))
    assert np.isnan(held_share(np.ones((20, 2)), np.ones(20)))
    assert held_share(np.ones((20, 2)), np.arange(20.0)) == 0.0


def test_programs_with_a_flag_do_not_count_and_shares_below_nothing_are_nothing() -> None:
    summary = pd.DataFrame(
        {"population": ["B", "B", "T"], "program": ["P1", "P2", "P1"], "flags": ["", "batch (r = 0.90)", ""]}
    )
    held = pd.DataFrame(
        {
            "population": ["B", "B", "B", "T", "T"],
            "program": ["P1", "P1", "P2", "P1", "P1"],
            "replicate": [0, 1, 0, 0, 1],
            "n_cells": 20,
            "r_squared": [0.8, 0.4, 0.9, -0.3, 0.2],
        }
    )
    assert programs_in_models(summary, held) == pytest.approx(0.6 + 0.1)
    assert programs_in_models(summary.iloc[:0], held) == 0.0
