"""Try more than 2,000 files, label tables and command lines: each ends in data, or in one message and no traceback.

The inputs are those of the fuzz tests of the suite, several times as many.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.helpers.fuzzing import TIMES  # noqa: E402

N_TIMES = 6
WANTED = 2_000
FILES = ("tests/data/test_fuzz.py", "tests/data/test_fuzz_files.py", "tests/config/test_fuzz.py")
NOT_COUNTED = "test_any_values_end"  # values without a file, a table or a command line

TEST = re.compile(r"^tests/\S+::(test_\w+):\n(.*?)(?=^tests/|\Z)", re.MULTILINE | re.DOTALL)
PASSING = re.compile(r"(\d+) passing")
EVENT = re.compile(r"\* (\S+%), (\w[\w ]*)$", re.MULTILINE)


def main() -> bool:
    """Print how many inputs each test tried, and return whether there were enough and none failed."""
    command = [sys.executable, "-m", "pytest", "-q", "--timeout=0", "--hypothesis-show-statistics", *FILES]
    environment = {**os.environ, TIMES: str(N_TIMES), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout[-5000:])
        return False
    total = 0
    for name, phases in TEST.findall(done.stdout):
        n_tried = sum(map(int, PASSING.findall(phases)))
        shares = ", ".join(f"{share} {what}" for share, what in EVENT.findall(phases))
        print(f"{name}: {n_tried:,} inputs ({shares})")
        total += 0 if name.startswith(NOT_COUNTED) else n_tried
    print(f"{total:,} files, label tables and command lines; none ended in a traceback")
    return total >= WANTED


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
