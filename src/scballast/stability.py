"""Stability: how much the gene lists of one method agree across replicates.

Pure functions of arrays; numpy and scipy only. Selections are (n_replicates, n_genes) booleans, scores
(n_replicates, n_genes) reals of which higher is stronger. What is undefined is NaN with the reason
(``Statistic.reason``); what is wrong raises ``ValueError``.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from .overlap import expected_overlap, pairwise_expected_overlap, rank_biased_weights
from .ranking import FloatArray, IntArray, rank_spans
from .statistic import Interval, Statistic, undefined


def nogueira_stability(selections: npt.ArrayLike) -> Statistic:
    r"""Stability of gene selections, corrected for chance.

    .. math:: \hat\Phi = 1 - \frac{\frac{1}{G}\sum_g \frac{M}{M-1}\hat p_g(1-\hat p_g)}
              {\frac{\bar k}{G}(1-\frac{\bar k}{G})}

    Parameters
    ----------
    selections : (n_replicates, n_genes) bool or 0/1
        The sizes of the selections may differ.

    Returns
    -------
    Statistic
        Dimensionless, at most 1; 1 identical selections, 0 expected by chance. NaN with one replicate, or when
        no gene or every gene is selected. At equal sizes the mean pairwise Kuncheva index.

    Raises
    ------
    ValueError
        Not a matrix of 0 and 1.

    References
    ----------
    Nogueira, Sechidis & Brown (2018), On the stability of feature selection algorithms, JMLR 18(174), Def. 4.
    """
    selected = _selection_matrix(selections)
    reason = _undefined_selections(selected)
    if reason:
        return undefined(reason)
    n_replicates = selected.shape[0]
    frequency = selected.mean(axis=0)
    share = frequency.mean()
    variance = n_replicates / (n_replicates - 1) * np.mean(frequency * (1.0 - frequency))
    return Statistic(1.0 - variance / (share * (1.0 - share)))


def nogueira_variance(selections: npt.ArrayLike) -> Statistic:
    r"""Variance of Nogueira's stability by its authors' formula, for reference.

    .. math:: v(\hat\Phi) = \frac{4}{M^2}\sum_i (\hat\phi_i - \bar\phi)^2

    The project's own interval is ``jackknife_interval``: with 10 replicates the normal interval on this variance
    covers too seldom.

    Parameters
    ----------
    selections : (n_replicates, n_genes) bool or 0/1

    Returns
    -------
    Statistic
        NaN with one replicate, or when no gene or every gene is selected.

    Raises
    ------
    ValueError
        Not a matrix of 0 and 1.

    References
    ----------
    Nogueira, Sechidis & Brown (2018), JMLR 18(174), Theorem 7.
    """
    selected = _selection_matrix(selections)
    reason = _undefined_selections(selected)
    if reason:
        return undefined(reason)
    n_replicates, n_genes = selected.shape
    stability = float(nogueira_stability(selected))
    frequency = selected.mean(axis=0)
    share = frequency.mean()  # of the genes selected, over replicates
    own_share = selected.mean(axis=1)  # (replicate,)
    common = selected @ frequency / n_genes  # (replicate,)
    influence = (common - own_share * share + stability / 2.0 * (2.0 * own_share * share - own_share - share + 1.0)) / (
        share * (1.0 - share)
    )
    return Statistic(4.0 / n_replicates**2 * np.sum((influence - influence.mean()) ** 2))


def kuncheva_index(first: npt.ArrayLike, second: npt.ArrayLike) -> Statistic:
    r"""Chance-corrected overlap of two gene selections of equal size.

    .. math:: \frac{r - k^2/G}{k - k^2/G}

    Parameters
    ----------
    first, second : (n_genes,) bool or 0/1
        Selections with the same number k of genes, r of them in common.

    Returns
    -------
    Statistic
        Dimensionless, in [-1, 1]; 1 identical, 0 expected by chance. NaN when no gene or every gene is selected.

    Raises
    ------
    ValueError
        The selections differ in size or length, or are not 0 and 1.

    References
    ----------
    Kuncheva (2007), A stability index for feature selection.
    """
    one, other = _selection_pair(first, second)
    k, n_genes = one.sum(), one.size
    if k != other.sum():
        message = f"the selections must have one size, got {int(k)} and {int(other.sum())} genes"
        raise ValueError(message)
    reason = _degenerate_size(k, n_genes)
    if reason:
        return undefined(reason)
    expected = k**2 / n_genes
    return Statistic((one @ other - expected) / (k - expected))


def jaccard_index(first: npt.ArrayLike, second: npt.ArrayLike) -> Statistic:
    """Shared genes as a share of the genes in either selection; not corrected for chance.

    Parameters
    ----------
    first, second : (n_genes,) bool or 0/1
        Selections, of equal or different sizes.

    Returns
    -------
    Statistic
        In [0, 1]. NaN when both are empty.

    Raises
    ------
    ValueError
        The selections differ in length, or are not 0 and 1.

    References
    ----------
    Jaccard (1901), Étude comparative de la distribution florale.
    """
    one, other = _selection_pair(first, second)
    either = np.maximum(one, other).sum()
    if either == 0:
        return undefined("no gene is selected")
    return Statistic(one @ other / either)


def pairwise_kuncheva(selections: npt.ArrayLike) -> FloatArray:
    """Kuncheva's index of every pair of selections of one size.

    Parameters
    ----------
    selections : (n_replicates, n_genes) bool or 0/1
        Selections with the same number of genes.

    Returns
    -------
    (n_replicates, n_replicates) float
        Symmetric, 1 on the diagonal; all NaN when no gene or every gene is selected.

    Raises
    ------
    ValueError
        Not a matrix of 0 and 1, or the sizes differ.
    """
    selected = _selection_matrix(selections)
    sizes = selected.sum(axis=1)
    if np.any(sizes != sizes[0]):
        message = f"the selections must have one size, got {int(sizes.min())} to {int(sizes.max())} genes"
        raise ValueError(message)
    n_replicates, n_genes = selected.shape
    if _degenerate_size(sizes[0], n_genes):
        return np.full((n_replicates, n_replicates), np.nan)
    expected = sizes[0] ** 2 / n_genes
    index: FloatArray = (selected @ selected.T - expected) / (sizes[0] - expected)
    return index


def jackknife_interval(similarities: npt.ArrayLike, level: float = 0.95) -> Interval:
    r"""Interval of a mean pairwise similarity, by the jackknife over replicates.

    .. math:: SE^2 = \frac{4(M-1)}{M(M-2)^2}\sum_i (r_i - u)^2

    with u the mean over pairs and :math:`r_i` the mean over the pairs that have replicate i; Student's t with
    M - 1 degrees of freedom. The pairs are not independent, the replicates are.

    Parameters
    ----------
    similarities : (n_replicates, n_replicates) float
        Symmetric; the diagonal is not used. A difference between two methods: give the difference of their
        matrices, which deletes the same replicate from both.
    level
        Nominal coverage, in (0, 1).

    Returns
    -------
    Interval
        With one replicate all NaN; with two the estimate alone; NaN similarities make all of it NaN.

    Raises
    ------
    ValueError
        Not a symmetric matrix, or the level is not in (0, 1).

    References
    ----------
    Arvesen (1969), Jackknifing U-statistics, Annals of Mathematical Statistics 40.
    """
    matrix = np.array(similarities, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] == 0:
        message = f"similarities must be a square replicate × replicate matrix, got shape {matrix.shape}"
        raise ValueError(message)
    _check_level(level)
    n_replicates = matrix.shape[0]
    np.fill_diagonal(matrix, 0.0)
    if not np.allclose(matrix, matrix.T, rtol=1e-9, atol=1e-9, equal_nan=True):
        message = "similarities must be symmetric"
        raise ValueError(message)
    if n_replicates == 1:
        return Interval(math.nan, math.nan, math.nan, math.nan, level, "one replicate has no pairs")
    if not np.all(np.isfinite(matrix)):
        return Interval(math.nan, math.nan, math.nan, math.nan, level, "a similarity is not a finite number")
    per_replicate = matrix.sum(axis=1) / (n_replicates - 1)
    mean = float(per_replicate.mean())
    if n_replicates == 2:
        return Interval(mean, math.nan, math.nan, math.nan, level, "an interval needs at least 3 replicates")
    variance = 4.0 * (n_replicates - 1) / (n_replicates * (n_replicates - 2) ** 2)
    error = math.sqrt(variance * float(np.sum((per_replicate - mean) ** 2)))
    return t_interval(mean, error, n_replicates - 1, level)


def mean_interval(values: npt.ArrayLike, level: float = 0.95) -> Interval:
    """Interval of a mean over replicates; the jackknife of a mean is Student's interval.

    Parameters
    ----------
    values : (n_replicates,) float
        One value per replicate.
    level
        Nominal coverage, in (0, 1).

    Returns
    -------
    Interval
        With fewer than 3 replicates the estimate alone; NaN values make all of it NaN.

    Raises
    ------
    ValueError
        Not a vector, or the level is not in (0, 1).
    """
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1:
        message = f"values must be one number per replicate, got shape {vector.shape}"
        raise ValueError(message)
    _check_level(level)
    if vector.size == 0:
        return Interval(math.nan, math.nan, math.nan, math.nan, level, "no replicate has a value")
    if not np.all(np.isfinite(vector)):
        return Interval(math.nan, math.nan, math.nan, math.nan, level, "a value is not a finite number")
    mean = float(vector.mean())
    if vector.size < 3:
        return Interval(mean, math.nan, math.nan, math.nan, level, "an interval needs at least 3 replicates")
    return t_interval(mean, float(vector.std(ddof=1)) / math.sqrt(vector.size), vector.size - 1, level)


def t_interval(estimate: float, error: float, degrees: int, level: float) -> Interval:
    """Student's t interval with ``degrees`` degrees of freedom around an estimate."""
    half = float(stats.t.ppf(0.5 + level / 2.0, degrees)) * error
    return Interval(estimate, estimate - half, estimate + half, error, level)


