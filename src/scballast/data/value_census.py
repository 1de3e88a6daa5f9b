"""What the values of a matrix are: counts, or which of the things that are none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from scballast.arrays import FloatArray
from scballast.data.row_sample import RowSample

ROUNDING_TOLERANCE = 1e-6
"""And eight spacings of float32, as far as counts drift that were scaled or logged and brought back."""
LARGEST_TOLERANCE = 1e-3
MAX_COUNT = 2**24
"""Above this float32 no longer holds every integer."""
LARGEST_EXACT_FLOAT16 = 2**11
PROBLEMS = {
    "missing": "NaN",
    "infinite": "infinite",
    "negative": "negative",
    "fractional": "not integers",
    "huge": f"above {MAX_COUNT:,}",
}
"""In the order in which they are reported."""


@dataclass
class ValueCensus:
    """What every stored value of a matrix was found to be; filled block by block.

    Attributes
    ----------
    n_values
        Stored values looked at (non-zero ones, unless the file stores zeros).
    n_rounded
        Values that differ from an integer by no more than ``ROUNDING_TOLERANCE``, or float32 can tell.
    n_vanishing
        Fractional values that become 0 when rounded.
    largest
        Largest finite value.
    counts
        Values of each kind in ``PROBLEMS``.
    first
        (row, column, value) of the first value of each kind.
    whole, fractional
        Rows of the blocks that hold counts alone, and rows with fractional values where these are the problem.
    """

    n_values: int = 0
    n_rounded: int = 0
    n_vanishing: int = 0
    largest: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, tuple[int, int, float]] = field(default_factory=dict)
    whole: RowSample = field(default_factory=RowSample)
    fractional: RowSample = field(default_factory=RowSample)

    @property
    def problem(self) -> str | None:
        """The kind of problem that is reported; None: all values are counts."""
        return next((kind for kind in PROBLEMS if kind in self.counts), None)

    def add(self, values: FloatArray, locate: Callable[[int], tuple[int, int]]) -> None:
        """Count the ``values`` (n,); ``locate`` gives the row and column of one of them."""
        self.n_values += values.size
        if not values.size:
            return
        finite = np.isfinite(values)
        kinds = {"negative": values < 0, "huge": values > MAX_COUNT}
        if not finite.all():
            kinds["missing"] = np.isnan(values)
            kinds["infinite"] = np.isinf(values)
            kinds["negative"] &= finite
            kinds["huge"] &= finite
        if values.dtype.kind == "f":
            clean = values if finite.all() else np.where(finite, values, 0)
            distance = np.abs(clean - np.rint(clean))
            odd = distance > ROUNDING_TOLERANCE
            if odd.any():
                drift = 8 * np.finfo(np.float32).eps * np.abs(clean[odd])
                odd[odd] = distance[odd] > np.minimum(drift, LARGEST_TOLERANCE)
            kinds["fractional"] = odd
            self.n_rounded += int(np.count_nonzero(distance)) - int(np.count_nonzero(kinds["fractional"]))
            self.n_vanishing += int(np.count_nonzero(kinds["fractional"] & (clean > 0) & (clean <= 0.5)))
        self.largest = max(self.largest, float(values.max(where=finite, initial=0)))
        for kind, mask in kinds.items():
            n_found = int(np.count_nonzero(mask))
            if n_found:
                self.counts[kind] = self.counts.get(kind, 0) + n_found
                if kind not in self.first:
                    position = int(np.argmax(mask))
                    self.first[kind] = (*locate(position), float(values[position]))
