"""From scores to ranks and selections, with ties that no gene order can settle.

A *score* is a real number per gene, higher is stronger; a *rank* an integer, 1 is best; a *selection* a
boolean, in the top k. This module is the only way from one to the next.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scballast.agreement.arguments import require
from scballast.arrays import BoolArray, FloatArray, IntArray

UInt64Array = npt.NDArray[np.uint64]


def tie_keys(genes: Sequence[str]) -> UInt64Array:
    """Stable 64-bit hash of each gene name.

    Parameters
    ----------
    genes : (n_genes,) str
        Gene names, in any order.

    Returns
    -------
    (n_genes,) uint64
        The same for the same name on every machine and in every Python process.
    """
    return np.array([_hash64(str(gene)) for gene in genes], dtype=np.uint64)


def rank_genes(scores: npt.ArrayLike, tie_keys: UInt64Array, *identity: int | str) -> IntArray:
    """Ranks of the genes by descending score, each rank used once.

    Ties are broken by a hash of the gene name and the identity: never by position, which would make an
    uninformative score look perfectly stable, and differently under each identity, for the same reason.

    Parameters
    ----------
    scores : (n_genes,) float
        Higher is stronger. NaN: no score; such genes come last.
    tie_keys : (n_genes,) uint64
        ``tie_keys(genes)``.
    *identity
        What the ranking belongs to: seed, method, population, replicate.

    Returns
    -------
    (n_genes,) int32
        1 is the best.

    Raises
    ------
    ValueError
        The scores are not one vector as long as the tie keys.

    Examples
    --------
    >>> keys = tie_keys(["CD3D", "MS4A1", "LYZ", "NKG7"])
    >>> rank_genes([0.1, 2.0, 1.5, 0.1], keys, 0)
    array([3, 1, 2, 4], dtype=int32)
    """
    values = np.asarray(scores)
    if values.ndim != 1 or values.shape != tie_keys.shape:
        message = f"scores {values.shape} and tie keys {tie_keys.shape} must be vectors of one length"
        raise ValueError(message)
    identity_hash = np.full(1, _hash64("\x1f".join(str(part) for part in identity)), dtype=np.uint64)
    order = np.lexsort((_mix(tie_keys ^ identity_hash), -values.astype(np.float64)))
    ranks = np.empty(len(values), dtype=np.int32)
    ranks[order] = np.arange(1, len(values) + 1, dtype=np.int32)
    return ranks


def top_k(ranks: IntArray, k: int) -> BoolArray:
    """Select the k best genes.

    Parameters
    ----------
    ranks : (..., n_genes) int
        1 is the best.
    k
        Number of genes to select, at least 0; with ``k >= n_genes`` every gene is selected.

    Returns
    -------
    (..., n_genes) bool

    Raises
    ------
    ValueError
        k is negative.

    Examples
    --------
    >>> top_k(np.array([3, 1, 2, 4]), 2)
    array([False,  True,  True, False])
    """
    require(k >= 0, f"k must be at least 0, got {k}")
    selected: BoolArray = np.asarray(ranks) <= k
    return selected


@dataclass(frozen=True)
class RankSpans:
    """The ranks that each gene can take when ties are broken in every possible way.

    Attributes
    ----------
    top, bottom : (..., n_genes) int64
        The best and the worst of these ranks; equal where the gene is not tied.
    """

    top: IntArray
    bottom: IntArray

    @property
    def midranks(self) -> FloatArray:
        """(..., n_genes) Mean rank over tie-breakings."""
        return (self.top + self.bottom) / 2.0

    def __getitem__(self, index: Any) -> RankSpans:
        return RankSpans(self.top[index], self.bottom[index])


def rank_spans(scores: npt.ArrayLike) -> RankSpans:
    """Best and worst rank of each gene over all ways of breaking ties.

    Parameters
    ----------
    scores : (..., n_genes) float
        Higher is stronger. NaN: no score; such genes are tied at the end.

    Returns
    -------
    RankSpans
        Two arrays of the shape of ``scores``.
    """
    values = np.asarray(scores, dtype=np.float64)
    values = np.where(np.isnan(values), -np.inf, values)
    n_genes = values.shape[-1]
    order = np.argsort(-values, axis=-1)
    ordered = np.take_along_axis(values, order, axis=-1)
    changes = ordered[..., 1:] != ordered[..., :-1]
    edge = np.ones((*values.shape[:-1], 1), dtype=bool)
    opens = np.concatenate([edge, changes], axis=-1)  # (..., n_genes): first of its tie group
    closes = np.concatenate([changes, edge], axis=-1)  # (..., n_genes): last of its tie group
    positions = np.arange(1, n_genes + 1)
    first = np.maximum.accumulate(np.where(opens, positions, 0), axis=-1)
    reverse = np.where(closes, positions, n_genes + 1)[..., ::-1]
    last = np.minimum.accumulate(reverse, axis=-1)[..., ::-1]
    top, bottom = np.empty_like(first), np.empty_like(last)
    np.put_along_axis(top, order, first, axis=-1)
    np.put_along_axis(bottom, order, last, axis=-1)
    return RankSpans(top, bottom)


def _hash64(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest(), "little")


def _mix(keys: UInt64Array) -> UInt64Array:
    """Finaliser of SplitMix64 (Steele, Lea & Flood 2014): one changed bit changes the whole order."""
    mixed = keys.copy()
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed ^= mixed >> np.uint64(shift)
        mixed *= np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))