def rank_biased_overlap(first: npt.ArrayLike, second: npt.ArrayLike, p: float = 0.98) -> Statistic:
    r"""Extrapolated rank-biased overlap of two score vectors: top-weighted agreement of complete rankings.

    .. math:: RBO_{EXT} = \frac{1-p}{p}\sum_{d=1}^{G}\frac{X_d}{d}p^d + \frac{X_G}{G}p^G

    with :math:`X_d` the expected number of genes that both rankings have among their first d when ties are broken
    at random: the result is the mean over all tie-breakings.

    Parameters
    ----------
    first, second : (n_genes,) float
        Scores of the same genes, higher is stronger; ties allowed.
    p
        Persistence, in (0, 1): with 0.98 the first 50 genes carry 86% of the weight.

    Returns
    -------
    Statistic
        In [0, 1]; 1 only for identical rankings without ties at the top. NaN when a score is NaN.

    Raises
    ------
    ValueError
        The vectors differ in length or are empty, or p is not in (0, 1).

    References
    ----------
    Webber, Moffat & Zobel (2010), A similarity measure for indefinite rankings, eq. 30.
    Corsi & Urbano (2024), The treatment of ties in rank-biased overlap (variant a).
    """
    one, other = score_pair(first, second)
    _check_persistence(p)
    if np.isnan(one).any() or np.isnan(other).any():
        return undefined("a score is NaN")
    weights = rank_biased_weights(one.size, p)
    return Statistic(float(expected_overlap(rank_spans(one), rank_spans(other), weights)))


