"""A reader of the output that leaves ends the program without a word; another broken pipe stays an error."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import os, sys
from scballast.sweep.signals import reader_may_leave
with reader_may_leave():
    for line in range(100_000):
        print(line)
"""
OTHER = """
import os
from scballast.sweep.signals import reader_may_leave
ours, theirs = os.pipe()
os.close(ours)
try:
    with reader_may_leave():
        os.write(theirs, b"x")
except BrokenPipeError:
    print("raised")
"""


@pytest.mark.parametrize("unbuffered", ["1", ""])
def test_a_reader_that_leaves_ends_the_program_without_a_word(unbuffered: str) -> None:
    words = ["bash", "-c", 'set -o pipefail; "$0" -c "$1" | head -2', sys.executable, SCRIPT]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    found = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert found.stdout == "0\n1\n"
    assert found.stderr == ""
    assert found.returncode == 1


def test_another_pipe_is_another_matter() -> None:
    found = subprocess.run([sys.executable, "-c", OTHER], capture_output=True, text=True, check=True)
    assert found.stdout == "raised\n"
