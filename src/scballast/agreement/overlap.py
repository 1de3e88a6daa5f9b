r"""Expected overlap of two rankings at every depth, averaged over all ways of breaking ties.

Broken at random, a gene tied on ranks t to b is among the first d with probability
:math:`c(d) = \min(1, \max(0, (d - t + 1) / (b - t + 1)))`, independently of the other list. The expected number
of genes that both lists have among their first d is therefore :math:`\sum_g c_1(d) c_2(d)` (the "a" variant of
Corsi & Urbano 2024). Overlap at k, the area under the concordance curve and rank-biased overlap are all
:math:`\sum_d w_d \sum_g c_1(d) c_2(d)` with weights :math:`w_d` of their own.

References
----------
Corsi & Urbano (2024), The treatment of ties in rank-biased overlap, SIGIR.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.spatial.distance import cdist

from scballast.agreement.ranking import RankSpans
from scballast.arrays import BoolArray, FloatArray, IntArray

NEGLIGIBLE = 1e-10


@dataclass(frozen=True)
class DepthWeights:
    r"""Weights of the depths, and what overlap adds beyond them.

    Attributes
    ----------
    moments : (3, n_depths + 1) float
        Sums over the depths up to d of :math:`w_d`, :math:`d w_d` and :math:`d^2 w_d`; the first is depth 0.
    beyond
        What all depths after the last add (agreement is complete there when the lists share their genes).
    """

    moments: FloatArray
    beyond: float = 0.0

    @property
    def n_depths(self) -> int:
        """The deepest depth with a weight."""
        return int(self.moments.shape[1]) - 1

    def from_depth(self, depth: IntArray) -> FloatArray:
        """Sum of the weights from ``depth`` (at least 1) on, without ``beyond``."""
        start = np.minimum(depth, self.n_depths + 1) - 1
        return np.asarray(self.moments[0, -1] - self.moments[0, start])


def depth_weights(weights: FloatArray, beyond: float = 0.0) -> DepthWeights:
    """Prepare the weights of depths 1, 2, … for ``expected_overlap``.

    Parameters
    ----------
    weights : (n_depths,) float
        Weight of one common gene at each depth.
    beyond
        What all depths after the last add.

    Returns
    -------
    DepthWeights
    """
    depth = np.arange(1, len(weights) + 1, dtype=np.float64)
    moments = np.cumsum(np.stack([weights, weights * depth, weights * depth**2]), axis=1)
    with_none = np.concatenate([np.zeros((3, 1)), moments], axis=1)
    with_none.flags.writeable = False  # shared by all who ask for the same weights
    return DepthWeights(with_none, beyond)


@cache
def rank_biased_weights(n_genes: int, p: float) -> DepthWeights:
    r"""Weights of rank-biased overlap: :math:`(1-p) p^{d-1} / d`, and the rest as if agreement were complete.

    Agreement is complete beyond the last gene. Depths from which on all weights sum to less than 1e-10 are left
    out, which is the largest error.
    """
    n_depths = min(n_genes, math.ceil(math.log(NEGLIGIBLE) / math.log(p)))
    depth = np.arange(1, n_depths + 1)
    return depth_weights((1.0 - p) * p ** (depth - 1.0) / depth, beyond=p**n_depths)


@cache
def concordance_curve_weights(k: int) -> DepthWeights:
    r"""Weights of the area under the concordance curve: :math:`2 / (k (k + 1))` at each depth up to k."""
    return depth_weights(np.full(k, 2.0 / (k * (k + 1.0))))


@cache
def top_k_weights(k: int) -> DepthWeights:
    """Weights of overlap at k: 1 / k at depth k."""
    weights = np.zeros(k)
    weights[-1] = 1.0 / k
    return depth_weights(weights)


def expected_overlap(first: RankSpans, second: RankSpans, weights: DepthWeights) -> FloatArray:
    """Weighted expected overlap of rankings of the same genes.

    Parameters
    ----------
    first, second
        Rank spans of shapes that broadcast to (..., n_genes).
    weights
        Weights of the depths.

    Returns
    -------
    (...) float
        One number per pair of rankings.
    """
    return expected_overlaps(first, second, [weights])[0]


def expected_overlaps(first: RankSpans, second: RankSpans, by_index: Sequence[DepthWeights]) -> list[FloatArray]:
    """Return :func:`expected_overlap` of the same rankings by several weights."""
    later_top = np.maximum(first.top, second.top)
    is_tied = _any_list((first.top != first.bottom) | (second.top != second.bottom))
    nearest = later_top.reshape(-1, later_top.shape[-1]).min(
        axis=0, initial=np.iinfo(np.int64).max
    )  # of no list: too deep
    overlaps = []
    for weights in by_index:
        # Only genes that both rankings can have within the weighted depths count, and most of these are not tied.
        counts = nearest <= weights.n_depths
        tied = np.flatnonzero(counts & is_tied)
        total = weights.from_depth(later_top[..., counts & ~is_tied]).sum(axis=-1)
        if tied.size:
            total = total + _tied_overlap(first[..., tied], second[..., tied], weights)
        overlaps.append(np.asarray(total + weights.beyond))
    return overlaps


def _any_list(genes: BoolArray) -> BoolArray:
    """Genes for which it holds in any of the lists."""
    return np.asarray(genes.reshape(-1, genes.shape[-1]).any(axis=0))


def _tied_overlap(first: RankSpans, second: RankSpans, weights: DepthWeights) -> FloatArray:
    """Sum over genes and depths of the products of the two chances of being among the first d."""
    later_top = np.maximum(first.top, second.top)
    later_bottom = np.maximum(first.bottom, second.bottom)
    earlier_bottom = np.minimum(first.bottom, second.bottom)
    n_first, n_second = first.bottom - first.top + 1.0, second.bottom - second.top + 1.0
    zero_first, zero_second = first.top - 1.0, second.top - 1.0  # the ramps start from 0 at these depths
    # Both ramps rise from the later start to the earlier end …
    w0, w1, w2 = _between(weights, later_top, earlier_bottom)
    both = (w2 - (zero_first + zero_second) * w1 + zero_first * zero_second * w0) / (n_first * n_second)
    # … then only the longer one does, up to the later end; from there the gene is in both lists for certain.
    w0, w1, _ = _between(weights, np.maximum(later_top, earlier_bottom + 1), later_bottom)
    first_is_last = first.bottom > second.bottom
    longer = (w1 - np.where(first_is_last, zero_first, zero_second) * w0) / np.where(first_is_last, n_first, n_second)
    certain = weights.from_depth(later_bottom + 1)
    return np.asarray((both + longer + certain).sum(axis=-1))


def pairwise_expected_overlap(spans: RankSpans, weights: DepthWeights) -> FloatArray:
    """Weighted expected overlap of every pair of rankings.

    Parameters
    ----------
    spans
        Rank spans of shape (n_lists, n_genes).
    weights
        Weights of the depths.

    Returns
    -------
    (n_lists, n_lists) float
        Symmetric; on the diagonal each ranking with an independent tie-breaking of itself.
    """
    n_lists = spans.top.shape[0]
    reached = _any_list(spans.top <= weights.n_depths)
    tied = reached & _any_list(spans.top != spans.bottom)
    plain = weights.from_depth(spans.top[:, reached & ~tied])
    pairs = shared_weight(plain, plain) + weights.beyond
    some = spans[:, tied]
    for row in range(n_lists) if tied.any() else ():
        added = _tied_overlap(some[row], some[row:], weights)
        pairs[row, row:] += added
        pairs[row + 1 :, row] += added[1:]
    return pairs


def shared_weight(first: FloatArray, second: FloatArray) -> FloatArray:
    """Sum over genes of the smaller of two weights, for every pair of lists.

    A gene counts from the depth at which both untied lists have it, so its weight is the smaller of the two that
    it has in either list. ``min(a, b) = (a + b - |a - b|) / 2`` makes that a city-block distance.

    Parameters
    ----------
    first : (n_first, n_genes) float
    second : (n_second, n_genes) float
        ``DepthWeights.from_depth`` of untied ranks.

    Returns
    -------
    (n_first, n_second) float
    """
    total = first.sum(axis=1)[:, None] + second.sum(axis=1)[None, :]
    return np.asarray((total - cdist(first, second, "cityblock")) / 2.0)


def _between(weights: DepthWeights, start: IntArray, stop: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Moments of the weights from depth ``start`` to ``stop`` inclusive; 0 where ``stop < start``."""
    last = weights.n_depths
    low = np.minimum(start, last + 1) - 1
    high = np.maximum(np.minimum(stop, last), low)
    m0, m1, m2 = weights.moments
    return m0[high] - m0[low], m1[high] - m1[low], m2[high] - m2[low]