def pairwise_rank_biased_overlap(scores: npt.ArrayLike, p: float = 0.98) -> FloatArray:
    """Rank-biased overlap of every pair of replicates.

    Parameters
    ----------
    scores : (n_replicates, n_genes) float
        Higher is stronger; genes with a NaN score are tied at the end of their ranking.
    p
        Persistence, in (0, 1).

    Returns
    -------
    (n_replicates, n_replicates) float
        Symmetric; on the diagonal each ranking with an independent tie-breaking of itself.

    Raises
    ------
    ValueError
        Not a matrix, or p is not in (0, 1).
    """
    matrix = score_matrix(scores)
    _check_persistence(p)
    return pairwise_expected_overlap(rank_spans(matrix), rank_biased_weights(matrix.shape[1], p))


def rank_biased_overlap_lists(first: Sequence[Hashable], second: Sequence[Hashable], p: float = 0.98) -> Statistic:
    r"""Extrapolated rank-biased overlap of two ranked lists, of equal or unequal length.

    .. math:: \frac{1-p}{p}\left(\sum_{d=1}^{l}\frac{X_d}{d}p^d + \sum_{d=s+1}^{l}\frac{X_s(d-s)}{sd}p^d\right)
              + \left(\frac{X_l-X_s}{l}+\frac{X_s}{s}\right)p^l

    Parameters
    ----------
    first, second : sequence of hashable
        Items from best to worst, without ties; the lists need not share items. s and l are the lengths of the
        shorter and the longer list.
    p
        Persistence, in (0, 1).

    Returns
    -------
    Statistic
        In [0, 1]. NaN when a list is empty: there is no agreement to extrapolate.

    Raises
    ------
    ValueError
        A list names an item twice, or p is not in (0, 1).

    References
    ----------
    Webber, Moffat & Zobel (2010), A similarity measure for indefinite rankings, eq. 32.
    """
    _check_persistence(p)
    shorter, longer = sorted((list(first), list(second)), key=len)
    for items in (shorter, longer):
        if len(set(items)) != len(items):
            message = "a ranked list names an item twice"
            raise ValueError(message)
    n_short, n_long = len(shorter), len(longer)
    if n_short == 0:
        return undefined("a ranked list is empty")
    position = {item: depth for depth, item in enumerate(longer, start=1)}
    enters = np.zeros(n_long + 1)  # how many common items enter the overlap at each depth
    for depth, item in enumerate(shorter, start=1):
        if item in position:
            enters[max(depth, position[item])] += 1
    overlap = np.cumsum(enters)[1:]  # (n_long,)
    depths = np.arange(1, n_long + 1)
    seen_short = overlap[n_short - 1]
    agreement = overlap / depths
    agreement[n_short:] += seen_short * (depths[n_short:] - n_short) / (n_short * depths[n_short:])
    return Statistic((1.0 - p) * np.sum(agreement * p ** (depths - 1.0)) + agreement[-1] * p**n_long)


