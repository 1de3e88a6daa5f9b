"""Tables of a long benchmark that are computed once and kept, so that an interrupted one goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd


def kept(folder: Path, names: Sequence[str], compute: Callable[[], Sequence[pd.DataFrame]]) -> tuple[pd.DataFrame, ...]:
    """Return tables from ``folder``, one file for each name, computed together where one is missing."""
    paths = [folder / f"{name}.csv" for name in names]
    if not all(path.exists() for path in paths):
        for path, table in zip(paths, compute(), strict=True):
            # Renamed when whole: an interrupted write is not taken for a result.
            table.to_csv(path.with_suffix(".part"), index=False)
            path.with_suffix(".part").rename(path)
        print(f"finished {', '.join(names)}", flush=True)
    return tuple(pd.read_csv(path, keep_default_na=False, na_values=[""]) for path in paths)
