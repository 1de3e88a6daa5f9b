"""Agreement of the factors of a linear model between replicates: matched one by one, and as a space.

Pure functions of loadings (gene × factor); numpy and scipy only. Columns are centred over genes, for training does
not fix their means. Loadings of ``latent_distribution=ln`` must come with their rows centred as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg, optimize

from scballast.agreement.arguments import require
from scballast.agreement.statistic import Statistic
from scballast.arrays import FloatArray

_N_PERMUTATIONS = 20


@dataclass(frozen=True)
class FactorMatch:
    """Factors of two models matched one to one.

    Attributes
    ----------
    mean_correlation
        Mean absolute Pearson correlation of the matched, centred loadings, 0 for a constant factor; as many are matched
        as the smaller model has.
    null
        The mean that matching finds when the genes of one model are permuted.
    """

    mean_correlation: float
    null: float


def match_factors(first: npt.ArrayLike, second: npt.ArrayLike, *, seed: int = 0) -> FactorMatch:
    """Match factors by the assignment with the largest sum of absolute correlations.

    Parameters
    ----------
    first, second : (n_genes, n_factors) float
        Loadings; the numbers of factors may differ.
    seed
        Of the orders of the genes that the null is the mean over.

    Returns
    -------
    FactorMatch
        NaN when every factor of a model is constant.

    Raises
    ------
    ValueError
        Not two matrices over the same genes, fewer than 2 genes, or values that are not finite.

    Examples
    --------
    >>> loadings = np.eye(6)[:, :2]
    >>> match_factors(loadings, -loadings[:, ::-1], seed=0).mean_correlation
    1.0
    """
    first_unit, second_unit = (_unit_columns(loadings) for loadings in _loading_pair(first, second))
    if not (first_unit.any() and second_unit.any()):
        return FactorMatch(math.nan, math.nan)
    generator = np.random.default_rng(seed)
    orders = (generator.permutation(len(second_unit)) for _ in range(_N_PERMUTATIONS))
    null = float(np.mean([_matched_mean(np.abs(first_unit.T @ second_unit[order])) for order in orders]))
    return FactorMatch(_matched_mean(np.abs(first_unit.T @ second_unit)), null)


class SubspaceAgreement(Statistic):
    """Mean squared cosine of the principal angles between two loading spaces.

    Attributes
    ----------
    chance
        What two random spaces of these dimensions reach on average, about n_factors / n_genes.
    reason
        Why it is undefined; empty when it is defined.
    """

    chance: float = math.nan


def subspace_agreement(first: npt.ArrayLike, second: npt.ArrayLike) -> SubspaceAgreement:
    r"""Agreement of the spaces that centred loadings span: blind to rotation, sign, order and scale of factors.

    .. math:: \frac{1}{r}\sum_{i=1}^{r}\cos^2\theta_i

    with :math:`\theta_i` the principal angles and r the smaller of the two ranks.

    Parameters
    ----------
    first, second : (n_genes, n_factors) float
        Loadings; the numbers of factors may differ.

    Returns
    -------
    SubspaceAgreement
        In [0, 1]. By chance the larger rank divided by ``n_genes - 1``, the dimension of centred vectors. NaN when
        every factor of a model is constant.

    Raises
    ------
    ValueError
        Not two matrices over the same genes, fewer than 2 genes, or values that are not finite.

    References
    ----------
    Björck & Golub (1973), Numerical methods for computing angles between linear subspaces.

    Examples
    --------
    >>> loadings = np.eye(6)[:, :2]
    >>> round(float(subspace_agreement(loadings, loadings[:, ::-1])), 6)
    1.0
    """
    first_basis, second_basis = (linalg.orth(_unit_columns(loadings)) for loadings in _loading_pair(first, second))
    smaller, larger = sorted((first_basis.shape[1], second_basis.shape[1]))
    if smaller == 0:
        return SubspaceAgreement(math.nan, "every factor is constant")
    cosines = linalg.svdvals(first_basis.T @ second_basis)
    return SubspaceAgreement(
        float(np.sum(np.minimum(cosines, 1.0) ** 2)) / smaller, chance=larger / (first_basis.shape[0] - 1.0)
    )


def _matched_mean(correlations: FloatArray) -> float:
    rows, columns = optimize.linear_sum_assignment(correlations, maximize=True)
    return float(correlations[rows, columns].mean())


def _unit_columns(loadings: FloatArray) -> FloatArray:
    """Centre each column and scale it to length 1; constant columns become 0."""
    centred = loadings - loadings.mean(axis=0)
    length = np.sqrt((centred**2).sum(axis=0))
    # What is left of a constant column after centring is rounding, and must not be blown up to length 1.
    varies = length > 1e-12 * np.sqrt((loadings**2).sum(axis=0))
    return np.asarray(np.divide(centred, length, out=np.zeros_like(centred), where=varies))


def _loading_pair(first: npt.ArrayLike, second: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    left, right = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if left.ndim != 2 or right.ndim != 2 or left.shape[0] != right.shape[0] or 0 in left.shape + right.shape:
        message = f"loadings must be gene × factor matrices over the same genes, got {left.shape} and {right.shape}"
        raise ValueError(message)
    require(left.shape[0] >= 2, "loadings need at least 2 genes")
    require(np.isfinite(left).all() and np.isfinite(right).all(), "loadings must be finite")
    return left, right
