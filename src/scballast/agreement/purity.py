"""Whether a group of cells is an extreme on an axis of the latent space, and which."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import hypergeom

from scballast.agreement.arguments import require
from scballast.agreement.association import check_cells
from scballast.agreement.permutation import group_sums
from scballast.arrays import FloatArray, IntArray

_TOLERANCE = 1e-9


@dataclass(frozen=True)
class AxisPurity:
    """The cells at both ends of every axis; last axis of the arrays: low end, high end.

    Attributes
    ----------
    category
        (n_dimensions, 2) the most frequent category among the extreme cells.
    purity
        (n_dimensions, 2) its share of them.
    base_rate
        (n_dimensions, 2) its share of all cells.
    expected
        Mean purity of as many cells drawn at random: what the largest share comes to without any order.
    p_value
        (n_dimensions, 2) exact probability of as many cells of the category among random cells, times the number
        of categories, since the most frequent one was picked; at most 1.
    n_cells
        Extreme cells at each end.
    """

    category: IntArray
    purity: FloatArray
    base_rate: FloatArray
    expected: float
    p_value: FloatArray
    n_cells: int


def axis_purity(
    scores: npt.ArrayLike,
    codes: npt.ArrayLike,
    n_categories: int,
    *,
    generator: np.random.Generator,
    fraction: float = 0.05,
    n_draws: int = 999,
) -> AxisPurity:
    """Purity of both ends of every axis: a direct test of "a cluster is an extreme on each axis".

    Cells tied at the edge of an end enter with equal weights that fill it up: the order of cells decides nothing.
    Under ``ln`` the high end of an axis is a corner of the simplex, where the cells go that use this dimension
    almost alone, and the low end its opposite face, where all others meet: read the two ends apart there.

    Parameters
    ----------
    scores : (n_cells, n_dimensions) float
        Positions in the latent space.
    codes : (n_cells,) int
        Category of each cell, below ``n_categories``; negative: none, the cell takes no part.
    n_categories
        Number of categories.
    generator
        Draws the random cells.
    fraction
        Share of the cells at each end, in (0, 0.5]; rounded up.
    n_draws
        Random draws for ``expected``.

    Returns
    -------
    AxisPurity

    Raises
    ------
    ValueError
        Shapes disagree, a score is not finite, a code is not below ``n_categories``, no cell has a category, or
        ``fraction`` is out of range.
    """
    values, labels = check_cells(scores, codes, n_categories)
    require(0 < fraction <= 0.5, f"fraction must be above 0 and at most 0.5, got {fraction}")
    require(len(labels), "no cell has a category")
    n_extreme = max(1, math.ceil(fraction * len(labels) - _TOLERANCE))
    sizes = np.bincount(labels, minlength=n_categories)
    # (dimension, end, category)
    shares = np.stack(
        [group_sums(_extreme_weights(end, n_extreme), labels, n_categories) for end in (-values, values)], axis=1
    )
    shares /= n_extreme
    category = shares.argmax(axis=2)
    purity = np.take_along_axis(shares, category[:, :, None], axis=2)[:, :, 0]
    drawn = generator.multivariate_hypergeometric(sizes, n_extreme, size=n_draws).max(axis=1) / n_extreme
    # Whole cells: what ties add up to a part of a cell does not count.
    n_found = np.floor(purity * n_extreme + _TOLERANCE)
    tail = hypergeom.sf(n_found - 1, len(labels), sizes[category], n_extreme)
    return AxisPurity(
        category=category,
        purity=purity,
        base_rate=(sizes / len(labels))[category],
        expected=float(drawn.mean()),
        p_value=np.minimum(tail * (sizes > 0).sum(), 1.0),
        n_cells=n_extreme,
    )


def _extreme_weights(values: FloatArray, n_extreme: int) -> FloatArray:
    """Return (cell, dimension) weights that add up to ``n_extreme`` on the highest cells of each dimension."""
    edge = np.partition(values, -n_extreme, axis=0)[-n_extreme]
    beyond, tied = values > edge, values == edge
    share = (n_extreme - beyond.sum(axis=0)) / tied.sum(axis=0)
    return np.asarray(beyond + tied * share)
