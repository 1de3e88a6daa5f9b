"""Write requirements.lock: names, versions and markers for every supported Python, and nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
# torch comes with what its build needs: nothing for the small CPU build, these for a GPU build.
COMES_WITH_TORCH = re.compile(r"^(nvidia-|triton|cuda-)")
TORCH = "torch==2.13.0"
HEADER = """\
# Exact versions for every supported Python, by markers. Written by `make lock`; do not edit.
# The GPU libraries of torch are left to pip: they come with the build of torch that it finds.
"""


def main() -> None:
    """Resolve pyproject.toml with its dev extra for Python 3.11 and up."""
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text(f"{TORCH}\n", encoding="utf-8")
        command = [
            sys.executable, "-m", "uv", "pip", "compile", str(ROOT / "pyproject.toml"), "--extra", "dev",
            "--universal", "--python-version", "3.11", "--no-header", "--no-annotate", "--no-emit-index-url",
            "--no-emit-find-links", "--quiet", "--constraints", str(constraints),
        ]  # fmt: skip
        resolved = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = [line for line in resolved.splitlines() if line and not COMES_WITH_TORCH.match(line)]
    (ROOT / "requirements.lock").write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
