"""Run every benchmark of this folder, or those named: ``python -m tests.benchmarks [coverage] [statistics] …``.

A benchmark is a ``bench_<name>.py`` whose ``main()`` prints its figures and returns whether they are as wanted. Options
behind the names are theirs: ``python -m tests.benchmarks scale --help``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main(words: list[str]) -> int:
    n_names = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
    wanted, options = words[:n_names], words[n_names:]
    found = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))
    if options and not wanted:
        print(f"{' '.join(options)}: of which benchmark? There are {', '.join(found)}", file=sys.stderr)
        return 2
    unknown = sorted(set(wanted) - set(found))
    if unknown:
        print(f"no benchmark called {', '.join(unknown)}; there are {', '.join(found)}", file=sys.stderr)
        return 2
    failed = []
    for name in wanted or found:
        print(f"== {name}", flush=True)
        # Each in a process of its own: threads and memory are its own to set and to measure.
        command = [sys.executable, "-m", f"tests.benchmarks.bench_{name}", *options]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    print(f"not as wanted: {', '.join(failed)}" if failed else "all as wanted")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
