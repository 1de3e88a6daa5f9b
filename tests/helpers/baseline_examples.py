"""Small planted data for the tests of the baselines."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix

from scballast.methods.cell_view import CellView
from scballast.methods.method import Method

POPULATIONS = ("B cells", "T/NK +", "mono")
SIZES = (130, 120, 110)
N_UNLABELLED = 40
N_GENES = 60
N_SAMPLES = 4
MARKERS = {0: (0, 1, 2), 1: (3, 4, 5), 2: (6, 7, 8)}
PROGRAM = {0: (10, 11, 12, 13), 1: (14, 15, 16, 17), 2: (18, 19, 20, 21)}
WITHOUT_COUNTS = 59


def planted_view(seed: int = 0) -> CellView:
    """Three populations and unlabelled cells; each population has three markers and a program of four genes.

    Cells in which the program is active are of one condition, the others of the reference, so its genes respond too.
    """
    rng = np.random.default_rng(seed)
    codes = np.repeat([0, 1, 2, -1], [*SIZES, N_UNLABELLED])
    log_level = np.tile(rng.normal(0.0, 0.7, N_GENES), (codes.size, 1))
    for code, genes in MARKERS.items():
        log_level[np.ix_(codes == code, genes)] += 1.5
    active = np.zeros(codes.size)
    for code, genes in PROGRAM.items():
        cells = codes == code
        active[cells] = rng.normal(0.0, 1.6, cells.sum())
        log_level[np.ix_(cells, genes)] += active[cells][:, None]
    share = np.exp(log_level)
    depth = rng.lognormal(np.log(300.0), 0.4, codes.size)
    counts = rng.poisson(depth[:, None] * share / share.sum(axis=1, keepdims=True)).astype(np.float32)
    counts[:, WITHOUT_COUNTS] = 0
    order = rng.permutation(codes.size)
    return CellView(
        counts=csr_matrix(counts[order]),
        total_counts=counts[order].sum(axis=1) + rng.poisson(200.0, codes.size),
        codes=codes[order],
        n_populations=3,
        populations=POPULATIONS,
        samples=rng.integers(N_SAMPLES, size=codes.size),
        seed=seed,
        sample_names=("d1", "d2", "d3", "d4"),
        conditions=(active[order] > 0).astype(np.int64),
    )


def of_cells(view: CellView, cells: np.ndarray) -> CellView:
    """The same view with other cells, or the same cells in another order."""
    return replace(
        view,
        counts=view.counts[cells],
        total_counts=view.total_counts[cells],
        codes=view.codes[cells],
        samples=None if view.samples is None else view.samples[cells],
        conditions=None if view.conditions is None else view.conditions[cells],
    )


def ranked(scores: np.ndarray) -> np.ndarray:
    """Positions by descending score, NaN last."""
    return np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")


@dataclass(frozen=True)
class CellsOnly:
    """The evidence of a replicate without models."""

    cells: CellView


def score_of(method: Method, view: CellView) -> np.ndarray:
    """Return the scores of a method that looks at cells alone."""
    return method.score(CellsOnly(view))
