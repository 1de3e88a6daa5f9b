"""Minimal sets against brute force, scikit-learn's F score, and planted answers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.metrics import fbeta_score, precision_score, recall_score

from scballast.agreement.minimal_set import BETA, TOLERANCE, separation, smallest_set


def example(seed: int, n_cells: int = 150, n_genes: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    inside = rng.random(n_cells) < 0.3
    values = np.round(np.abs(rng.normal(0, 1, (n_cells, n_genes))) + inside[:, None] * rng.uniform(0, 1.5, n_genes), 1)
    return values, inside


def score(inside, taken):
    return fbeta_score(inside, taken, beta=BETA, zero_division=0)


def cuts(column):
    levels = np.unique(column)
    return (levels[:-1] + levels[1:]) / 2


@pytest.mark.parametrize("seed", range(5))
def test_one_gene_has_the_best_of_all_thresholds(seed):
    values, inside = example(seed, n_genes=1)
    best = max(score(inside, values[:, 0] > cut) for cut in cuts(values[:, 0]))
    found = smallest_set(values, inside)
    assert found.f_score == pytest.approx(best)
    assert score(inside, values[:, 0] > found.thresholds[0]) == pytest.approx(best)


@pytest.mark.parametrize("seed", range(5))
def test_two_genes_come_close_to_the_best_of_all_pairs_of_thresholds(seed):
    values, inside = example(seed, n_genes=2)
    both = max(
        score(inside, (values[:, 0] > one) & (values[:, 1] > other))
        for one in cuts(values[:, 0])
        for other in cuts(values[:, 1])
    )
    one = max(score(inside, values[:, gene] > cut) for gene in (0, 1) for cut in cuts(values[:, gene]))
    found = smallest_set(values, inside)
    assert found.f_score >= max(one, 0.93 * both) - TOLERANCE - 1e-12
    assert found.f_score <= max(one, both) + 1e-12


@pytest.mark.parametrize("seed", range(5))
def test_the_score_is_that_of_its_thresholds_and_no_set_of_single_thresholds_is_better(seed):
    values, inside = example(seed)
    found = smallest_set(values, inside)
    assert score(inside, (values[:, found.genes] > found.thresholds).all(axis=1)) == pytest.approx(found.f_score)
    own = [max(cuts(column), key=lambda cut, column=column: score(inside, column > cut)) for column in values.T]
    best = max(
        score(inside, np.all([values[:, gene] > own[gene] for gene in chosen], axis=0))
        for size in range(1, 5)
        for chosen in itertools.combinations(range(values.shape[1]), size)
    )
    assert found.f_score >= best - TOLERANCE - 1e-12


def test_two_genes_where_one_does_not_do():
    # The group has both genes; each of the other two groups has one of them.
    rng = np.random.default_rng(1)
    group = np.repeat([0, 1, 2], 50)
    values = rng.uniform(0, 1, (150, 5))
    values[group != 2, 1] += 3
    values[group != 1, 3] += 3
    found = smallest_set(values, group == 0)
    assert found.genes.tolist() == [1, 3]
    assert found.f_score == 1.0
    assert ((found.thresholds > 1) & (found.thresholds < 3)).all()


def test_a_gene_more_must_be_worth_its_place():
    values = np.zeros((300, 2))
    inside = np.arange(300) < 100
    values[:101, 0] = 1  # one cell of 200 too many
    values[:100, 1] = 1
    assert smallest_set(values[:, [0]], inside).f_score == pytest.approx(125 / 126)
    assert smallest_set(values, inside).genes.tolist() == [1]
    values[:101, 1] = 1
    values[100, 0] = 0
    values[101, 0] = 1
    assert smallest_set(values, inside).genes.tolist() == [0]


def test_separation_is_scikit_learns():
    rng = np.random.default_rng(2)
    inside, taken = rng.random((2, 80)) < 0.4
    found = separation(taken, inside)
    assert found.f_score == pytest.approx(fbeta_score(inside, taken, beta=BETA))
    assert found.precision == pytest.approx(precision_score(inside, taken))
    assert found.recall == pytest.approx(recall_score(inside, taken))
    nothing = separation(np.zeros(80, dtype=bool), inside)
    assert nothing.f_score == nothing.recall == 0.0
    assert np.isnan(nothing.precision)
    assert np.isnan(separation(taken, np.zeros(80, dtype=bool)).f_score)


def test_what_cannot_be_chosen_from_is_refused():
    with pytest.raises(ValueError, match="0 candidate genes"):
        smallest_set(np.zeros((3, 0)), np.array([True, False, False]))
    with pytest.raises(ValueError, match="0 cells of the group"):
        smallest_set(np.zeros((3, 2)), np.zeros(3, dtype=bool))


def test_a_gene_that_is_equal_everywhere_takes_no_cell():
    found = smallest_set(np.ones((6, 1)), np.arange(6) < 3)
    assert found.f_score == 0.0
