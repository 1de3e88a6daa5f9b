"""The results of one experiment: tables and figures of merit in memory, and a whole folder on disk or none."""

from __future__ import annotations

import glob
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

MARKER = "complete.json"
# Kept as parquet beside CSV: too long for a preview.
_LARGE = ("rankings", "local_loadings", "confirmation_genes")
# Kept as parquet only: CSV would be several times the size of everything else together.
_PARQUET_ONLY = ("rankings", "confirmation_genes")


@dataclass(frozen=True)
class Results:
    """What one experiment found.

    Attributes
    ----------
    tables
        By name, as in DESIGN.md: ``rankings``, ``stability``, ``concordance``, ``consensus``, …
    metrics
        By MLflow name; only finite values.
    history
        Curves by MLflow name: (epoch, value) pairs.
    config
        The resolved configuration, nested.
    params
        Its leaves, as text.
    tags
        Data set, digests, versions, device.
    warnings
        What a reader must know, a sentence or two each.
    """

    tables: Mapping[str, pd.DataFrame]
    metrics: Mapping[str, float]
    history: Mapping[str, list[tuple[int, float]]] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def write_results(results: Results, folder: Path) -> None:
    """Write everything under ``folder``: tables, metrics, curves, configuration, tags, warnings."""
    import yaml

    (folder / "tables").mkdir(parents=True, exist_ok=True)
    (folder / "config").mkdir(exist_ok=True)
    for name, table in results.tables.items():
        if name in _LARGE:
            table.to_parquet(folder / "tables" / f"{name}.parquet", index=False)
        if name not in _PARQUET_ONLY:
            table.to_csv(folder / "tables" / f"{name}.csv", index=False, lineterminator="\n")
    finite = {name: value for name, value in results.metrics.items() if math.isfinite(value)}
    _write_json(folder / "metrics.json", finite)
    _write_json(folder / "history.json", results.history)
    _write_json(folder / "params.json", results.params)
    _write_json(folder / "tags.json", results.tags)
    _write_json(folder / "warnings.json", results.warnings)
    text = yaml.safe_dump(dict(results.config), sort_keys=False, allow_unicode=True)
    (folder / "config" / "resolved.yaml").write_text(text, encoding="utf-8")


class ResultFolder:
    """A folder that appears under its name only when it is whole.

    Use as a context manager: the body writes into the path it is handed; when the body ends without an
    exception, every file is digested into ``complete.json`` and the folder is renamed into place.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Path:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._partial = Path(tempfile.mkdtemp(prefix=_partial_prefix(self.path), dir=self.path.parent))
        return self._partial

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is not None:
            shutil.rmtree(self._partial, ignore_errors=True)
            return
        files = sorted(path for path in self._partial.rglob("*") if path.is_file())
        digests = {str(path.relative_to(self._partial)): _file_digest(path) for path in files}
        _write_json(self._partial / MARKER, digests)
        if self.path.exists():
            shutil.rmtree(self.path)
        os.replace(self._partial, self.path)


def remove_partial(folder: Path) -> None:
    """Remove what a killed process had written of a result folder; no other may be at work on it."""
    for partial in folder.parent.glob(f"{glob.escape(_partial_prefix(folder))}*"):
        shutil.rmtree(partial, ignore_errors=True)


def _partial_prefix(folder: Path) -> str:
    return f".partial-{folder.name}-"


def is_complete(folder: Path) -> bool:
    """Return whether the folder holds every file that its marker names, unchanged in name."""
    try:
        files = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return False
    return all((folder / name).is_file() for name in files)


def read_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Read every table of a result folder; parquet where there is one, else CSV."""
    import pandas as pd

    tables: dict[str, pd.DataFrame] = {}
    for path in sorted((folder / "tables").glob("*.csv")):
        tables[path.stem] = pd.read_csv(path, keep_default_na=False, na_values=[""])
    for path in sorted((folder / "tables").glob("*.parquet")):
        tables[path.stem] = pd.read_parquet(path)
    return tables


def _write_json(path: Path, value: Any) -> None:
    plain = dict(value) if isinstance(value, Mapping) else list(value)
    path.write_text(json.dumps(plain, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
