"""Which latent dimension goes with which group of cells.

Arrays in, frozen results out. Groups are the categories of any column: population, condition, batch, donor.

Where donors are known, cells are permuted within donors, and a group of whole donors (a condition that each donor has
or has not) is tested by permuting the donors. Where they are not known all cells are taken as exchangeable: cells of
one donor resemble each other, so small p-values of such a group then say no more than that the *donors* differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from scballast.agreement.arguments import require
from scballast.agreement.permutation import cell_p_values, donor_p_values, group_sums
from scballast.arrays import BoolArray, FloatArray, IntArray, cross_table, divided

CELLS, WITHIN_DONORS, DONORS = "cells", "cells within donors", "donors"


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
        (n_dimensions, n_categories) permutation p-value of the difference between the category and the rest.
    reason
        By category number: why its statistics, or its p-values alone, are undefined (NaN). A constant dimension is
        undefined too.
    permuted
        By category number: what exchanged labels for its p-values: ``cells``, ``cells within donors`` or ``donors``;
        none where there was no test.
    """

    smd: FloatArray
    auroc: FloatArray
    eta2: FloatArray
    p_value: FloatArray
    reason: Mapping[int, str] = field(default_factory=dict)
    permuted: Mapping[int, str] = field(default_factory=dict)


def association(
    scores: npt.ArrayLike,
    codes: npt.ArrayLike,
    n_categories: int,
    *,
    n_permutations: int,
    generator: np.random.Generator,
    donors: npt.ArrayLike | None = None,
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
        The same for all dimensions and categories; 0: no p-values. The p-value is :math:`(b+1)/(m+1)` with b
        permutations at least as far from no difference, two-sided; of few donors all assignments are looked at.
    generator
        Draws the permutations.
    donors : (n_cells,) int, optional
        Donor of each cell, >= 0. A category that each donor's cells have all or not at all is tested by permuting
        the donors (``permutation.donor_p_values``); any other by permuting the cells within each donor, by their
        deviations from the donor's mean. Default: none are known, and all cells exchange labels.

    Returns
    -------
    Association

    Raises
    ------
    ValueError
        Shapes disagree, a score is not finite, a code is not below ``n_categories``, or a donor is negative.

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
    of_donor = _check_donors(donors, np.asarray(codes))
    shape = (values.shape[1], n_categories)
    sizes = np.bincount(labels, minlength=n_categories)
    reason = _undefined_categories(sizes)
    defined = np.array([code not in reason for code in range(n_categories)], dtype=bool)
    smd, auroc, eta2, p_value = (np.full(shape, np.nan) for _ in range(4))
    permuted: Mapping[int, str] = {}
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
            tests = _tests(used, labels, defined, of_donor, n_permutations, generator)
            p_value[where] = tests.p_value[:, defined]
            reason, permuted = {**reason, **tests.reason}, tests.permuted
    return Association(smd=smd, auroc=auroc, eta2=eta2, p_value=p_value, reason=reason, permuted=permuted)


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
    finite = np.isfinite(values)
    require(finite.all(), f"{int((~finite).sum())} of {values.size} scores are not finite")
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


def _standardised_difference(sums: FloatArray, squares: FloatArray, sizes: IntArray, used: FloatArray) -> FloatArray:
    rest = len(used) - sizes
    means, others = sums / sizes, (used.sum(axis=0)[:, None] - sums) / rest
    variances = squares / sizes - means**2
    other_variances = ((used**2).sum(axis=0)[:, None] - squares) / rest - others**2
    pooled = np.sqrt(np.maximum(variances, 0.0) / 2 + np.maximum(other_variances, 0.0) / 2)
    return divided(means - others, pooled, np.nan)


def _auroc(rank_sums: FloatArray, sizes: IntArray, n_cells: int) -> FloatArray:
    """Mann and Whitney's U from rank sums with midranks, as a share of all pairs."""
    return (rank_sums - sizes * (sizes + 1) / 2) / (sizes * (n_cells - sizes))


def _eta_squared(sums: FloatArray, sizes: IntArray, used: FloatArray) -> FloatArray:
    """Between sum of squares of category and rest over the total; ``used`` is centred."""
    between = sums**2 * (1 / sizes + 1 / (len(used) - sizes))
    return np.asarray(np.minimum(between / (used**2).sum(axis=0)[:, None], 1.0))


def _check_donors(donors: npt.ArrayLike | None, codes: IntArray) -> IntArray | None:
    """Return the donors of the cells that have a category."""
    if donors is None:
        return None
    donor_codes = np.asarray(donors)
    if donor_codes.shape != codes.shape or (donor_codes < 0).any():
        message = f"donors {donor_codes.shape} must be one per cell {codes.shape}, and none negative"
        raise ValueError(message)
    return donor_codes[codes >= 0]


@dataclass(frozen=True)
class _Tests:
    """The tests of all categories; see :class:`Association`."""

    p_value: FloatArray
    reason: Mapping[int, str]
    permuted: Mapping[int, str]


def _tests(
    values: FloatArray,
    labels: IntArray,
    defined: BoolArray,
    donors: IntArray | None,
    n_permutations: int,
    generator: np.random.Generator,
) -> _Tests:
    n_categories = defined.size
    if donors is None:
        p_value = cell_p_values(values, labels, n_categories, n_permutations=n_permutations, generator=generator)
        return _Tests(p_value, {}, {int(code): CELLS for code in np.flatnonzero(defined)})
    present, donor = np.unique(donors, return_inverse=True)
    cells = cross_table(donor, present.size, labels, n_categories)
    sizes = cells.sum(axis=1, keepdims=True)
    whole = ((cells == 0) | (cells == sizes)).all(axis=0)
    p_value = np.full((values.shape[1], n_categories), np.nan)
    reason: dict[int, str] = {}
    permuted: dict[int, str] = {}
    within, between = generator.spawn(2)
    if (defined & ~whole).any():
        p_value[:, ~whole] = cell_p_values(
            values, labels, n_categories, strata=donor, n_permutations=n_permutations, generator=within
        )[:, ~whole]
        permuted = {int(code): WITHIN_DONORS for code in np.flatnonzero(defined & ~whole)}
    means = group_sums(values, donor, present.size).T / sizes
    for code in np.flatnonzero(defined & whole):
        test = donor_p_values(means, cells[:, code] > 0, n_permutations=n_permutations, generator=between)
        p_value[:, code] = test.p_value
        (reason if test.reason else permuted)[int(code)] = test.reason or DONORS
    return _Tests(p_value, reason, permuted)
