"""The copy that most tests take for the database of their runs is the database that MLflow makes."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.helpers.spared_work import copied_database, make_template

from scballast.tracking import mlflow_compat

TIMES = re.compile(r"\b1\d{12}\b")  # milliseconds


def content(path: Path) -> list[str]:
    """Return what makes the database anew; indices are made, and allowed values listed, in any order."""
    with closing(sqlite3.connect(path)) as connection:
        lines = [TIMES.sub("TIME", line) for line in connection.iterdump()]
    return sorted("".join(sorted(re.split(r"(\W)", line))) if line.startswith("CREATE") else line for line in lines)


def test_the_copy_holds_what_is_made_anew(tmp_path: Path) -> None:
    make_template()
    root = (tmp_path / "artifacts").as_uri()
    copied_database(f"sqlite:///{tmp_path / 'copied.db'}", root)
    mlflow_compat.make_database(f"sqlite:///{tmp_path / 'made.db'}", root)
    copied = content(tmp_path / "copied.db")
    assert copied == content(tmp_path / "made.db")
    assert any(root in line for line in copied)
