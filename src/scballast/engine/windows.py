"""The order in which cells are read from disk in one pass, and that in which a member sees its own.

The cells lie on disk in a random order, the same for all trainings, in blocks of neighbours. Each epoch deals the
blocks anew to windows, the same for all members, so that one pass over the disk serves them all; within a window a
member's cells come in an order of its own. A member's order depends on its cells, its seed and the epoch alone, not
on the other members. With one window it is the order of training in memory.

In the order of a file, which often goes by sample or population, windows would differ in what cells they hold, and
the models in how well they fit (``tests/benchmarks/bench_stream.py``).

References
----------
Blocks and windows are those of annbatch (scverse) and of D'Ascenzo & Cultrera di Montesano (2025), scDataset:
Scalable data loading for deep learning on large-scale single-cell omics, arXiv:2506.01883.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from scballast.arrays import IntArray
from scballast.engine.schedule import order_generator

_BLOCK_STREAM, _DISK_STREAM = 0x626C6F636B73, 0x6469736B  # keep these random numbers apart from all others


@dataclass(frozen=True)
class Windows:
    """How the cells are dealt to the windows of each epoch.

    Attributes
    ----------
    n_cells
        Cells of the count matrix.
    block_cells
        Neighbours that are read together.
    window_cells
        Cells of a window: those whose counts are in memory together.
    shuffled
        Whether the cells lie in a random order; False: in their own.
    """

    n_cells: int
    block_cells: int = 128
    window_cells: int = 1 << 17
    shuffled: bool = True

    @property
    def n_windows(self) -> int:
        """Windows of a pass."""
        return -(-self.n_cells // max(self.window_cells, self.block_cells))

    @cached_property
    def cell_at(self) -> IntArray:
        """(n_cells,) int32 the cell at each place on disk."""
        cells = np.arange(self.n_cells, dtype=np.int32)
        if self.shuffled and self.n_windows > 1:
            np.random.default_rng(_DISK_STREAM).shuffle(cells)
        return cells

    @cached_property
    def place(self) -> IntArray:
        """(n_cells,) int32 the place of each cell on disk."""
        place = np.empty_like(self.cell_at)
        place[self.cell_at] = np.arange(self.n_cells, dtype=np.int32)
        return place

    def of_blocks(self, epoch: int) -> IntArray:
        """(n_blocks,) the window of each block; windows differ by one block at most."""
        n_blocks = -(-self.n_cells // self.block_cells)
        order = np.random.default_rng([_BLOCK_STREAM, epoch]).permutation(n_blocks)
        window = np.empty(n_blocks, dtype=np.min_scalar_type(self.n_windows))  # 16 bits sort fastest
        window[order] = np.arange(n_blocks) * self.n_windows // n_blocks
        return window


def windowed_order(train_cells: IntArray, seed: int, epoch: int, windows: Windows) -> tuple[IntArray, IntArray]:
    """Return the training cells in the order of one epoch, and where each window ends in it.

    Returns
    -------
    order
        (n_train,) the cells.
    ends
        (n_windows,) how many of them the windows up to and with this one hold.
    """
    window = windows.of_blocks(epoch)[windows.place[train_cells] // windows.block_cells]
    order = train_cells[np.argsort(window, kind="stable")]
    ends = np.cumsum(np.bincount(window, minlength=windows.n_windows))
    generator = order_generator(seed, epoch)
    for held in np.split(order, ends[:-1]):
        held[:] = generator.permutation(held)
    return order, ends
