"""Which latent dimension goes with which group of cells.

Arrays in, frozen results out. Groups are the categories of any column: population, condition, batch, donor.

Permutations take cells as exchangeable. Groups that belong to whole donors or batches (a condition) are not: cells
of one donor resemble each other, so small p-values there say that the *donors* differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.stats import rankdata

from scballast.arrays import BoolArray, FloatArray, IntArray

_INDICES_PER_BLOCK = 2**22
_RELATIVE_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Association:
    """Each dimension against each category, the category's cells against all others.

    Attributes
    ----------
    smd
        (n_dimensions, n_categories) standardised mean difference: the difference of the means over the root of
        the mean of the two variances; NaN where neither side varies.
    auroc
        (n_dimensions, n_categories) probability that a cell of the category scores above another cell, ties
        counted half; 0.5: no difference.
    eta2
        (n_dimensions, n_categories) share of the dimension's variance between the category and the rest.
    p_value
        (n_dimensions, n_categories) permutation p-value of ``eta2``.
    reason
        By category number: why its statistics are undefined (NaN). A constant dimension is undefined too.
    """

    smd: FloatArray
    auroc: FloatArray
    eta2: FloatArray
    p_value: FloatArray
    reason: Mapping[int, str] = field(default_factory=dict)


def association(
    scores: npt.ArrayLike,
    codes: npt.ArrayLike,
    n_categories: int,
    *,
    n_permutations: int,
    generator: np.random.Generator,
) -> Association:
    r"""Compare the scores of each category's cells with those of all other cells, dimension by dimension.

    Parameters
    ----------
    scores : (n_cells, n_dimensions) float
        Positions in the latent space. Under ``latent_distribution=ln`` the posterior means after softmax: they
        are not normal, so read AUROC rather than the standardised difference, and they sum to 1 over
        dimensions, so that a group high on one is somewhat lower on all others.
    codes : (n_cells,) int
        Category of each cell, below ``n_categories``; negative: none, the cell takes no part.
    n_categories
        Number of categories.
    n_permutations
        Of the labels over the cells, the same for all dimensions and categories; 0: no p-values. The p-value is
        :math:`(b+1)/(m+1)` with b permutations at least as far from no difference, two-sided.
    generator
        Draws the permutations.

    Returns
    -------
    Association

    Raises
    ------
    ValueError
        Shapes disagree, a score is not finite, or a code is not below ``n_categories``.

    References
    ----------
    Phipson & Smyth (2010), Permutation p-values should never be zero.

    Examples
    --------
    >>> scores = np.array([[0.0], [0.1], [0.2], [3.0], [3.1], [3.2]])
    >>> codes, generator = np.array([0, 0, 0, 1, 1, 1]), np.random.default_rng(0)
    >>> association(scores, codes, 2, n_permutations=99, generator=generator).auroc
    array([[0., 1.]])
    """
    values, labels = check_cells(scores, codes, n_categories)
    shape = (values.shape[1], n_categories)
    sizes = np.bincount(labels, minlength=n_categories)
    reason = _undefined_categories(sizes)
    defined = np.array([code not in reason for code in range(n_categories)], dtype=bool)
    smd, auroc, eta2, p_value = (np.full(shape, np.nan) for _ in range(4))
    # Constant dimensions cannot be told from rounding after centring, so they are found before.
    varied = values.min(axis=0) < values.max(axis=0) if len(values) else np.zeros(shape[0], dtype=bool)
    where = np.ix_(varied, defined)
    if varied.any() and defined.any():
        used = values[:, varied] - values[:, varied].mean(axis=0)
        sums = group_sums(used, labels, n_categories)[:, defined]
        squares = group_sums(used**2, labels, n_categories)[:, defined]
        smd[where] = _standardised_difference(sums, squares, sizes[defined], used)
        ranks = rankdata(used, axis=0)
        auroc[where] = _auroc(group_sums(ranks, labels, n_categories)[:, defined], sizes[defined], len(labels))
        eta2[where] = _eta_squared(sums, sizes[defined], used)
        if n_permutations > 0:
            p_value[where] = _permutation_p_values(used, sizes, defined, sums, n_permutations, generator)
    return Association(smd=smd, auroc=auroc, eta2=eta2, p_value=p_value, reason=reason)


def benjamini_hochberg(p_values: npt.ArrayLike) -> FloatArray:
    """Adjust p-values so that selecting those below α keeps the false discovery rate below α.

    Parameters
    ----------
    p_values : (...) float
        In [0, 1]; NaN: no test, left out of the count.

    Returns
    -------
    (...) float
        Adjusted values in the same places; NaN stays NaN.

    References
    ----------
    Benjamini & Hochberg (1995), Controlling the false discovery rate.

    Examples
    --------
    >>> benjamini_hochberg([0.01, 0.02, 0.5])
    array([0.03, 0.03, 0.5 ])
    """
    values = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(values.shape, np.nan)
    tested = ~np.isnan(values)
    known = values[tested]
    order = np.argsort(-known, kind="stable")
    rank = np.arange(known.size, 0, -1)
    stepped = np.minimum.accumulate(known[order] * known.size / rank)
    own = np.empty(known.size)
    own[order] = np.minimum(stepped, 1.0)
    adjusted[tested] = own
    return adjusted


def check_cells(scores: npt.ArrayLike, codes: npt.ArrayLike, n_categories: int) -> tuple[FloatArray, IntArray]:
    """Return the scores (cell, dimension) and codes of the cells that have a category.

    Raises
    ------
    ValueError
        Shapes disagree, a score is not finite, or a code is not below ``n_categories``.
    """
    values, labels = np.asarray(scores, dtype=np.float64), np.asarray(codes)
    if values.ndim != 2 or labels.shape != values.shape[:1]:
        message = f"scores {values.shape} must be cell × dimension and codes {labels.shape} have one per cell"
        raise ValueError(message)
    if not np.isfinite(values).all():
        message = f"{int((~np.isfinite(values)).sum())} of {values.size} scores are not finite"
        raise ValueError(message)
    if labels.size and labels.max() >= n_categories:
        message = f"code {labels.max()} is not below the number of categories, {n_categories}"
        raise ValueError(message)
    return values[labels >= 0], labels[labels >= 0]


def _undefined_categories(sizes: IntArray) -> dict[int, str]:
    total = int(sizes.sum())
    reason: dict[int, str] = {}
    for code, size in enumerate(sizes):
        if size < 2:
            reason[code] = f"{size} cells, at least 2 needed"
        elif total - size < 2:
            reason[code] = f"{total - size} other cells, at least 2 needed"
    return reason


def group_sums(values: FloatArray, labels: IntArray, n_groups: int) -> FloatArray:
    """Return (n_dimensions, n_groups) sums of ``values`` (n_cells, n_dimensions) over the cells of each group."""
    membership = sparse.csr_matrix((np.ones(len(labels)), (labels, np.arange(len(labels)))), (n_groups, len(labels)))
    sums: FloatArray = (membership @ values).T
    return sums


def _standardised_difference(sums: FloatArray, squares: FloatArray, sizes: IntArray, used: FloatArray) -> FloatArray:
    rest = len(used) - sizes
    means, others = sums / sizes, (used.sum(axis=0)[:, None] - sums) / rest
    variances = squares / sizes - means**2
    other_variances = ((used**2).sum(axis=0)[:, None] - squares) / rest - others**2
    pooled = np.sqrt(np.maximum(variances, 0.0) / 2 + np.maximum(other_variances, 0.0) / 2)
    difference: FloatArray = np.full(sums.shape, np.nan)
    np.divide(means - others, pooled, out=difference, where=pooled > 0)
    return difference


def _auroc(rank_sums: FloatArray, sizes: IntArray, n_cells: int) -> FloatArray:
    """Mann and Whitney's U from rank sums with midranks, as a share of all pairs."""
    return (rank_sums - sizes * (sizes + 1) / 2) / (sizes * (n_cells - sizes))


