"""Run every benchmark of this folder, or those named: ``python -m tests.benchmarks [coverage] [statistics] …``.

A benchmark is a ``bench_<name>.py`` whose ``main()`` prints its figures and returns whether they are as wanted.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main(wanted: list[str]) -> int:
    found = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))
    unknown = sorted(set(wanted) - set(found))
    if unknown:
        print(f"no benchmark called {', '.join(unknown)}; there are {', '.join(found)}", file=sys.stderr)
        return 2
    failed = []
    for name in wanted or found:
        print(f"== {name}", flush=True)
        # Each in a process of its own: threads and memory are its own to set and to measure.
        if subprocess.run([sys.executable, "-m", f"tests.benchmarks.bench_{name}"], check=False).returncode:
            failed.append(name)
    print(f"not as wanted: {', '.join(failed)}" if failed else "all as wanted")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
