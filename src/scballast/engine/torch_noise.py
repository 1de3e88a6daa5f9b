"""The numbers of :mod:`scballast.engine.noise` for many members at once, on any torch device."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_LOW = 0xFFFFFFFF


def philox(seeds: Tensor, steps: Tensor, stream: int, sizes: Tensor, n: int, widths: tuple[int, int]) -> Tensor:
    """Random words of each member for a (rows, columns) array of its own size.

    Parameters
    ----------
    seeds, steps
        (member,) int64.
    sizes
        (member, 2) int64 rows and columns of each member's array.
    n
        Upper bound of rows times columns over the members.
    widths
        Rows and columns of the result; beyond a member's own size the words mean nothing.

    Returns
    -------
    Tensor
        (member, rows, columns) int64 in [0, 2**32).
    """
    device, n_members = seeds.device, len(seeds)
    quarter = (n + 3) // 4
    counter = [
        torch.arange(quarter, device=device).expand(n_members, quarter),
        torch.full((n_members, quarter), stream, device=device),
        (steps & _LOW)[:, None].expand(n_members, quarter),
        ((steps >> 32) & _LOW)[:, None].expand(n_members, quarter),
    ]
    key = [(seeds & _LOW)[:, None], ((seeds >> 32) & _LOW)[:, None]]
    for _ in range(10):
        # The low 64 bits of a signed product are those of the unsigned one.
        first, second = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [
            ((second >> 32) & _LOW) ^ counter[1] ^ key[0],
            second & _LOW,
            ((first >> 32) & _LOW) ^ counter[3] ^ key[1],
            first & _LOW,
        ]
        key = [(key[0] + 0x9E3779B9) & _LOW, (key[1] + 0xBB67AE85) & _LOW]
    words = torch.stack(counter, dim=1).reshape(n_members, 4 * quarter)
    rows, columns = (torch.arange(w, device=device) for w in widths)
    element = rows[:, None] * sizes[:, 1, None, None] + columns  # (member, rows, columns)
    own_quarter = ((sizes[:, 0] * sizes[:, 1] + 3) // 4)[:, None, None]
    word = torch.div(element, own_quarter, rounding_mode="floor").clamp(max=3)
    place = (word * quarter + (element % own_quarter)).clamp(max=4 * quarter - 1)
    return words.gather(1, place.reshape(n_members, -1)).reshape(place.shape)


def normals(
    seeds: Tensor, steps: Tensor, stream: int, sizes: Tensor, widths: tuple[int, int], dtype: torch.dtype
) -> Tensor:
    """(member, rows, columns) standard normal numbers."""
    # Element e of word w pairs with the same place of word w ^ 1, so both words are drawn for each element.
    n = widths[0] * widths[1]
    precise = torch.float32 if seeds.device.type == "mps" else torch.float64  # mps has no float64
    rows, columns = (torch.arange(w, device=seeds.device) for w in widths)
    element = rows[:, None] * sizes[:, 1, None, None] + columns
    own_quarter = ((sizes[:, 0] * sizes[:, 1] + 3) // 4)[:, None, None]
    word = torch.div(element, own_quarter, rounding_mode="floor").clamp(max=3)
    flat = torch.stack([4 * own_quarter[:, 0, 0], torch.ones_like(sizes[:, 0])], dim=1)
    words = philox(seeds, steps, stream, flat, n + 3, (4 * ((n + 3) // 4), 1))[..., 0]  # (member, 4 quarters)
    pair = (word - word % 2) * own_quarter + element % own_quarter
    places = [at.clamp(max=words.shape[1] - 1) for at in (pair, pair + own_quarter)]
    picked = [words.gather(1, at.reshape(len(seeds), -1)).reshape(at.shape) for at in places]
    radius = torch.sqrt(-2.0 * torch.log((picked[0].to(precise) + 1.0) / 2.0**32))
    angle = 2.0 * math.pi * picked[1].to(precise) / 2.0**32
    return torch.where(word % 2 == 0, radius * torch.cos(angle), radius * torch.sin(angle)).to(dtype)


def keep_mask(
    seeds: Tensor, steps: Tensor, stream: int, sizes: Tensor, widths: tuple[int, int], dropout_rates: Tensor
) -> Tensor:
    """(member, rows, columns) bool, False where dropout strikes."""
    words = philox(seeds, steps, stream, sizes, widths[0] * widths[1], widths)
    return words >= torch.round(dropout_rates.double() * 2.0**32).long()[:, None, None]
