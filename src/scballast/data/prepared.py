"""Counts of a file ready to be analysed: from the cache, from the file, or for a plan from a sample of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from scballast.data.analysed import AnalysedCounts, CountsRequest, analysed_counts
from scballast.data.blocks import NewArray, changed
from scballast.data.counts_cache import CountsCache, file_identities, request_name
from scballast.data.outline import Outline, outline_of, placeholder
from scballast.errors import DataError

LARGE_BYTES = 2**26
"""Files from this size on are looked at before they are read, and what is read of them is kept."""


def prepared_counts(
    request: CountsRequest,
    places: Sequence[Path],
    *,
    outlined: bool,
    on_outline: Callable[[Outline], None] | None,
    cache: CountsCache | None,
) -> tuple[Outline | None, AnalysedCounts]:
    """Return the counts, or of a large file what is expected of it and counts that stand for those.

    Parameters
    ----------
    request
        Which counts are wanted.
    places
        The files and folders that they are in; none: they are in memory.
    outlined, on_outline, cache
        As for `load_dataset`.

    Raises
    ------
    DataError
        As for `analysed_counts`.
    """
    stored_bytes = sum(size for place in places for _, _, size, *_ in file_identities(place))
    if stored_bytes < LARGE_BYTES:
        return None, analysed_counts(request)
    name = "" if cache is None else request_name(request, places)
    counts = None if cache is None else cache.find(name)
    if counts is not None:
        return None, counts
    if outlined or on_outline is not None:
        outline = outline_of(request)
        if outline is not None and on_outline is not None:
            on_outline(outline)
        if outline is not None and outlined and request.beside is None:
            return outline, placeholder(request, outline)
    if cache is not None and cache.is_disk:

        def made(new_array: NewArray) -> AnalysedCounts:
            counts = analysed_counts(request, new_array)
            if request_name(request, places) != name:
                raise DataError(changed(request.source))
            return counts

        return None, cache.written(made, name)
    counts = analysed_counts(request)
    # A file that was written meanwhile is another one: what was read of it is of neither.
    return None, counts if cache is None or request_name(request, places) != name else cache.keep(counts, name)
