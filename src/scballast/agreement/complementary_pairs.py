"""Stability selection with complementary pairs: how many genes with a low chance of selection are kept by chance."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq, minimize_scalar

from scballast.agreement.arguments import check_selection
from scballast.agreement.statistic import Statistic, undefined

_SMALLEST, _LARGEST = 1e-6, 1e8
"""Range of the shift of an r-concave distribution, from a point mass at 0 to the uniform."""


def r_concave_bound(n_selected: float, n_genes: int, threshold: float, n_pairs: int) -> Statistic:
    r"""Bound on the expected number of genes selected by chance among those that are kept.

    .. math:: E|\hat S_\tau \cap L_\theta| \le
              \min\{D(\theta^2, 2\tau - 1, B, -1/2),\ D(\theta, \tau, 2B, -1/4)\}\,|L_\theta|, \quad \theta = q / G

    with :math:`L_\theta` the genes that half of the cells select with a chance of at most θ (at most G), τ the
    selection frequency over the 2B halves from which a gene is kept, and :math:`D(\eta, t, B, r)` the largest P(X ≥ t)
    of an r-concave distribution on {0, 1/B, …, 1} with mean at most η.

    Parameters
    ----------
    n_selected
        q, the (mean) number of genes that each half selects.
    n_genes
        G.
    threshold
        τ, in (0.5, 1].
    n_pairs
        B, the number of complementary pairs of halves.

    Returns
    -------
    Statistic
        Number of genes. NaN with fewer than two pairs.

    Raises
    ------
    ValueError
        A number outside its range.

    References
    ----------
    Shah & Samworth (2013), Variable selection with error control: another look at stability selection, JRSS B 75,
    section 3.4 and appendix A.4.
    """
    check_selection(n_selected, n_genes, threshold)
    if n_pairs < 2:
        return undefined("the bound needs two complementary pairs or more")
    theta = n_selected / n_genes
    pairs = largest_tail(theta**2, 2.0 * threshold - 1.0, n_pairs, -0.5)
    halves = largest_tail(theta, threshold, 2 * n_pairs, -0.25)
    return Statistic(min(pairs, halves, 1.0) * n_genes)


def largest_tail(mean: float, threshold: float, n: int, r: float) -> float:
    r"""Largest P(X ≥ t) of an r-concave distribution on {0, 1/n, …, 1} with mean at most η.

    The extremal distributions have weights :math:`(a + i)^{1/r}` on i = 0, …, k, and at k + 1 what the mean asks for.

    Parameters
    ----------
    mean
        η, in [0, 1].
    threshold
        t, in (0, 1].
    n
        Number of steps.
    r
        Negative; the closer to 0, the lighter the tails.

    Returns
    -------
    float
        In [0, 1]; 1 where no more is known (a mean above half of the threshold).
    """
    target = mean * n
    # 20 * 0.15 is 3.0000000000000004: a rounding error must not ask for one selection more.
    reach = math.ceil(round(threshold * n, 9))
    if target == 0.0:
        return 0.0
    first = math.ceil(2.0 * target) + 1  # from here on the uniform distribution has too large a mean
    if reach < first:
        return 1.0
    shifts = {k: _shift(k, target, 1.0 / r) for k in range(first, n + 1)}
    best = 0.0
    for k in range(first, n):
        if k + 1 < reach:
            continue
        low, high = sorted((math.log(shifts[k + 1]), math.log(shifts[k])))
        negative_tails = [-_tail(math.exp(edge), k, reach, target, 1.0 / r) for edge in (low, high)]
        if high > low:
            search = minimize_scalar(
                lambda log_a, k=k: -_tail(math.exp(log_a), k, reach, target, 1.0 / r),
                bounds=(low, high),
                method="bounded",
            )
            negative_tails.append(float(search.fun))
        best = max(best, -min(negative_tails))
    return min(best, 1.0)


def _shift(k: int, target: float, power: float) -> float:
    """Solve for the a at which weights (a + i)^power on 0, …, k have the mean ``target``."""
    steps = np.arange(k + 1)

    def excess(log_a: float) -> float:
        weights = (1.0 + steps / math.exp(log_a)) ** power
        return float((steps * weights).sum() / weights.sum()) - target

    low, high = math.log(_SMALLEST), math.log(_LARGEST)
    if excess(low) >= 0.0:
        return _SMALLEST
    return math.exp(brentq(excess, low, high)) if excess(high) > 0.0 else _LARGEST


def _tail(a: float, k: int, reach: int, target: float, power: float) -> float:
    """P(X >= reach) with weights (a + i)^power on 0, …, k and the weight at k + 1 that gives the mean ``target``."""
    steps = np.arange(k + 1)
    weights = (1.0 + steps / a) ** power
    last = (target * weights.sum() - (steps * weights).sum()) / (k + 1 - target)
    last = max(float(last), 0.0)
    return float((weights[reach:].sum() + last) / (weights.sum() + last))
