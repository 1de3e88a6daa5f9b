"""Cells that stand in the data twice, as where overlapping files were joined.

In complementary halves a copy of a cell that suggested a gene is among the unseen cells that are to confirm it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from scballast.arrays import BoolArray, IntArray
from scballast.data.columns import Column
from scballast.data.names import quote
from scballast.data.populations import DUPLICATES, note_disappearance, note_lost
from scballast.data.remarks import Remarks

if TYPE_CHECKING:
    from scballast.config.schema import DataConfig


def note_duplicates(
    duplicate_of: IntArray,
    names: Sequence[str],
    labels: Column,
    batches: Column | None,
    samples: Column | None,
    config: DataConfig,
    remarks: Remarks,
) -> BoolArray:
    """Say which cells are copies of others, and what goes with them; return the cells that stay, (n_cells,).

    Parameters
    ----------
    duplicate_of : (n_cells,)
        Of :func:`scballast.data.moments.first_alike`.
    names, labels, batches, samples
        (n_cells,) each.
    config
        With ``duplicates=keep`` all stay.
    remarks
        Where it is said.
    """
    once: BoolArray = duplicate_of == np.arange(duplicate_of.size)
    if once.all():
        return once
    copies = np.flatnonzero(~once)
    their, other = labels.codes[copies], labels.codes[duplicate_of[copies]]
    relabelled = int(np.count_nonzero((their >= 0) & (their != other)))
    other_label = f"; {relabelled:,} under another label" if relabelled else ""
    sentence = (
        f"{copies.size:,} of {once.size:,} cells have exactly the counts of another cell, as where overlapping files "
        f"were joined (first {quote(names[copies[0]])}, those of {quote(names[duplicate_of[copies[0]]])}{other_label})"
    )
    if config.duplicates == "keep":
        remarks.note(f"{sentence}. data.duplicates=keep: genes may be confirmed by the very cells that suggested them.")
        return np.ones_like(once)
    remarks.note(
        f"{sentence}. They are left out, for as unseen cells they would confirm what they suggested "
        "(data.duplicates=keep keeps them)."
    )
    note_disappearance(labels, labels.take(once), config.min_cells, DUPLICATES, remarks)
    for what, column in (("batches", batches), ("samples", samples)):
        if column is not None:
            note_lost(column, column.take(once), what, DUPLICATES, remarks)
    return once
