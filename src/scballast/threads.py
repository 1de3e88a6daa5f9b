"""How a process uses its processor: threads of numerical libraries, and the search for garbage."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


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
