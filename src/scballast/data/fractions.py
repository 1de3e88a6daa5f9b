"""Values that are not whole: counts after a correction, or normalised or logged values? Their distribution tells."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from scballast.arrays import BoolArray, FloatArray
from scballast.data.dispersion import TOO_LITTLE, dispersion
from scballast.data.row_sample import RowSample

FEWEST_VALUES = 5
FEWEST_ROUNDED = 20
"""Values that tell where each was rounded to a few decimals, and may be whole by chance."""
NEARLY = 0.01
"""What is this close to a whole number is one that was computed with noise."""
SMALLEST_COUNT = 0.5
"""What is smaller may be whole by chance: nearly 0."""
LARGEST_TELLING = 2.0**15
"""Above it, float32 is too coarse to tell a whole number from another."""
TAIL = 0.1
"""What is smaller is what a model of the counts leaves on zeros (CellBender), and says nothing about the others."""
FEWEST_WITH_SMALL = 1000
"""Values among which counts have small ones."""
LARGEST_LOGARITHM = 40.0
"""No logarithm of a count or of its share is larger, and its exponential is still a number."""
LARGEST_UNDONE = 1000.0
"""Above it, a value of float32 comes back from its logarithm too far from whole to tell."""
LARGEST_RATIO = 16.0
"""Beyond it, values are close to a multiple by chance."""
MOST_DECIMALS = 3

_UNDONE: dict[str, Callable[[FloatArray], FloatArray]] = {
    "normalised": lambda values: values,
    "log-normalised": np.expm1,
    "log-normalised (base 2)": lambda values: np.exp2(values) - 1,
    "log-normalised (base 10)": lambda values: 10.0**values - 1,
    "square-root transformed": np.square,
    "arcsinh-transformed": np.sinh,
}
"""What takes values of each kind back to a multiple of the counts."""


def kind_of(sample: RowSample) -> str:
    """Return ``corrected``, one of the kinds of normalised values, or ``unknown``.

    Normalisation multiplies the counts of a cell by one number: back from the logarithm, the values of a cell are
    whole multiples of its smallest, or (lengths of genes taken out, or a model's rates) add up to the same in all
    cells. Scaling does so with the counts of a gene. Logarithms, also scaled or rounded to few decimals, vary less
    than counts do (`dispersion`). A correction of counts (ambient RNA taken off, reads shared between genes, noise of
    a computation) does none of this: values stay whole, all but whole, or just below whole.

    Parameters
    ----------
    sample
        Rows with fractional values.
    """
    rows = [values for values in sample.values if values.size >= FEWEST_VALUES]
    if not rows:
        rows = [np.concatenate(sample.values)] if sample.rows else []
    step = _rounding_step(np.concatenate([*rows, np.zeros(0)]))
    # Of counts, many logarithms to base 2 and many roots are whole (1, 3, 7; 1, 4, 9): the others tell.
    parts = np.concatenate([values[~_nearly_whole(values)] for values in rows] or [np.zeros(0)])
    for kind, undo in _UNDONE.items():
        if kind != "normalised" and _become_whole(parts, undo, 0.0):
            return kind
    matrix = sample.matrix()
    too_alike = dispersion(matrix) < TOO_LITTLE
    counted = [values for values in rows if values.max() >= SMALLEST_COUNT] or rows
    fractional = [values for values in counted if _share_whole(values) < 0.5]
    mostly_whole = 2 * len(fractional) < len(counted)
    for kind, undo in _UNDONE.items() if not mostly_whole else ():
        fits = [values for values in fractional if kind == "normalised" or values.max() < LARGEST_LOGARITHM]
        undone = [undo(values) for values in fits]
        errors = [undo(values + step / np.sqrt(12)) - undo(values) for values in fits]
        own_step = step if kind == "normalised" else 0.0
        n_multiples = sum(_are_multiples(values, own_step) for values in undone)
        if 2 * n_multiples > len(fractional) or _add_up_alike(undone, errors):
            return kind
    for kind, undo in _UNDONE.items():
        if step and kind != "normalised" and _become_whole(parts, undo, step):
            return kind
    if mostly_whole:
        return "logged or scaled" if too_alike else "corrected"
    by_gene = matrix.tocsc()
    genes = [values for values in np.split(by_gene.data, by_gene.indptr[1:-1]) if values.size >= FEWEST_VALUES]
    if 2 * sum(_share_whole(values) < 0.5 and _are_multiples(values, step) for values in genes) > max(len(genes), 2):
        return "scaled"
    if too_alike:
        return "logged or scaled"
    small = np.concatenate([values[(values > TAIL) & (values < 3.5)] for values in rows] or [np.zeros(0)])
    if not small.size and sum(values.size for values in rows) >= FEWEST_WITH_SMALL:
        return "normalised"  # by lengths of genes too: of counts, most are small
    just_below = (small % 1 >= 0.5) | _nearly_whole(small)
    return "corrected" if small.size and just_below.mean() >= 0.65 else "unknown"


def _rounding_step(values: FloatArray) -> float:
    """Return 0.1, 0.01 or 0.001 where values were rounded to so many decimals; 0: they were not."""
    for decimals in range(1, MOST_DECIMALS + 1):
        scaled = values * 10**decimals
        if values.size and (np.abs(scaled - np.rint(scaled)) <= 0.01 + 1e-6 * scaled).mean() >= 0.99:
            return float(10.0**-decimals)
    return 0.0


def _nearly_whole(values: FloatArray) -> BoolArray:
    return np.abs(values - np.rint(values)) <= NEARLY


def _share_whole(values: FloatArray) -> float:
    """Return how many are all but whole, of those that are large enough to be counts, and small enough to tell."""
    large = values[(values >= SMALLEST_COUNT) & (values < LARGEST_TELLING)]
    return float(_nearly_whole(large).mean()) if large.size else 0.0


def _become_whole(values: FloatArray, undo: Callable[[FloatArray], FloatArray], step: float) -> bool:
    """Tell whether values that are not whole become so when a transformation of counts is undone."""
    values = values[values < LARGEST_LOGARITHM]
    undone = undo(values)
    # Half a step of rounding, in undone values: where it is large, any value is whole by chance.
    tolerance = 1e-3 + undo(values + step / 2) - undone
    tell = (undone < LARGEST_UNDONE) & (tolerance < 0.2)
    undone, tolerance = undone[tell], tolerance[tell]
    fewest = FEWEST_ROUNDED if step else FEWEST_VALUES
    return bool(undone.size >= fewest and (np.abs(undone - np.rint(undone)) < tolerance).mean() >= 0.95)


def _are_multiples(values: FloatArray, step: float) -> bool:
    """Tell whether values are whole multiples of the smallest, or of a half or a third of it, but for rounding."""
    values = values[values > 0]  # the smallest of a tail are 0 once undone
    if not values.size:
        return False
    ratios = values / values.min()
    if ratios.max() < 1 + 1e-3:
        return values.size > 1  # all alike: each was a count of 1
    ratios = ratios[ratios < LARGEST_RATIO]
    if ratios.size < FEWEST_VALUES or ratios.max() < 1 + 1e-3:
        return False  # too few that can tell
    if step:
        return _are_rounded_multiples(values[values < LARGEST_RATIO * values.min()], step)
    return any(
        bool((np.abs(times * ratios - np.rint(times * ratios)) < 2e-3 * times * ratios).mean() >= 0.95)
        for times in (1, 2, 3)
    )


def _are_rounded_multiples(values: FloatArray, step: float) -> bool:
    """Tell whether values are whole multiples of what was rounded to the smallest, each rounded by itself."""
    units = values.min() + step * np.linspace(-0.5, 0.5, 21)
    units = units[units > 5 * step]  # of a smaller one, any value is a multiple
    rest = np.abs(values - units[:, None] * np.rint(values / units[:, None]))  # (unit, value)
    return bool(((rest <= 0.55 * step).mean(axis=1) >= 0.95).any())


def _add_up_alike(rows: Sequence[FloatArray], errors: Sequence[FloatArray]) -> bool:
    """Tell whether the values of each row have the same sum, as far as their rounding lets them."""
    sums = np.array([values.sum() for values in rows])
    if sums.size < 3:
        return False
    error = float(np.mean([of_row.sum() for of_row in errors]))  # equal counts are rounded alike
    return bool(sums.std() < max(1e-3 * sums.mean(), error if error < 0.05 * sums.mean() else 0.0))
