"""Values that are not whole: counts after a correction, or normalised or logged values? Their distribution tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp

from scballast.arrays import FloatArray

MAX_ROWS = 400
ROWS_PER_BLOCK = 100
FEWEST_VALUES = 5
WHOLE = 1e-6
LARGEST_LOGARITHM = 40.0
"""No logarithm of a count or of its share is larger, and its exponential is still a number."""
LARGEST_UNDONE = 1000.0
"""Above it, a value of float32 comes back from its logarithm too far from whole to tell."""
LARGEST_RATIO = 16.0
"""Beyond it, values are close to a multiple by chance."""

_UNDONE: dict[str, Callable[[FloatArray], FloatArray]] = {
    "normalised": lambda values: values,
    "log-normalised": np.expm1,
    "log-normalised (base 2)": lambda values: np.exp2(values) - 1,
    "log-normalised (base 10)": lambda values: 10.0**values - 1,
    "square-root transformed": np.square,
}
"""What takes values of each kind back to a multiple of the counts."""


@dataclass
class FractionSample:
    """Rows that hold fractional values, a few from each block of a matrix, and what they look like.

    Normalisation multiplies the counts of a cell by one number: back from the logarithm, the values of a cell are
    whole multiples of its smallest, or (lengths of genes taken out, or a model's rates) add up to the same in all
    cells. A correction of counts (ambient RNA taken off, reads shared between genes) does neither: values stay whole,
    or just below whole.
    """

    rows: list[FloatArray] = field(default_factory=list)

    def add(self, matrix: sp.csr_matrix) -> None:
        """Take up to ``ROWS_PER_BLOCK`` rows with fractional values, evenly from a CSR block without NaN."""
        if len(self.rows) >= MAX_ROWS:
            return
        fractional = np.abs(matrix.data - np.rint(matrix.data)) > WHOLE
        before = np.concatenate([[0], np.cumsum(fractional)])
        found = np.flatnonzero(np.diff(before[matrix.indptr]))
        chosen = (
            found[np.unique(np.linspace(0, found.size - 1, ROWS_PER_BLOCK).astype(np.int64))] if found.size else found
        )
        for row in chosen:
            values = matrix.data[matrix.indptr[row] : matrix.indptr[row + 1]].astype(np.float64)
            self.rows.append(values[values > 0])

    def kind(self) -> str:
        """Return ``corrected``, one of the kinds of normalised values, or ``unknown``."""
        rows = [values for values in self.rows if values.size >= FEWEST_VALUES]
        if not rows:
            rows = [np.concatenate(self.rows)] if self.rows else []
        # Of counts, many logarithms to base 2 and many roots are whole (1, 3, 7; 1, 4, 9): the others tell.
        parts = np.concatenate([values[np.abs(values - np.rint(values)) > WHOLE] for values in rows] or [np.zeros(0)])
        for kind, undo in _UNDONE.items():
            if kind != "normalised" and _become_whole(parts, undo):
                return kind
        fractional = [values for values in rows if _share_whole(values) < 0.5]
        if 2 * len(fractional) < len(rows):
            return "corrected"
        for kind, undo in _UNDONE.items():
            fits = [values for values in fractional if kind == "normalised" or values.max() < LARGEST_LOGARITHM]
            undone = [undo(values) for values in fits]
            if 2 * sum(map(_are_multiples, undone)) > len(fractional) or _add_up_alike(undone):
                return kind
        small = np.concatenate([values[values < 3.5] for values in rows]) if rows else np.zeros(0)
        just_below = (small % 1 >= 0.5) | (np.abs(small - np.rint(small)) <= WHOLE)
        return "corrected" if small.size and just_below.mean() >= 0.65 else "unknown"


def _share_whole(values: FloatArray) -> float:
    return float((np.abs(values - np.rint(values)) <= WHOLE).mean())


def _become_whole(values: FloatArray, undo: Callable[[FloatArray], FloatArray]) -> bool:
    """Tell whether values that are not whole become so when a transformation of counts is undone."""
    undone = undo(values[values < LARGEST_LOGARITHM])
    undone = undone[undone < LARGEST_UNDONE]
    return bool(undone.size >= FEWEST_VALUES and (np.abs(undone - np.rint(undone)) < 1e-3).mean() >= 0.95)


def _are_multiples(values: FloatArray) -> bool:
    """Tell whether values are whole multiples of the smallest, or of a half or a third of it."""
    ratios = values / values.min()
    if ratios.max() < 1 + 1e-3:
        return values.size > 1  # all alike: each was a count of 1
    ratios = ratios[ratios < LARGEST_RATIO]
    if ratios.size < FEWEST_VALUES or ratios.max() < 1 + 1e-3:
        return False  # too few that can tell
    return any(
        bool((np.abs(times * ratios - np.rint(times * ratios)) < 2e-3 * times * ratios).mean() >= 0.95)
        for times in (1, 2, 3)
    )


def _add_up_alike(rows: list[FloatArray]) -> bool:
    sums = np.array([values.sum() for values in rows])
    return bool(sums.size >= 3 and sums.std() < 1e-3 * sums.mean())