class KendallW(Statistic):
    r"""Kendall's W, and its chance-corrected form.

    Attributes
    ----------
    chance_corrected
        :math:`(mW - 1)/(m - 1)`, the mean pairwise Spearman correlation when no replicate has ties; 0 by chance.
    reason
        Why W is undefined; empty when it is defined.
    """

    __slots__ = ("chance_corrected",)
    chance_corrected: float

    def __new__(cls, value: float, reason: str = "", chance_corrected: float = math.nan) -> KendallW:
        """Keep the chance-corrected form beside W."""
        self = super().__new__(cls, value, reason)
        object.__setattr__(self, "chance_corrected", float(chance_corrected))
        assert isinstance(self, KendallW)
        return self

    def __reduce__(self) -> tuple[type[KendallW], tuple[float, str, float]]:
        return type(self), (float(self), self.reason, self.chance_corrected)


def kendall_w(scores: npt.ArrayLike) -> KendallW:
    r"""Kendall's coefficient of concordance between replicates, corrected for ties.

    .. math:: W = \frac{12\sum_g (R_g - \bar R)^2}{m^2(G^3 - G) - m\sum_i\sum_t (t^3 - t)}

    with :math:`R_g` the sum of the midranks of gene g over the m replicates, and t the sizes of the groups of tied
    genes in replicate i.

    Parameters
    ----------
    scores : (n_replicates, n_genes) float
        One ranking per row: the replicates are the raters, the genes the items.

    Returns
    -------
    KendallW
        In [0, 1], 1/m expected by chance; ``chance_corrected`` is :math:`(mW - 1)/(m - 1)`. NaN with one
        replicate, one gene, a NaN score, or when every replicate ties all genes.

    Raises
    ------
    ValueError
        Not a matrix of scores.

    References
    ----------
    Kendall & Gibbons (1990), Rank correlation methods, 5th ed., eq. 6.13.
    """
    matrix = score_matrix(scores)
    n_replicates, n_genes = matrix.shape
    if n_replicates == 1:
        return KendallW(math.nan, "one replicate agrees with nothing but itself")
    if n_genes == 1:
        return KendallW(math.nan, "one gene cannot be ranked")
    if np.isnan(matrix).any():
        return KendallW(math.nan, "a score is NaN")
    spans = rank_spans(matrix)
    tied = spans.bottom - spans.top + 1.0
    correction = np.sum(tied**2 - 1.0)  # each of the t genes of a group adds its share of t³ - t
    sums = spans.midranks.sum(axis=0)
    spread = np.sum((sums - sums.mean()) ** 2)
    most = n_replicates**2 * (float(n_genes) ** 3 - n_genes) - n_replicates * correction
    if most <= 0.0:
        return KendallW(math.nan, "every replicate ties all genes")
    w = 12.0 * spread / most
    return KendallW(w, chance_corrected=(n_replicates * w - 1.0) / (n_replicates - 1.0))


