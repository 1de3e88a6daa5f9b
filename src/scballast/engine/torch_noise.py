"""The numbers of :mod:`scballast.engine.noise` for many members at once, on any torch device."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_LOW = 0xFFFFFFFF
_ROUNDS = 10


def philox(seeds: Tensor, steps: Tensor, drawn: Sequence[tuple[int, tuple[int, int]]]) -> list[Tensor]:
    """Random words of each member for several streams in one go, which takes as many operations as one stream.

    Parameters
    ----------
    seeds, steps
        (member,) int64.
    drawn
        Stream, and rows and columns of the largest array to be drawn from it.

    Returns
    -------
    list of Tensor
        (member, 4, counter) int64 in [0, 2**32) per stream: the four words of each counter.
    """
    device = seeds.device
    counters = [math.ceil(rows * columns / 4) for _, (rows, columns) in drawn]
    stream = [torch.full((n,), stream, device=device) for (stream, _), n in zip(drawn, counters, strict=True)]
    rounds = torch.arange(_ROUNDS, device=device)
    keys = [
        ((word & _LOW)[:, None] + rounds * weyl) & _LOW  # (member, round)
        for word, weyl in ((seeds, 0x9E3779B9), (seeds >> 32, 0xBB67AE85))
    ]
    counter = [
        torch.cat([torch.arange(n, device=device) for n in counters]),
        torch.cat(stream),
        (steps & _LOW)[:, None],
        ((steps >> 32) & _LOW)[:, None],
    ]
    for i in range(_ROUNDS):
        # The low 64 bits of a signed product are those of the unsigned one.
        first, second = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [
            ((second >> 32) & _LOW) ^ counter[1] ^ keys[0][:, i, None],
            second & _LOW,
            ((first >> 32) & _LOW) ^ counter[3] ^ keys[1][:, i, None],
            first & _LOW,
        ]
    return list(torch.stack(counter, dim=1).split(counters, dim=2))


def normals_from(words: Tensor, sizes: Tensor, widths: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """:func:`normals` from the words of their stream."""
    precise = torch.float32 if words.device.type == "mps" else torch.float64  # mps has no float64
    word, counter = _places(sizes, widths)
    odd = word % 2
    radius = torch.sqrt(-2.0 * torch.log((_pick(words, word - odd, counter).to(precise) + 1.0) / 2.0**32))
    angle = 2.0 * math.pi * _pick(words, word - odd + 1, counter).to(precise) / 2.0**32
    return torch.where(odd == 0, radius * torch.cos(angle), radius * torch.sin(angle)).to(dtype)


def keep_mask_from(words: Tensor, sizes: Tensor, widths: tuple[int, int], dropout_rates: Tensor) -> Tensor:
    """:func:`keep_mask` from the words of its stream."""
    threshold = torch.round(dropout_rates * 2.0**32).long()
    return _pick(words, *_places(sizes, widths)) >= threshold[:, None, None]


def _places(sizes: Tensor, widths: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """(member, rows, columns) word and counter of each element; beyond a member's own size they mean nothing."""
    rows, columns = (torch.arange(w, device=sizes.device) for w in widths)
    element = rows[:, None] * sizes[:, 1, None, None] + columns
    n_counters = ((sizes[:, 0] * sizes[:, 1] + 3) // 4)[:, None, None]
    return torch.div(element, n_counters, rounding_mode="floor").clamp(max=3), element % n_counters


def _pick(words: Tensor, word: Tensor, counter: Tensor) -> Tensor:
    place = word * words.shape[2] + counter
    return words.flatten(1).gather(1, place.flatten(1)).view(place.shape)
