"""Many tests at once: what may be said of a list of genes from their p-values.

Pure functions of arrays; numpy only. A NaN p-value is a gene that was not tested: it keeps NaN and counts for nothing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scballast.agreement.arguments import check_level, require
from scballast.arrays import FloatArray


def bh_q_values(p_values: npt.ArrayLike, n_tests: float | None = None) -> FloatArray:
    r"""Smallest false discovery rate at which each gene is found (Benjamini-Hochberg).

    .. math:: q_{(i)} = \min_{j \ge i} \frac{m\,p_{(j)}}{j}

    Parameters
    ----------
    p_values : (n_genes,) float
        In [0, 1]; NaN where a gene was not tested.
    n_tests
        m; default: the genes that were tested. Fewer where only m genes are looked at in each replicate and the others
        have a p-value of 1: weights of G/m and 0, which have a mean of 1 over the G genes (Genovese, Roeder & Wasserman
        2006, False discovery control with p-value weighting, Biometrika 93). A p-value of 1 is then never found: with
        its weight of 0 it has no place in the order, where m/G would make it small.

    Returns
    -------
    (n_genes,) float
        In [0, 1]; NaN where a gene was not tested.

    Raises
    ------
    ValueError
        Not a vector of p-values.

    References
    ----------
    Benjamini & Hochberg (1995), Controlling the false discovery rate, JRSS B 57.
    """
    p = _p_vector(p_values)
    if n_tests is None:
        return np.minimum(_step_up(p, int((~np.isnan(p)).sum())), 1.0)
    without_weight = p >= 1.0
    q = np.minimum(_step_up(np.where(without_weight, np.nan, p), n_tests), 1.0)
    q[without_weight] = 1.0
    return q


def adaptive_q_values(p_values: npt.ArrayLike, threshold: float = 0.5) -> FloatArray:
    r"""Benjamini-Hochberg q-values with the share of true null hypotheses estimated.

    .. math:: q = \min(1, \hat\pi_0\,q_{BH}), \quad \hat\pi_0 = \frac{1 + \#\{p > \lambda\}}{(1 - \lambda)\,m}

    and 1 where p > λ. The estimate may exceed 1: cut there, the rate would be
    exceeded where no gene is true. In a list of which nine tenths hold, Benjamini-Hochberg at 5% lets through 0.5% and
    misses what it could have found.

    Parameters
    ----------
    p_values : (n_genes,) float
        In [0, 1]; NaN where a gene was not tested.
    threshold
        λ, in (0, 1).

    Returns
    -------
    (n_genes,) float
        In [0, 1]; NaN where a gene was not tested.

    Raises
    ------
    ValueError
        Not a vector of p-values, or the threshold is not in (0, 1).

    References
    ----------
    Storey, Taylor & Siegmund (2004), Strong control, conservative point estimation and simultaneous conservative
    consistency of false discovery rates, JRSS B 66.
    """
    check_level(threshold)
    p = _p_vector(p_values)
    n_tests = int((~np.isnan(p)).sum())
    if n_tests == 0:
        return p
    null_share = (1.0 + float((p > threshold).sum())) / ((1.0 - threshold) * n_tests)
    q = np.minimum(_step_up(p, n_tests * null_share), 1.0)
    q[p > threshold] = 1.0
    return q


def true_share(p_values: npt.ArrayLike, threshold: float = 0.5) -> float:
    r"""Storey's estimate of the share of the tested genes whose null hypothesis is false.

    .. math:: \hat\pi = 1 - \frac{\#\{p > \lambda\}}{(1 - \lambda)\,m}

    cut to [0, 1].

    Parameters
    ----------
    p_values : (n_genes,) float
        In [0, 1]; NaN where a gene was not tested.
    threshold
        λ, in (0, 1): above it, only true null hypotheses are expected.

    Returns
    -------
    float
        In [0, 1]; NaN when no gene was tested.

    Raises
    ------
    ValueError
        Not a vector of p-values, or the threshold is not in (0, 1).

    References
    ----------
    Storey (2002), A direct approach to false discovery rates, JRSS B 64.
    """
    check_level(threshold)
    p = _p_vector(p_values)
    p = p[~np.isnan(p)]
    if p.size == 0:
        return float("nan")
    return float(np.clip(1.0 - np.mean(p > threshold) / (1.0 - threshold), 0.0, 1.0))


def true_lower_bound(p_values: npt.ArrayLike, selected: npt.ArrayLike | None = None, level: float = 0.95) -> int:
    r"""Lower bound on the number of selected genes whose null hypothesis is false, for all selections at once.

    Closed testing with Simes' local tests. With h the largest size of a set of genes that Simes' test does not
    reject (Hommel's number), the bound for a selection S is

    .. math:: \max_{1 \le u \le |S|} 1 - u + \#\{g \in S : h\,p_g \le u\,\alpha\}

    Simes' test is valid where the p-values of the true null hypotheses are independent or positively dependent, which
    one-sided tests of genes against one activity are; the bound holds whatever selection was made after the tests.

    Parameters
    ----------
    p_values : (n_genes,) float
        In [0, 1]; NaN where a gene was not tested.
    selected : (n_genes,) bool
        S; default: every gene.
    level
        Confidence 1 - α, in (0, 1).

    Returns
    -------
    int
        From 0 to the number of selected genes.

    Raises
    ------
    ValueError
        Not a vector of p-values, or the level is not in (0, 1).

    References
    ----------
    Goeman & Solari (2011), Multiple testing for exploratory research, Statistical Science 26;
    Goeman, Meijer, Krebs & Solari (2019), Simultaneous control of all false discovery proportions in large-scale
    multiple hypothesis testing, Biometrika 106 (the shortcut).
    """
    check_level(level)
    p = _p_vector(p_values)
    inside = np.ones(p.size, dtype=bool) if selected is None else np.asarray(selected, dtype=bool)
    tested = ~np.isnan(p)
    p_selected = np.sort(p[tested & inside])
    if p_selected.size == 0:
        return 0
    alpha = 1.0 - level
    scaled = hommel_number(p[tested], level) * p_selected
    u = np.arange(1, p_selected.size + 1)
    within = np.searchsorted(scaled, u * alpha, side="right")
    return int(max(0, np.max(1 - u + within)))


def hommel_number(p_values: npt.ArrayLike, level: float = 0.95) -> int:
    r"""Size of the largest set of hypotheses that Simes' test does not reject.

    .. math:: h = \max\{0 \le i \le m : i\,p_{(m-i+j)} > j\,\alpha \ \text{for all}\ j = 1, \dots, i\}

    Parameters
    ----------
    p_values : (n_genes,) float
        In [0, 1], none NaN.
    level
        Confidence 1 - α, in (0, 1).

    Returns
    -------
    int
        From 0 (every hypothesis is rejected) to m.

    References
    ----------
    Hommel (1988), A stagewise rejective multiple test procedure, Biometrika 75.
    """
    ordered = np.sort(np.asarray(p_values, dtype=np.float64))
    alpha = 1.0 - level
    limits = np.arange(1, ordered.size + 1) * alpha
    for size in range(ordered.size, 0, -1):
        # Of all sets of one size, that of the largest p-values is rejected last.
        if (size * ordered[ordered.size - size :] > limits[:size]).all():
            return size
    return 0


def combined_p_values(p_values: npt.ArrayLike) -> FloatArray:
    r"""Combine the p-values of replicates whose dependence is not known: twice the median.

    .. math:: p = \min(1, \tfrac{M}{k}\,p_{(k)}), \quad k = \lceil M/2 \rceil

    valid whatever the dependence between replicates, which share cells.

    Parameters
    ----------
    p_values : (n_replicates, n_genes) float
        In [0, 1]; NaN where a gene was not tested in a replicate.

    Returns
    -------
    (n_genes,) float
        NaN where a gene was tested in no replicate.

    References
    ----------
    Rüger (1978), Metrika 25 (rejecting where k of n tests reject); Meinshausen, Meier & Bühlmann (2009),
    p-values for high-dimensional regression, JASA 104.
    """
    matrix = np.asarray(p_values, dtype=np.float64)
    require(matrix.ndim == 2, f"p_values must be a replicate × gene matrix, got shape {matrix.shape}")
    ordered = np.sort(matrix, axis=0)  # NaN last
    counts = (~np.isnan(matrix)).sum(axis=0)
    combined = np.full(matrix.shape[1], np.nan)
    known = np.flatnonzero(counts)
    k = (counts[known] + 1) // 2
    combined[known] = np.minimum(1.0, ordered[k - 1, known] * counts[known] / k)
    return combined


def combined_lower_bound(bounds: npt.ArrayLike) -> float:
    """Combine the lower bounds of replicates whose dependence is not known: the lower median.

    With each bound at confidence 1 - α/2, the chance that half of them or more are wrong is at most α (Markov), so with
    confidence 1 - α more than half of the replicates' lists hold at least as many true genes as their own bound, and
    one of those bounds is at least this number.

    Parameters
    ----------
    bounds : (n_replicates,) float
        NaN where a replicate has none.

    Returns
    -------
    float
        NaN without bounds.
    """
    values = np.asarray(bounds, dtype=np.float64)
    values = np.sort(values[~np.isnan(values)])
    return float(values[(values.size - 1) // 2]) if values.size else float("nan")


def _step_up(p: FloatArray, n_tests: float) -> FloatArray:
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    raw = p[order] * n_tests / np.arange(1, order.size + 1)
    q = np.full(p.size, np.nan)
    q[order] = np.minimum.accumulate(raw[::-1])[::-1]
    return q


def _p_vector(p_values: npt.ArrayLike) -> FloatArray:
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or np.any((p < 0.0) | (p > 1.0)):
        message = f"p_values must be a vector of numbers in [0, 1], got shape {p.shape}"
        raise ValueError(message)
    return p
