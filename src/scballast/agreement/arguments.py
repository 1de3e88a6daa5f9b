"""Checks of the arrays that the statistics take: what is wrong raises ``ValueError``."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scballast.arrays import FloatArray


def selection_matrix(selections: npt.ArrayLike) -> FloatArray:
    """Check and return (n_replicates, n_genes) selections as float64 0 and 1."""
    matrix = np.asarray(selections)
    if matrix.ndim != 2 or 0 in matrix.shape:
        message = f"selections must be a replicate × gene matrix, got shape {matrix.shape}"
        raise ValueError(message)
    return zeros_and_ones(matrix)


def score_matrix(scores: npt.ArrayLike) -> FloatArray:
    """Check and return (n_replicates, n_genes) scores as float64."""
    matrix = np.asarray(scores, dtype=np.float64)
    if matrix.ndim != 2 or 0 in matrix.shape:
        message = f"scores must be a replicate × gene matrix, got shape {matrix.shape}"
        raise ValueError(message)
    return matrix


def check_level(level: float) -> None:
    """Raise ``ValueError`` unless the level of an interval is in (0, 1)."""
    if not 0.0 < level < 1.0:
        message = f"level must be in (0, 1), got {level}"
        raise ValueError(message)


def zeros_and_ones(values: npt.NDArray[np.generic]) -> FloatArray:
    """Return booleans, or 0 and 1, as float64."""
    numbers = values.astype(np.float64)
    if not np.all((numbers == 0.0) | (numbers == 1.0)):
        message = "selections must be booleans, or 0 and 1; scores and ranks are not selections"
        raise ValueError(message)
    return numbers
