"""Counter-based random numbers (Philox 4x32-10): noise is a function of (seed, step, stream, position).

So a member's noise does not depend on threads, grouping, device or other members. ``native/noise.hpp`` draws
the same numbers.

References
----------
Salmon et al. (2011), Parallel random numbers: as easy as 1, 2, 3.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scballast.arrays import FloatArray

LATENT, LIBRARY, DROPOUT_LIBRARY, DROPOUT = 0, 1, 2, 3  # streams; DROPOUT + i for layer i of the latent encoder
_LOW = np.uint64(0xFFFFFFFF)


def philox(seed: int, step: int, stream: int, n: int) -> npt.NDArray[np.uint32]:
    """(n,) random words: word w of counter i is element ``w * ceil(n / 4) + i``."""
    quarter = (n + 3) // 4
    counter = [
        np.arange(quarter, dtype=np.uint64),
        *(np.full(quarter, c & 0xFFFFFFFF, np.uint64) for c in (stream, step, step >> 32)),
    ]
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        first, second = np.uint64(0xD2511F53) * counter[0], np.uint64(0xCD9E8D57) * counter[2]
        counter = [
            (second >> np.uint64(32)) ^ counter[1] ^ np.uint64(key[0]),
            second & _LOW,
            (first >> np.uint64(32)) ^ counter[3] ^ np.uint64(key[1]),
            first & _LOW,
        ]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return np.concatenate(counter).astype(np.uint32)[:n]


def normals(seed: int, step: int, stream: int, shape: tuple[int, ...]) -> FloatArray:
    """Draw standard normal numbers by Box and Muller from the words (0, 1) and (2, 3) of each counter."""
    n = int(np.prod(shape))
    quarter = (n + 3) // 4
    words = philox(seed, step, stream, 4 * quarter).reshape(4, quarter).astype(np.float64)
    radius = np.sqrt(-2.0 * np.log((words[::2] + 1.0) / 2.0**32))
    angle = 2.0 * np.pi * words[1::2] / 2.0**32
    both = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return both.reshape(-1)[:n].reshape(shape)
