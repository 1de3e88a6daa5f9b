"""Tables of latent spaces: agreement of factors, what dimensions go with, whether groups are extremes on axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from scballast.agreement.association import Association
from scballast.agreement.factors import match_factors, subspace_agreement
from scballast.agreement.multiplicity import bh_q_values
from scballast.agreement.purity import AxisPurity
from scballast.arrays import FloatArray

_FACTOR_COLUMNS = ("model", "replicate_a", "replicate_b", "matched_correlation", "null", "subspace_cos2", "chance")


def factors_table(loadings: Mapping[str, Mapping[int, FloatArray]], *, seed: int) -> pd.DataFrame:
    """Agreement of the factors of one linear model between replicates.

    Parameters
    ----------
    loadings
        By model, by replicate: (n_genes, n_factors). For ``latent_distribution=ln`` with rows centred too.
    seed
        The experiment's seed, for the permutation null.

    Returns
    -------
    DataFrame
        model, replicate_a, replicate_b, matched_correlation, null, subspace_cos2, chance.
    """
    rows = []
    for model, by_replicate in loadings.items():
        for first, second in combinations(sorted(by_replicate), 2):
            match = match_factors(by_replicate[first], by_replicate[second], seed=seed)
            subspace = subspace_agreement(by_replicate[first], by_replicate[second])
            agreement = (match.mean_correlation, match.null, float(subspace), subspace.chance)
            rows.append((model, first, second, *agreement))
    return pd.DataFrame(rows, columns=list(_FACTOR_COLUMNS))


def association_table(
    results: Mapping[tuple[str, int], tuple[Sequence[str], Association]],
) -> pd.DataFrame:
    """All associations as one table, with q-values over the whole of it.

    Parameters
    ----------
    results
        By (key, replicate): the names of the categories, and their associations.

    Returns
    -------
    DataFrame
        key, category, dimension (from 0), smd, auroc, eta2, p_value, q_value, replicate, reason (why the numbers, or
        the p-value alone, are missing), permuted (what exchanged labels for the p-value).
    """
    parts = []
    for (key, replicate), (names, association) in results.items():
        n_dimensions, n_categories = association.smd.shape
        reasons = [association.reason.get(code, "") for code in range(n_categories)]
        permuted = [association.permuted.get(code, "") for code in range(n_categories)]
        part = {
            "key": key,
            "category": np.repeat(np.asarray(names, dtype=object), n_dimensions),
            "dimension": np.tile(np.arange(n_dimensions), n_categories),
            "smd": association.smd.T.ravel(),
            "auroc": association.auroc.T.ravel(),
            "eta2": association.eta2.T.ravel(),
            "p_value": association.p_value.T.ravel(),
            "q_value": np.nan,  # of all tests together, below
            "replicate": replicate,
            "reason": np.repeat(np.asarray(reasons, dtype=object), n_dimensions),
            "permuted": np.repeat(np.asarray(permuted, dtype=object), n_dimensions),
        }
        parts.append(pd.DataFrame(part))
    table = pd.concat(parts, ignore_index=True)
    return table.assign(q_value=bh_q_values(table["p_value"].to_numpy()))


def axis_purity_table(results: Mapping[int, AxisPurity], populations: Sequence[str]) -> pd.DataFrame:
    """Return the purities of all replicates as one table.

    Parameters
    ----------
    results
        By replicate.
    populations
        Names of the categories.

    Returns
    -------
    DataFrame
        replicate, dimension (from 0), end (low, high), population, purity, base_rate, expected (of random cells),
        p_value, n_cells.
    """
    rows = [
        {
            "replicate": replicate,
            "dimension": dimension,
            "end": end,
            "population": populations[purities.category[dimension, side]],
            "purity": float(purities.purity[dimension, side]),
            "base_rate": float(purities.base_rate[dimension, side]),
            "expected": purities.expected,
            "p_value": float(purities.p_value[dimension, side]),
            "n_cells": purities.n_cells,
        }
        for replicate, purities in results.items()
        for dimension in range(purities.purity.shape[0])
        for side, end in enumerate(("low", "high"))
    ]
    return pd.DataFrame(rows)
