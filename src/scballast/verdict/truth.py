"""How well rankings find what was planted: average precision and precision at k; simulated data only."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from scballast.agreement.ranking import rank_spans, top_k
from scballast.agreement.statistic import Statistic, undefined
from scballast.arrays import BoolArray, FloatArray
from scballast.data.simulate import Truth
from scballast.verdict.score_set import ScoreSet


def average_precision(scores: npt.ArrayLike, positives: npt.ArrayLike) -> Statistic:
    r"""Area under the precision-recall steps of a score.

    .. math:: \mathrm{AP} = \sum_t (R_t - R_{t-1}) P_t

    over the distinct scores t from the highest down, with precision :math:`P_t` and recall :math:`R_t` of the
    genes that score at least t: tied genes enter together, so their order does not matter.

    Parameters
    ----------
    scores : (n_genes,) float
        Higher is stronger. NaN: no score; such genes come last, tied.
    positives : (n_genes,) bool
        The planted genes.

    Returns
    -------
    Statistic
        In (0, 1]; 1 when every planted gene scores above every other; about the share of planted genes by
        chance. NaN with a reason when no gene is planted or none has a score.

    Raises
    ------
    ValueError
        The vectors differ in length.

    References
    ----------
    Manning, Raghavan & Schütze (2008), Introduction to information retrieval, ch. 8; the variant of
    ``sklearn.metrics.average_precision_score``, without interpolation.

    Examples
    --------
    >>> round(float(average_precision([3.0, 2.0, 1.0], [1, 0, 1])), 3)
    0.833
    """
    values, planted = np.asarray(scores, dtype=np.float64), np.asarray(positives, dtype=bool)
    _same_length(values, planted)
    n_planted = int(planted.sum())
    if n_planted == 0:
        return undefined("no gene is planted")
    if np.isnan(values).all():
        return undefined("no gene has a score")
    values = np.where(np.isnan(values), -np.inf, values)
    order = np.argsort(-values, kind="stable")
    ordered = values[order]
    ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), values.size - 1)
    true_positives = np.cumsum(planted[order])[ends]
    gained = np.diff(true_positives, prepend=0)
    return Statistic(float((gained * true_positives / (ends + 1)).sum() / n_planted))


def precision_at_k(ranks: npt.ArrayLike, positives: npt.ArrayLike, k: int) -> Statistic:
    """Share of planted genes among the k best.

    Parameters
    ----------
    ranks : (n_genes,) int
        1 is the best, each rank used once.
    positives : (n_genes,) bool
        The planted genes.
    k
        Genes selected, at least 1; with fewer than k planted genes the share cannot reach 1.

    Returns
    -------
    Statistic
        In [0, 1]. NaN with a reason when k exceeds the number of genes, or no gene is planted.

    Raises
    ------
    ValueError
        The vectors differ in length, or k is below 1.

    Examples
    --------
    >>> float(precision_at_k([1, 2, 3], [1, 0, 1], 2))
    0.5
    """
    values, planted = np.asarray(ranks), np.asarray(positives, dtype=bool)
    _same_length(values, planted)
    if k < 1:
        message = f"k must be at least 1, got {k}"
        raise ValueError(message)
    if k > values.size:
        return undefined(f"k = {k} exceeds the {values.size} genes")
    if not planted.any():
        return undefined("no gene is planted")
    return Statistic(float(planted[top_k(values, k)].mean()))


def truth_table(score_set: ScoreSet, truth: Truth, k: int) -> pd.DataFrame:
    """Every method's rankings against the truth of its estimand.

    Parameters
    ----------
    score_set
        Scores and ranks, genes in the order of the truth's columns.
    truth
        Planted sets, and the continuous truths: the marker effect and the program variance.
    k
        Of precision at k.

    Returns
    -------
    DataFrame
        method, estimand, population, replicate, average_precision, precision_at_k, k, spearman (of the scores
        with the continuous truth, over all genes), chance (the share of planted genes), reason. One row for
        each list; a list without scores has NaN, as have the precisions where no gene is planted.

    Raises
    ------
    ValueError
        The truth has other genes, or lacks a population.
    """
    if truth.marker_effect.shape[1] != len(score_set.genes):
        message = f"the truth has {truth.marker_effect.shape[1]} genes, the scores {len(score_set.genes)}"
        raise ValueError(message)
    missing = [name for name in score_set.populations if name not in truth.populations]
    if missing:
        message = f"the truth lacks the populations {missing}; it has {list(truth.populations)}"
        raise ValueError(message)
    truth_rows = [truth.populations.index(name) for name in score_set.populations]
    planted = {"marker": truth.marker_sets, "program": truth.program_sets}
    midranks = {
        "marker": rank_spans(truth.marker_effect).midranks,
        "program": rank_spans(truth.program_variance).midranks,
    }
    rows = []
    for method in score_set.methods:
        if method.estimand not in planted:
            continue
        scores, ranks = score_set.scores[method.name], score_set.ranks[method.name]
        scored = score_set.scored(method.name)
        for position, truth_row in enumerate(truth_rows):
            positives = planted[method.estimand][truth_row]
            for replicate in range(score_set.n_replicates):
                gene_scores = scores[replicate, position]
                no_score = undefined("no score")
                has = bool(scored[replicate, position])
                precision = precision_at_k(ranks[replicate, position], positives, k) if has else no_score
                area = average_precision(gene_scores, positives) if has else no_score
                rows.append(
                    {
                        "method": method.name,
                        "estimand": method.estimand,
                        "population": score_set.populations[position],
                        "replicate": replicate,
                        "average_precision": float(area),
                        "precision_at_k": float(precision),
                        "k": k,
                        "spearman": _correlation(gene_scores, midranks[method.estimand][truth_row]) if has else np.nan,
                        "chance": float(positives.mean()),
                        "reason": area.reason or precision.reason,
                    }
                )
    columns = ["method", "estimand", "population", "replicate", "average_precision", "precision_at_k", "k"]
    return pd.DataFrame(rows, columns=[*columns, "spearman", "chance", "reason"])


def _correlation(scores: FloatArray, truth_midranks: FloatArray) -> float:
    """Spearman's correlation; NaN where either side is tied throughout."""
    midranks = rank_spans(scores).midranks
    centred, truth_centred = midranks - midranks.mean(), truth_midranks - truth_midranks.mean()
    size = float(np.sqrt((centred @ centred) * (truth_centred @ truth_centred)))
    return float(centred @ truth_centred) / size if size > 0 else float("nan")


def _same_length(values: npt.NDArray[Any], positives: BoolArray) -> None:
    if values.ndim != 1 or values.shape != positives.shape:
        message = f"scores or ranks {values.shape} and positives {positives.shape} must be vectors of one length"
        raise ValueError(message)
