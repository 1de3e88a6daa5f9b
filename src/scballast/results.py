"""The results of one experiment: tables and figures of merit in memory, and a whole folder on disk or none."""

from __future__ import annotations

import glob
import hashlib
import json
import math
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

MARKER = "complete.json"
# Kept as parquet beside CSV: too long for a preview.
_LARGE = ("rankings", "local_loadings", "confirmation_genes", "program_activity", "program_map", "marker_effects")
# Kept as parquet only: CSV would be several times the size of everything else together.
_PARQUET_ONLY = ("rankings", "confirmation_genes", "program_activity", "program_map", "marker_effects")


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
    for name in ("history", "params", "tags", "warnings"):
        _write_json(folder / f"{name}.json", getattr(results, name))
    text = yaml.safe_dump(dict(results.config), sort_keys=False, allow_unicode=True)
    (folder / "config" / "resolved.yaml").write_text(text, encoding="utf-8")


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """Let a file or folder appear under its name only when it is whole.

    The block writes to the path that it is handed, which lies beside the target and takes its place when the
    block ends. After an exception nothing is left; a kill leaves ``.NAME.*.part``, which `remove_partial` removes.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}-{threading.get_ident()}.part")
    aside = part.with_name(f"{part.name}-before")
    _remove(part)
    try:
        yield part
        if target.is_dir():
            # A folder cannot replace one that holds something; to move that aside takes no time in which to be killed.
            os.replace(target, aside)
        os.replace(part, target)
    finally:
        if aside.is_dir() and not target.exists():
            os.replace(aside, target)
        _remove(aside)
        # Renaming one link of a file to another of the same file does nothing and leaves both.
        _remove(part)


@contextmanager
def result_folder(folder: Path) -> Iterator[Path]:
    """Let a folder of results appear when it is whole, with the digest of every file in ``complete.json``."""
    with whole(folder) as part:
        part.mkdir()
        yield part
        files = sorted(path for path in part.rglob("*") if path.is_file() and path.name != MARKER)
        _write_json(part / MARKER, {str(path.relative_to(part)): _file_digest(path) for path in files})


def link_or_copy(source: Path | str, target: Path | str) -> None:
    """Let two paths share a file's bytes where the file system can: not all have hard links, none to another disk."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def remove_partial(target: Path) -> None:
    """Remove what killed processes had written of a file or folder; no other may be at work on it."""
    for part in target.parent.glob(f".{glob.escape(target.name)}.*.part*"):
        if part.name.endswith("-before") and not target.exists():
            os.replace(part, target)
        _remove(part)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


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

    as_csv, as_parquet = (sorted((folder / "tables").glob(f"*.{suffix}")) for suffix in ("csv", "parquet"))
    tables = {path.stem: pd.read_csv(path, keep_default_na=False, na_values=[""]) for path in as_csv}
    return tables | {path.stem: pd.read_parquet(path) for path in as_parquet}


def read_json(path: Path, default: Any = None) -> Any:
    """Parse a JSON file, or give ``default`` where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else default


def read_config(folder: Path) -> dict[str, Any]:
    """Read the configuration of a result folder, as nested values."""
    import yaml

    return dict(yaml.safe_load((folder / "config" / "resolved.yaml").read_text(encoding="utf-8")) or {})


def _write_json(path: Path, value: Any) -> None:
    plain = dict(value) if isinstance(value, Mapping) else list(value)
    path.write_text(json.dumps(plain, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def setting(config: Mapping[str, Any], dotted: str, default: Any = None) -> Any:
    """Look a dotted key up in a nested configuration."""
    value: Any = config
    for part in dotted.split("."):
        if not isinstance(value, dict) or part not in value:
            return default
        value = value[part]
    return value
