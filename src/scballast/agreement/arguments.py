"""Checks of the arrays that the statistics take: what is wrong raises ``ValueError``."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from scballast import errors
from scballast.arrays import FloatArray

require = partial(errors.require, kind=ValueError)
"""Raise ``ValueError`` with the message unless the condition holds."""


def selection_matrix(selections: npt.ArrayLike) -> FloatArray:
    """Check and return (n_replicates, n_genes) selections as float64 0 and 1."""
    matrix = np.asarray(selections)
    _check_matrix(matrix, "selections")
    return zeros_and_ones(matrix)


def score_matrix(scores: npt.ArrayLike) -> FloatArray:
    """Check and return (n_replicates, n_genes) scores as float64."""
    matrix = np.asarray(scores, dtype=np.float64)
    _check_matrix(matrix, "scores")
    return matrix


def _check_matrix(values: npt.NDArray[Any], what: str) -> None:
    if values.ndim != 2 or 0 in values.shape:
        message = f"{what} must be a replicate × gene matrix, got shape {values.shape}"
        raise ValueError(message)


def check_level(level: float) -> None:
    """Raise ``ValueError`` unless the level of an interval is in (0, 1)."""
    require(0.0 < level < 1.0, f"level must be in (0, 1), got {level}")


def check_selection(n_selected: float, n_genes: int, threshold: float) -> None:
    """Raise ``ValueError`` unless so many of so many genes can be selected, and a bound exists at the threshold."""
    if not (n_genes > 0 and 0 <= n_selected <= n_genes):
        message = f"need 0 <= n_selected <= n_genes and n_genes > 0, got {n_selected} of {n_genes}"
        raise ValueError(message)
    if not 0.5 < threshold <= 1.0:
        message = f"threshold must be in (0.5, 1], got {threshold}: the bound does not exist at or below one half"
        raise ValueError(message)


def zeros_and_ones(values: npt.NDArray[np.generic]) -> FloatArray:
    """Return booleans, or 0 and 1, as float64."""
    numbers = values.astype(np.float64)
    if not np.all((numbers == 0.0) | (numbers == 1.0)):
        message = "selections must be booleans, or 0 and 1; scores and ranks are not selections"
        raise ValueError(message)
    return numbers