def selection_frequency(selections: npt.ArrayLike) -> FloatArray:
    """Share of the replicates that select each gene.

    Parameters
    ----------
    selections : (n_replicates, n_genes) bool or 0/1

    Returns
    -------
    (n_genes,) float
        In [0, 1].

    Raises
    ------
    ValueError
        Not a matrix of 0 and 1.
    """
    frequency: FloatArray = _selection_matrix(selections).mean(axis=0)
    return frequency


@dataclass(frozen=True)
class ConsensusRanking:
    """One ranking out of many.

    Attributes
    ----------
    order : (n_genes,) int
        Gene positions from best to worst.
    ranks : (n_genes,) int
        Rank of each gene, 1 is the best, each used once.
    mean_rank : (n_genes,) float
        Mean midrank over the replicates (Borda); NaN where ``reason`` is given.
    frequency : (n_genes,) float
        Share of the replicates that select the gene.
    reason
        Why there is no consensus; empty when there is one.
    """

    order: IntArray
    ranks: IntArray
    mean_rank: FloatArray
    frequency: FloatArray
    reason: str = ""


def consensus_ranking(
    scores: npt.ArrayLike, selections: npt.ArrayLike | None = None, tie_keys: npt.ArrayLike | None = None
) -> ConsensusRanking:
    """Order the genes by their mean midrank over replicates (Borda), ties by selection frequency.

    Parameters
    ----------
    scores : (n_replicates, n_genes) float
        Higher is stronger. Genes with a NaN score are tied at the end; a replicate without any score is left out.
    selections : (n_replicates, n_genes) bool, optional
        Top-k selections; without them the frequency is that of the best 50 genes (or fewer than all of them), a
        gene tied at the boundary counting with its chance of being among them.
    tie_keys : (n_genes,) sortable, optional
        Settles what is tied in frequency too (``ranking.tie_keys``); without it, gene position does.

    Returns
    -------
    ConsensusRanking

    Raises
    ------
    ValueError
        Not a matrix of scores, or the selections or keys do not fit it.
    """
    matrix = score_matrix(scores)
    n_genes = matrix.shape[1]
    scored = ~np.isnan(matrix).all(axis=1)
    spans = rank_spans(matrix[scored])
    if selections is None:
        k = min(50, max(1, n_genes - 1))
        chosen = np.clip((k - spans.top + 1.0) / (spans.bottom - spans.top + 1.0), 0.0, 1.0)
    else:
        chosen = _selection_matrix(selections)
        if chosen.shape != matrix.shape:
            message = f"selections {chosen.shape} do not fit scores {matrix.shape}"
            raise ValueError(message)
        chosen = chosen[scored]
    keys = np.arange(n_genes) if tie_keys is None else np.asarray(tie_keys)
    if keys.shape != (n_genes,):
        message = f"tie keys {keys.shape} do not fit {n_genes} genes"
        raise ValueError(message)
    if not scored.any():
        nothing = np.full(n_genes, np.nan)
        unordered = np.lexsort((keys,))
        return ConsensusRanking(unordered, _invert(unordered), nothing, nothing, "no replicate has a score")
    mean_rank, frequency = spans.midranks.mean(axis=0), chosen.mean(axis=0)
    order = np.lexsort((keys, -frequency, mean_rank))
    return ConsensusRanking(order, _invert(order), mean_rank, frequency)


