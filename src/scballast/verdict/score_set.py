"""The scores of all methods, replicates and populations, their ranks, and the table that stores both."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from scballast.agreement.ranking import rank_genes, tie_keys
from scballast.arrays import BoolArray, FloatArray, IntArray
from scballast.config.schema import ResampleConfig
from scballast.methods.method import ESTIMANDS, NamedMethod


@dataclass(frozen=True)
class ScoreSet:
    """Everything that the statistics need.

    Attributes
    ----------
    genes, populations
        Names, in the order of the arrays.
    methods
        In the order of the tables.
    resample_kind
        ``subsample``, ``seed``, ``bootstrap`` or ``donor``.
    scores
        By method name: (n_replicates, n_populations, n_genes) float; higher is stronger. All NaN: the method gave
        no score for the population in this replicate.
    ranks
        By method name: (n_replicates, n_populations, n_genes) int; 1 is the best, ties broken by hash
        (``ranking.rank_genes``), 0 where there is no score.
    agreements
        What the tables have computed of pairs of lists, by what was computed, the names of the methods, and the rest
        that decides it: another table, or the next score set with the same scores, asks for the same.
    """

    genes: tuple[str, ...]
    methods: tuple[NamedMethod, ...]
    populations: tuple[str, ...]
    resample_kind: str
    scores: Mapping[str, FloatArray]
    ranks: Mapping[str, IntArray]
    agreements: dict[tuple[Any, ...], Any] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        shape = (self.n_replicates, len(self.populations), len(self.genes))
        for method in self.methods:
            for name, values in (("scores", self.scores), ("ranks", self.ranks)):
                actual = values[method.name].shape if method.name in values else "none"
                if actual != shape:
                    message = f"{name} of {method.name}: expected replicate × population × gene {shape}, got {actual}"
                    raise ValueError(message)

    @property
    def n_replicates(self) -> int:
        """Number of replicates, with scores or without."""
        return int(self.scores[self.methods[0].name].shape[0]) if self.methods else 0

    def scored(self, method: str) -> BoolArray:
        """(n_replicates, n_populations) Whether the method gave scores."""
        return np.asarray(self.ranks[method][..., 0] > 0)

    def methods_of(self, estimand: str) -> tuple[NamedMethod, ...]:
        """Methods with one estimand, in order."""
        return tuple(method for method in self.methods if method.estimand == estimand)

    def only(self, methods: Sequence[NamedMethod]) -> ScoreSet:
        """Return the score set of these of its methods, with what is known of them."""
        names = {method.name for method in methods}
        return replace(
            self,
            methods=tuple(methods),
            scores={name: self.scores[name] for name in self.scores if name in names},
            ranks={name: self.ranks[name] for name in self.ranks if name in names},
            agreements=self.known_of(names),
        )

    def known_of(self, names: Collection[str]) -> dict[tuple[Any, ...], Any]:
        """Return the ``agreements`` of these methods alone."""
        return {key: value for key, value in self.agreements.items() if all(name in names for name in key[1])}

    def without_stability(self, method: NamedMethod) -> str:
        """Reason why replicates of this method say nothing; empty when they do."""
        return "n/a: deterministic" if self.resample_kind == "seed" and method.deterministic else ""


def rank_scores(
    scores: Mapping[str, FloatArray],
    *,
    methods: Sequence[NamedMethod],
    populations: Sequence[str],
    genes: Sequence[str],
    resample_kind: str,
    seed: int,
    earlier: ScoreSet | None = None,
) -> ScoreSet:
    """Rank the genes of every list.

    Parameters
    ----------
    scores
        By method name: (n_replicates, n_populations, n_genes) float.
    methods, populations, genes
        In the order of the arrays.
    resample_kind
        How the replicates were drawn.
    seed
        The experiment's seed: part of the identity that breaks ties.
    earlier
        A score set of the same seed: of methods that have the same scores in it, its ranks are taken, and what is known
        of their agreement.

    Returns
    -------
    ScoreSet

    Raises
    ------
    ValueError
        Scores that do not fit the names.
    """
    known = frozenset[str]() if earlier is None else _same_lists(earlier, scores, (genes, populations, resample_kind))
    keys = tie_keys(genes)
    ranks: dict[str, IntArray] = {}
    for method in methods:
        values = scores[method.name]
        if earlier is not None and method.name in known:
            ranks[method.name] = earlier.ranks[method.name]
            continue
        method_ranks = np.zeros(values.shape, dtype=np.int32)
        for replicate, position in np.argwhere(~np.isnan(values).all(axis=2)):
            identity = (seed, method.name, populations[position], int(replicate))
            method_ranks[replicate, position] = rank_genes(values[replicate, position], keys, *identity)
        ranks[method.name] = method_ranks
    return ScoreSet(
        genes=tuple(genes),
        methods=tuple(methods),
        populations=tuple(populations),
        resample_kind=resample_kind,
        scores={method.name: scores[method.name] for method in methods},
        ranks=ranks,
        agreements={} if earlier is None else earlier.known_of(known),
    )


def _same_lists(
    earlier: ScoreSet, scores: Mapping[str, FloatArray], names: tuple[Sequence[str], Sequence[str], str]
) -> frozenset[str]:
    """Return the methods that have the same scores in an earlier score set, of the same genes and populations."""
    genes, populations, resample_kind = names
    if (tuple(genes), tuple(populations), resample_kind) != (
        earlier.genes,
        earlier.populations,
        earlier.resample_kind,
    ):
        return frozenset()
    both = scores.keys() & earlier.scores.keys()
    return frozenset(name for name in both if np.array_equal(scores[name], earlier.scores[name], equal_nan=True))


def rankings_table(score_set: ScoreSet) -> pd.DataFrame:
    """All scores and ranks as one table.

    Returns
    -------
    DataFrame
        method, estimand, replicate, population, gene, score, rank; names are categories in the order of the
        score set, integers as small as they can be. Lists without scores have no rows.
    """
    methods, n_genes = score_set.methods, len(score_set.genes)
    estimands = np.array([ESTIMANDS.index(method.estimand) for method in methods], dtype=np.int64)
    scored = np.array([score_set.scored(method.name).T for method in methods], dtype=bool)
    method, population, replicate = np.nonzero(
        scored.reshape(len(methods), len(score_set.populations), score_set.n_replicates)
    )

    def in_order(values: Mapping[str, Any]) -> Any:
        lists = [values[method.name].swapaxes(0, 1)[mask].ravel() for method, mask in zip(methods, scored, strict=True)]
        return np.concatenate(lists) if lists else np.zeros(0)

    def names(codes: IntArray, categories: Sequence[str]) -> pd.Categorical:
        small = codes.astype(_small_integer(len(categories)))
        return pd.Categorical.from_codes(np.repeat(small, n_genes), categories=list(categories))

    gene_codes = np.arange(n_genes, dtype=_small_integer(n_genes))
    return pd.DataFrame(
        {
            "method": names(method, [method.name for method in methods]),
            "estimand": names(estimands[method], ESTIMANDS),
            "replicate": np.repeat(replicate.astype(_small_integer(score_set.n_replicates)), n_genes),
            "population": names(population, score_set.populations),
            "gene": pd.Categorical.from_codes(np.tile(gene_codes, method.size), categories=list(score_set.genes)),
            "score": in_order(score_set.scores),
            "rank": in_order(score_set.ranks).astype(_small_integer(n_genes)),
        },
        copy=False,
    )


def score_set_from_rankings(
    table: pd.DataFrame, resample: ResampleConfig, deterministic: Collection[str] = ()
) -> ScoreSet:
    """Rebuild the score set from its stored table: all statistics can be computed again from it.

    Parameters
    ----------
    table
        From ``rankings_table``, also after a round trip through parquet or CSV.
    resample
        How the replicates were drawn, and how many; the table has no row of those without a score.
    deterministic
        Names of the methods that are deterministic given the cells.

    Returns
    -------
    ScoreSet
    """
    method_codes, methods = _codes(table["method"])
    population_codes, populations = _codes(table["population"])
    gene_codes, genes = _codes(table["gene"])
    replicates = table["replicate"].to_numpy()
    shape = (resample.n_replicates, len(populations), len(genes))
    score_column, rank_column = table["score"].to_numpy(), table["rank"].to_numpy()
    scores: dict[str, FloatArray] = {}
    ranks: dict[str, IntArray] = {}
    named_methods: list[NamedMethod] = []
    for code, name in enumerate(methods):
        rows = np.flatnonzero(method_codes == code)
        cells = (replicates[rows], population_codes[rows], gene_codes[rows])
        scores[name] = np.full(shape, np.nan, dtype=score_column.dtype)
        scores[name][cells] = score_column[rows]
        ranks[name] = np.zeros(shape, dtype=np.int32)
        ranks[name][cells] = rank_column[rows]
        if rows.size:
            estimand = table["estimand"].iloc[rows[0]]
            named_methods.append(NamedMethod(name, estimand, deterministic=name in deterministic))
    return ScoreSet(tuple(genes), tuple(named_methods), tuple(populations), resample.kind, scores, ranks)


def _codes(column: pd.Series[Any]) -> tuple[IntArray, list[str]]:
    """Codes and names of a text column: categories where it has them, else in order of appearance."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy(), [str(name) for name in column.cat.categories]
    codes, names = pd.factorize(column.astype(str))
    return codes, [str(name) for name in names]


def _small_integer(largest: int) -> np.dtype[Any]:
    """Give the smallest signed type that holds ``largest``."""
    return np.min_scalar_type(-largest - 1)
