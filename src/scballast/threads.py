"""How many threads numerical libraries use."""

from __future__ import annotations

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