def selection_error_bound(n_selected: float, n_genes: int, threshold: float) -> Statistic:
    r"""Bound on the expected number of falsely selected genes in stability selection.

    .. math:: E[V] \le \frac{q^2}{(2\pi - 1) G}

    It holds for subsamples of half the cells under exchangeability; replicates that differ by seed alone carry no
    such guarantee.

    Parameters
    ----------
    n_selected
        q, the (mean) number of genes that each replicate selects, at most ``n_genes``.
    n_genes
        G, the number of genes.
    threshold
        π, the selection frequency from which a gene is kept, in (0.5, 1].

    Returns
    -------
    Statistic
        Number of genes.

    Raises
    ------
    ValueError
        A number outside its range.

    References
    ----------
    Meinshausen & Bühlmann (2010), Stability selection, JRSS B 72, Theorem 1.
    """
    if not (n_genes > 0 and 0 <= n_selected <= n_genes):
        message = f"need 0 <= n_selected <= n_genes and n_genes > 0, got {n_selected} of {n_genes}"
        raise ValueError(message)
    if not 0.5 < threshold <= 1.0:
        message = f"threshold must be in (0.5, 1], got {threshold}: the bound does not exist at or below one half"
        raise ValueError(message)
    return Statistic(n_selected**2 / ((2.0 * threshold - 1.0) * n_genes))


def score_matrix(scores: npt.ArrayLike) -> FloatArray:
    """Check and return (n_replicates, n_genes) scores as float64."""
    matrix = np.asarray(scores, dtype=np.float64)
    if matrix.ndim != 2 or 0 in matrix.shape:
        message = f"scores must be a replicate × gene matrix, got shape {matrix.shape}"
        raise ValueError(message)
    return matrix


def score_pair(first: npt.ArrayLike, second: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Check and return two score vectors of the same genes as float64."""
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.ndim != 1 or one.shape != other.shape or one.size == 0:
        message = f"scores must be two vectors over the same genes, got shapes {one.shape} and {other.shape}"
        raise ValueError(message)
    return one, other


def _selection_matrix(selections: npt.ArrayLike) -> FloatArray:
    matrix = np.asarray(selections)
    if matrix.ndim != 2 or 0 in matrix.shape:
        message = f"selections must be a replicate × gene matrix, got shape {matrix.shape}"
        raise ValueError(message)
    return _zeros_and_ones(matrix)


def _selection_pair(first: npt.ArrayLike, second: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    one, other = np.asarray(first), np.asarray(second)
    if one.ndim != 1 or one.shape != other.shape or one.size == 0:
        message = f"selections must be two vectors over the same genes, got shapes {one.shape} and {other.shape}"
        raise ValueError(message)
    return _zeros_and_ones(one), _zeros_and_ones(other)


def _zeros_and_ones(values: npt.NDArray[np.generic]) -> FloatArray:
    numbers = values.astype(np.float64)
    if not np.all((numbers == 0.0) | (numbers == 1.0)):
        message = "selections must be booleans, or 0 and 1; scores and ranks are not selections"
        raise ValueError(message)
    return numbers


def _undefined_selections(selected: FloatArray) -> str:
    if selected.shape[0] == 1:
        return "one replicate has nothing to agree with"
    return _degenerate_size(selected.sum() / selected.shape[0], selected.shape[1])


def _degenerate_size(k: float, n_genes: int) -> str:
    if k == 0:
        return "no gene is selected"
    return "every gene is selected" if k >= n_genes else ""


def _invert(order: IntArray) -> IntArray:
    ranks = np.empty_like(order)
    ranks[order] = np.arange(1, len(order) + 1)
    return ranks


def _check_level(level: float) -> None:
    if not 0.0 < level < 1.0:
        message = f"level must be in (0, 1), got {level}"
        raise ValueError(message)


def _check_persistence(p: float) -> None:
    if not 0.0 < p < 1.0:
        message = f"p must be in (0, 1), got {p}"
        raise ValueError(message)