def _eta_squared(sums: FloatArray, sizes: IntArray, used: FloatArray) -> FloatArray:
    """Between sum of squares of category and rest over the total; ``used`` is centred."""
    between = sums**2 * (1 / sizes + 1 / (len(used) - sizes))
    eta2: FloatArray = np.minimum(between / (used**2).sum(axis=0)[:, None], 1.0)
    return eta2


def _permutation_p_values(
    used: FloatArray,
    sizes: IntArray,
    defined: BoolArray,
    sums: FloatArray,
    n_permutations: int,
    generator: np.random.Generator,
) -> FloatArray:
    """Return the share of permutations whose category sums lie at least as far from their mean, 0.

    A permutation deals the cells out anew to groups of the same sizes. The sums of a block of permutations are one
    product of a sparse 0/1 matrix, row (permutation, category), with the scores.
    """
    n_cells = len(used)
    at_least = np.zeros(sums.shape, dtype=np.int64)
    limit = np.abs(sums) * (1 - _RELATIVE_TOLERANCE)
    block = max(1, _INDICES_PER_BLOCK // n_cells)
    ends = np.cumsum(sizes)
    for start in range(0, n_permutations, block):
        n_now = min(block, n_permutations - start)
        dealt = generator.permuted(np.tile(np.arange(n_cells, dtype=np.int32), (n_now, 1)), axis=1)
        rows = (np.arange(n_now)[:, None] * n_cells + ends).ravel()
        deal = sparse.csr_matrix(
            (np.ones(dealt.size), dealt.ravel(), np.concatenate([[0], rows])), (rows.size, n_cells)
        )
        permuted = (deal @ used).reshape(n_now, sizes.size, -1)[:, defined]  # (permutation, category, dimension)
        at_least += (np.abs(permuted) >= limit.T).sum(axis=0).T
    p_values: FloatArray = (at_least + 1) / (n_permutations + 1)
    return p_values
