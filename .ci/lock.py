"""Write requirements.lock and docs/requirements.lock: names, versions and markers for every supported Python."""

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


DOCS_HEADER = """\
# What `make docs` needs beyond requirements.lock. Written by `make lock`; do not edit.
"""


def resolve(extras: list[str], constraints: str) -> list[str]:
    """Resolve pyproject.toml with these extras for Python 3.11 and up."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "constraints.txt"
        file.write_text(constraints, encoding="utf-8")
        command = [
            sys.executable, "-m", "uv", "pip", "compile", str(ROOT / "pyproject.toml"),
            *(word for extra in extras for word in ("--extra", extra)),
            "--universal", "--python-version", "3.11", "--no-header", "--no-annotate", "--no-emit-index-url",
            "--no-emit-find-links", "--quiet", "--constraints", str(file),
        ]  # fmt: skip
        resolved = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [line for line in resolved.splitlines() if line and not COMES_WITH_TORCH.match(line)]


def main() -> None:
    """Write what users and the test suite need, then what only the site of the documentation needs."""
    lines = resolve(["dev"], f"{TORCH}\n")
    (ROOT / "requirements.lock").write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    # Versions agree: what the first file fixes is a constraint of the second.
    names = {line.split("==")[0] for line in lines}
    extra = [line for line in resolve(["dev", "docs"], "\n".join(lines)) if line.split("==")[0] not in names]
    (ROOT / "docs" / "requirements.lock").write_text(DOCS_HEADER + "\n".join(extra) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
