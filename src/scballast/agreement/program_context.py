"""What a program goes with: depth, batch, other populations' markers, and programs of other populations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from scballast.arrays import BoolArray, FloatArray, IntArray, divided

MARKER_CORRELATION = 0.4
COVARIATE_CORRELATION = 0.5
CATEGORY_SHARE = 0.25
MATCH_COSINE = 0.3
_CHANCE_DEVIATIONS = 5.0


@dataclass(frozen=True)
class Match:
    """A program of another population with the same genes."""

    population: int
    program: int
    cosine: float


def marker_correlations(loadings: FloatArray, mean_logs: FloatArray, population: int) -> FloatArray:
    """Correlate a program's loadings over genes with what sets each other population apart from this one.

    Doublets with another population, its counts in the ambient solution, and its cells under the wrong label all
    move a cell along the difference of the two population means, all genes at once. A program of the population
    itself does not.

    Parameters
    ----------
    loadings
        (n_genes, n_programs) natural-log units, up on the side of the active cells.
    mean_logs
        (n_populations, n_genes) mean log expression.
    population
        Row of the population that has the programs.

    Returns
    -------
    (n_populations, n_programs)
        Pearson correlation; NaN in the population's own row and for what does not vary.
    """
    differences = mean_logs - mean_logs[population]
    correlation = _pearson(differences.T, loadings)
    correlation[population] = np.nan
    return correlation


def covariate_correlation(activity: FloatArray, covariate: FloatArray) -> FloatArray:
    """Return the Spearman correlation of each activity with a number per cell; cells with NaN take no part."""
    result = np.full(activity.shape[1], np.nan)
    for column in range(activity.shape[1]):
        known = np.isfinite(activity[:, column]) & np.isfinite(covariate)
        if known.sum() >= 3 and np.ptp(activity[known, column]) > 0 and np.ptp(covariate[known]) > 0:
            result[column] = stats.spearmanr(activity[known, column], covariate[known]).statistic
    return result


def category_share(activity: FloatArray, codes: IntArray) -> FloatArray:
    r"""Return the share of each activity's variance that lies between groups of cells, less chance (ε²).

    .. math:: \varepsilon^2 = 1 - \frac{\mathrm{SS}_{within} / (n - k)}{\mathrm{SS}_{total} / (n - 1)}

    Parameters
    ----------
    activity
        (n_cells, n_programs); NaN: unknown.
    codes
        (n_cells,) group of each cell; negative: none.

    Returns
    -------
    (n_programs,) at most 1, 0 expected by chance; NaN with fewer than two groups.

    References
    ----------
    Kelley (1935), An unbiased correlation ratio measure.
    """
    result = np.full(activity.shape[1], np.nan)
    for column in range(activity.shape[1]):
        known = np.isfinite(activity[:, column]) & (codes >= 0)
        values, (groups, inside) = activity[known, column], np.unique(codes[known], return_inverse=True)
        total = float(((values - values.mean()) ** 2).sum()) if values.size else 0.0
        if groups.size < 2 or values.size <= groups.size or total == 0:
            continue
        means = np.bincount(inside, values) / np.bincount(inside)
        within = float(((values - means[inside]) ** 2).sum())
        result[column] = 1 - (within / (values.size - groups.size)) / (total / (values.size - 1))
    return result


def other_population_floor(half_weights: FloatArray, others: FloatArray) -> FloatArray:
    """Return the agreement of weights that programs of other populations usually have with each program.

    Abundant genes and depth draw the weights of any two populations together. The same match as between the two
    halves of one population: half against half. The median is not moved by the few programs that are shared.

    Parameters
    ----------
    half_weights
        (n_halves, n_genes, n_programs) of length 1.
    others
        (n_halves, n_genes, n_others) of programs that match none of these.

    Returns
    -------
    (n_programs,)
        Absolute cosine; 0 without others.
    """
    n_halves = min(len(half_weights), len(others))
    if n_halves == 0 or others.shape[2] == 0:
        return np.zeros(half_weights.shape[2])
    cosine = np.einsum("hgo,hgp->hop", others[:n_halves], half_weights[:n_halves])
    return np.asarray(np.median(np.abs(cosine).mean(axis=0), axis=0))


def matching_programs(weights: Sequence[FloatArray]) -> list[list[list[Match]]]:
    """Find, for every program of every population, the programs of others with the same genes.

    Parameters
    ----------
    weights
        By population, (n_genes, n_programs) with columns of length 1.

    Returns
    -------
    list
        By population and program: at most one match in each other population, best first. A match has a cosine
        of 0.3 or more, beyond 5 standard deviations of chance over genes.
    """
    n_genes = weights[0].shape[0] if weights else 1
    least = max(MATCH_COSINE, _CHANCE_DEVIATIONS / np.sqrt(n_genes))
    by_population: list[list[list[Match]]] = []
    for here, ours in enumerate(weights):
        rows: list[list[Match]] = []
        for program in range(ours.shape[1]):
            matches = []
            for there, theirs in enumerate(weights):
                if there == here or theirs.shape[1] == 0:
                    continue
                cosine = theirs.T @ ours[:, program]
                best = int(np.argmax(np.abs(cosine)))
                if abs(cosine[best]) >= least:
                    matches.append(Match(there, best, float(cosine[best])))
            rows.append(sorted(matches, key=lambda match: -abs(match.cosine)))
        by_population.append(rows)
    return by_population


def has_both_sides(weights: FloatArray, listed: BoolArray, least: float = 0.2) -> BoolArray:
    """Say which programs have genes up and genes down: each side holds a fifth of the listed genes or more.

    Parameters
    ----------
    weights, listed
        (n_genes, n_programs).
    """
    n_listed = np.maximum(listed.sum(axis=0), 1)
    up, down = ((listed & side).sum(axis=0) / n_listed for side in (weights > 0, weights < 0))
    return np.asarray((up >= least) & (down >= least))


def _pearson(first: FloatArray, second: FloatArray) -> FloatArray:
    """Correlate the columns of one matrix with those of another: (n_first, n_second)."""
    centred_first, centred_second = first - first.mean(axis=0), second - second.mean(axis=0)
    length = np.outer(np.sqrt((centred_first**2).sum(axis=0)), np.sqrt((centred_second**2).sum(axis=0)))
    return divided(centred_first.T @ centred_second, length, np.nan)
