"""Stored tables as data frames."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def read_table(path: Path) -> pd.DataFrame:
    """Read one table, CSV or parquet.

    Only an empty field of a CSV is missing: ``NA``, ``nan`` and ``null`` are names that genes and cell
    types do have.
    """
    import pandas as pd

    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    return pd.read_csv(path, keep_default_na=False, na_values=[""], low_memory=False)


def read_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Read all tables of a folder by name; where a table is there twice, the parquet one (it has the types)."""
    paths = {path.stem: path for path in sorted(folder.glob("*.csv"))}
    paths |= {path.stem: path for path in sorted(folder.glob("*.parquet"))}
    return {name: read_table(path) for name, path in sorted(paths.items())}
