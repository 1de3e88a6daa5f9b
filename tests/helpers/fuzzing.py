"""How many inputs the fuzz tests try: few in the suite, many in ``python -m tests.benchmarks fuzz``."""

from __future__ import annotations

import os

TIMES = "SCBALLAST_FUZZ_TIMES"


def examples(in_suite: int) -> int:
    """Return the number of inputs of a test: ``in_suite``, times what the environment says."""
    return in_suite * int(os.environ.get(TIMES, "1"))
