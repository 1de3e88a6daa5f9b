"""How a process uses its processor: threads of numerical libraries, and the search for garbage."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


MOST_AT_ONCE = 4
"""Populations that are worked on side by side: of each a dense matrix is in memory."""


def at_once() -> int:
    """Return how many threads :func:`side_by_side` uses: ``OMP_NUM_THREADS``, or the cores of this process, a few."""
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if asked.isdecimal() and int(asked) > 0:
        return min(int(asked), MOST_AT_ONCE)
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return min(len(cores), MOST_AT_ONCE)


def side_by_side(function: Callable[..., T], *items: Iterable[Any]) -> list[T]:
    """Return what the function makes of each item, in their order, a few at a time: for large arrays in numpy.

    No result depends on the number of threads. Numerical libraries had better use one (:func:`one_thread`).
    """
    with ThreadPoolExecutor(at_once()) as pool:
        return list(pool.map(function, *items))


@contextmanager
def one_thread() -> Iterator[None]:
    """Let numpy, scikit-learn and torch use one thread in the block.

    For many operations on small arrays: threads that wait for each other cost more than they save. On two
    busy cores, differential expression of a model took 15 s of processor time on two threads and 0.5 s on
    one, logistic regression 5 s and 0.2 s.
    """
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    with threadpool_limits(limits=1):
        try:
            if torch:
                torch.set_num_threads(1)
            yield
        finally:
            if torch:
                torch.set_num_threads(before)


def seek_garbage_seldom() -> None:
    """Let Python look for circles of dead objects once in 50,000 new ones, not in 700.

    Each look passes over what the libraries have loaded, a million objects: a tenth of the processor time of
    ``experiment=demo`` with its models in the cache.
    """
    gc.set_threshold(50_000, 10, 10)
