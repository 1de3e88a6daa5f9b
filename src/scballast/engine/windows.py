"""The order in which cells are read from disk in one pass, and that in which a member sees its own.

The cells lie in blocks of neighbours. Each epoch deals the blocks anew to windows, the same for all members, so that
one pass over the disk serves them all; within a window a member's cells come in an order of its own. A member's order
depends on its cells, its seed and the epoch alone, not on the other members. With one window it is the order of
training in memory.

References
----------
The scheme is that of annbatch (scverse), and of Fischer et al. (2024), scDataset, arXiv:2506.01883.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scballast.arrays import IntArray
from scballast.engine.schedule import order_generator

_BLOCK_STREAM = 0x626C6F636B73  # keeps the blocks' random numbers apart from all others


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
    """

    n_cells: int
    block_cells: int = 64
    window_cells: int = 1 << 17

    @property
    def n_windows(self) -> int:
        """Windows of a pass."""
        return -(-self.n_cells // max(self.window_cells, self.block_cells))

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
    own = windows.of_blocks(epoch)[train_cells // windows.block_cells]
    order = train_cells[np.argsort(own, kind="stable")]
    ends = np.cumsum(np.bincount(own, minlength=windows.n_windows))
    generator = order_generator(seed, epoch)
    for held in np.split(order, ends[:-1]):
        held[:] = generator.permutation(held)
    return order, ends
