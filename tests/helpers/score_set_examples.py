"""Score sets with and without signal, for the tests of the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from scballast.methods.method import NamedMethod
from scballast.verdict.score_set import ScoreSet, rank_scores

Array = npt.NDArray[Any]


def ranked(
    scores: Mapping[str, Array],
    *,
    kind: str = "subsample",
    program: Sequence[str] = (),
    deterministic: str = "",
    earlier: ScoreSet | None = None,
) -> ScoreSet:
    """Score set of (replicate, population, gene) scores; the methods named in ``program`` have that estimand."""
    _, n_populations, n_genes = next(iter(scores.values())).shape
    return rank_scores(
        scores,
        methods=[
            NamedMethod(name, "program" if name in program else "marker", deterministic=name == deterministic)
            for name in scores
        ],
        populations=[f"population {position}" for position in range(n_populations)],
        genes=[f"gene{gene}" for gene in range(n_genes)],
        resample_kind=kind,
        seed=0,
        earlier=earlier,
    )


def signal(seed: int, noise: float, shape: tuple[int, int, int] = (6, 3, 80), *, ties: bool = False) -> Array:
    """Scores of which each population has its own, and every gene some in common, under noise by replicate.

    The signal is the same for every seed, the noise is not.
    """
    n_replicates, n_populations, n_genes = shape
    truth = np.random.default_rng(99)
    own = truth.normal(size=(n_populations, n_genes)) + 0.5 * truth.normal(size=n_genes)
    scores = own + noise * np.random.default_rng(seed).normal(size=(n_replicates, n_populations, n_genes))
    return np.maximum(scores, 0.3) if ties else scores


def two_labels(seed: int, effect: float = 0.0, n_cells: int = 400, n_replicates: int = 10) -> dict[str, Array]:
    """Scores by two methods of two labels of one population, on stratified complementary halves of the cells.

    The labels are random; with an effect, 20 genes of each label are higher there.
    """
    rng = np.random.default_rng(seed)
    n_genes = 300
    rate = np.exp(rng.normal(-0.5, 1.0, n_genes))
    labels = np.arange(n_cells) % 2
    raised = np.zeros((2, n_genes))
    raised[0, :20], raised[1, 20:40] = effect, effect
    rates = rate * np.exp(raised)[labels]
    values = np.log1p(rng.negative_binomial(2, 2 / (2 + rates)))
    halves: list[Array] = []
    for _ in range(n_replicates // 2):
        orders = [rng.permutation(np.flatnonzero(labels == label)) for label in (0, 1)]
        middle = n_cells // 4
        halves += [np.concatenate([order[:middle] for order in orders])]
        halves += [np.concatenate([order[middle:] for order in orders])]
    difference, statistic = [], []
    for cells in halves:
        one, other = values[cells][labels[cells] == 0], values[cells][labels[cells] == 1]
        delta = one.mean(axis=0) - other.mean(axis=0)
        error = np.sqrt(one.var(axis=0) / len(one) + other.var(axis=0) / len(other) + 1e-12)
        difference.append([delta, -delta])
        statistic.append([delta / error, -delta / error])
    return {"contrast": np.array(difference), "t_test": np.array(statistic)}
