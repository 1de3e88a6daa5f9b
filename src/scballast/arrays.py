"""Names for arrays by what their elements are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from scipy import sparse

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.integer[Any]]
BoolArray = npt.NDArray[np.bool_]


def membership(codes: IntArray, n_groups: int) -> sparse.csr_matrix:
    """Return which cells are in which group: its product with values of cells is their sum over each group.

    Parameters
    ----------
    codes
        (n_cells,) group of each cell, from 0; negative: in none.
    n_groups
        Number of groups.

    Returns
    -------
    (n_groups, n_cells) float64, CSR
        1 where the cell is in the group.
    """
    from scipy import sparse

    inside = np.flatnonzero(codes >= 0)
    return sparse.csr_matrix((np.ones(inside.size), (codes[inside], inside)), shape=(n_groups, codes.size))


def cross_table(rows: IntArray, n_rows: int, columns: IntArray, n_columns: int) -> IntArray:
    """Return the (n_rows, n_columns) numbers of cells; cells with a negative row are left out."""
    inside = rows >= 0
    flat = np.bincount(rows[inside].astype(np.int64) * n_columns + columns[inside], minlength=n_rows * n_columns)
    return flat.reshape(n_rows, n_columns)


def places_among(chosen: IntArray, n: int) -> IntArray:
    """Return where each number below ``n`` stands among the chosen ones, (n + 1,); -1: it does not, as -1 itself."""
    places = np.full(n + 1, -1, dtype=np.int64)
    places[chosen] = np.arange(len(chosen))
    return places


def divided(values: npt.ArrayLike, by: npt.ArrayLike, otherwise: float = 0.0) -> FloatArray:
    """Return ``values / by``, broadcast, and ``otherwise`` where the divisor is not above 0."""
    quotient: FloatArray = np.full(np.broadcast(values, by).shape, otherwise)
    np.divide(values, by, out=quotient, where=np.asarray(by) > 0)
    return quotient
