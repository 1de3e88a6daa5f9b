"""Rotated factors of Pearson residuals: principal components in simple structure, as sciRED takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import sparse

from scballast.agreement.program_components import leading_components, varimax
from scballast.agreement.residuals import residuals_within
from scballast.arrays import FloatArray, IntArray
from scballast.models.decomposition import fitted_by
from scballast.models.family import ModelFamily


def rotated_factors(
    counts: sparse.csr_matrix, n_factors: int, covariate: IntArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Rotate the leading principal components of standardised Pearson residuals by varimax.

    Parameters
    ----------
    counts
        (n_cells, n_genes) raw counts.
    n_factors
        Below the numbers of cells and genes.
    covariate
        (n_cells,) category of each cell; each has expectations of its own.

    Returns
    -------
    loadings : (n_genes, n_factors)
        Orthonormal columns, rotated with rows at unit length (Kaiser's normalisation): residuals in standard
        deviations of the gene per unit of score.
    scores : (n_cells, n_factors)
        The rotated scores of the principal components: products with the loadings are what they are without rotation.

    References
    ----------
    Pouyabahar et al. (2025), Interpretable single-cell factor decomposition using sciRED.
    Kaiser (1958), The varimax criterion for analytic rotation in factor analysis.
    """
    categories = np.zeros(counts.shape[0], dtype=np.int64) if covariate is None else covariate
    values = residuals_within(counts, categories)
    deviation = values.std(axis=0)
    np.divide(values, deviation, out=values, where=deviation > 0)
    _, components = leading_components(values, n_factors)
    components[deviation == 0] = 0.0  # rounding, which Kaiser's normalisation would raise to a loading
    length = np.linalg.norm(components, axis=1, keepdims=True)
    rotated = length * varimax(np.divide(components, length, out=np.zeros_like(components), where=length > 0))
    return rotated, np.asarray(values @ rotated)


def _methods_text(config: Mapping[str, Any]) -> str:
    return (
        f"{config['model']['n_latent']} principal components of standardised analytic Pearson residuals of the counts "
        "of the analysed genes, rotated by varimax as in sciRED."
    )


FACTOR_ANALYSIS = ModelFamily(
    "factor_analysis",
    fit=fitted_by(lambda cells: rotated_factors(cells.values, cells.n_factors, cells.covariate), of_counts=True),
    methods_text=_methods_text,
    conditional=True,
    deterministic=True,
)
