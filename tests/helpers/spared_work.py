"""What an experiment need not do of which nobody looks at the report, or how its database is made: half of its time."""

from __future__ import annotations

import atexit
import os
import shutil
import sqlite3
import tempfile
from base64 import b64encode
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from scballast.report.style import Picture

if TYPE_CHECKING:
    import pytest
    from matplotlib.figure import Figure

TEMPLATE = "SCBALLAST_TEST_DATABASE"
"""Where the database is of which others are copies: an environment variable, so that all processes share one."""

# One white pixel, and a drawing of nothing.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8ffff3f0005fe02fe0def46b80000"
    "000049454e44ae426082"
)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>'


def plain_figure(figure: Figure, folder: Path, stem: str, *, caption: str, alt: str) -> Picture:
    """Write the files of a figure as `scballast.report.style.finish` does, with nothing drawn in them."""
    target = folder / "figures"
    target.mkdir(parents=True, exist_ok=True)
    (target / f"{stem}.png").write_bytes(PNG)
    (target / f"{stem}.svg").write_bytes(SVG)
    return Picture(stem, caption, alt, f"data:image/svg+xml;base64,{b64encode(SVG).decode('ascii')}")


def copied_database(uri: str, artifact_root: str) -> None:
    """Make a database as `scballast.tracking.mlflow_compat.make_database` does: of the same rows, as a copy."""
    shutil.copy(os.environ[TEMPLATE], uri.removeprefix("sqlite:///"))
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute("UPDATE experiments SET artifact_location = ?", (f"{artifact_root}/0",))


def make_template() -> None:
    """Make the database that is copied, if there is none yet: once for a process and those that it starts."""
    if TEMPLATE in os.environ:
        return
    from scballast.tracking import mlflow_compat
    from scballast.tracking.database import quiet_mlflow

    folder = tempfile.mkdtemp(prefix="scballast-test-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    quiet_mlflow()
    mlflow_compat.make_database(f"sqlite:///{folder}/mlflow.db", Path(folder).as_uri())
    os.environ[TEMPLATE] = f"{folder}/mlflow.db"


def spare_work(patch: pytest.MonkeyPatch | None = None) -> None:
    """Draw nothing and copy databases, in this process from now on, or until a patch is undone."""
    from scballast.report import style
    from scballast.tracking import mlflow_compat

    put = setattr if patch is None else patch.setattr
    put(style, "finish", plain_figure)
    make = mlflow_compat.make_database

    def made(uri: str, artifact_root: str) -> None:
        (copied_database if uri.startswith("sqlite:///") else make)(uri, artifact_root)

    put(mlflow_compat, "make_database", made)
