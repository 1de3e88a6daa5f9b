"""Cheap checks of the file and its columns, before anything heavy is imported; what they pass the loader checks."""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from scballast.config.schema import DataConfig
from scballast.data.names import quote, quoted
from scballast.errors import ConfigError, DataError

_KEYS = ("population_key", "batch_key", "sample_key", "condition_key")
_MOST_NAMED = 3
# The option, what the names of such columns contain, and what to say.
_LOOKS_LIKE = (
    (
        "sample_key",
        r"donor|patient|subject|individual|(^|_)(sample|mouse|animal)(_?id)?$|^ind$|orig\.ident",
        "samples or donors: data.sample_key=COLUMN adds pseudobulk, and resample.kind=donor "
        "asks what other donors show.",
    ),
    (
        "batch_key",
        r"batch|(^|_)(lane|library|chip|plate|channel|pool)(_?id)?($|_)|sequencing_run",
        "experimental batches: data.batch_key=COLUMN conditions the model on them.",
    ),
    (
        "condition_key",
        r"condition|treatment|stim|disease|perturb|genotype|time_?point|(^|_)sex($|_)",
        "conditions: data.condition_key=COLUMN ranks the genes that respond within populations, and "
        "association.keys=[COLUMN] shows which latent dimensions follow them.",
    ),
)


def check_file(config: DataConfig, obs_keys: Sequence[str] = ()) -> None:
    """Look whether the files are there and whether they have the obs columns that are named.

    Columns of an ``.h5ad`` or ``.zarr`` and of a table of labels; other files are left to the loader.

    Parameters
    ----------
    config
        The data.
    obs_keys
        ``association.keys``.

    Raises
    ------
    DataError
        There is no such file, or the table of labels cannot be read.
    ConfigError
        Columns are not there; the message names the nearest of each.
    """
    if config.kind != "file" or config.path is None:
        return
    path = Path(config.path).expanduser()
    if not path.exists():
        from scballast.data.files import missing_file

        raise DataError(missing_file(path))
    columns, header = _columns(path), ""
    if config.labels is not None:
        from scballast.data.label_table import read_label_table

        table = read_label_table(config.labels)
        columns = None if columns is None else [*columns, *(name for name in table.columns if name not in columns)]
        header = f" The header of {table.label} reads {quoted([table.first, *table.columns], 4)}."
    if columns is None:
        return
    where = path if config.labels is None else f"{path}, with {Path(config.labels).name},"
    named = [(f"data.{key}", getattr(config, key)) for key in _KEYS] + [("association.keys", key) for key in obs_keys]
    absent = [(key, name) for key, name in named if name is not None and name not in columns]
    if absent:
        said = [
            f"{key}: {'it' if position else where} has no obs column {quote(name)}.{_near(name, columns)}"
            for position, (key, name) in enumerate(absent)
        ]
        message = f"{' '.join(said)} Columns: {', '.join(quote(column) for column in columns) or 'none'}."
        raise ConfigError(message + header)


def _near(name: str, columns: Sequence[str]) -> str:
    """Ask whether the nearest of the columns is meant, if one is near."""
    near = difflib.get_close_matches(name.lower(), [column.lower() for column in columns], n=1)
    nearest = next((column for column in columns if near and column.lower() == near[0]), None)
    return f" Did you mean {quote(nearest)}?" if nearest else ""


def suggestions(config: DataConfig, obs_keys: Sequence[str] = ()) -> list[str]:
    """Name the obs columns that look like samples, batches or conditions, with the option that would use them.

    Only for options that are not set, and in an ``.h5ad`` or ``.zarr``; one line for each option. What ``obs_keys``
    names is used already.
    """
    path = Path(config.path or "").expanduser()
    columns = _columns(path) if config.kind == "file" and config.path is not None else None
    used = {*(getattr(config, key) for key in _KEYS), *obs_keys}
    hints = []
    for key, pattern, use in _LOOKS_LIKE:
        names = [name for name in columns or () if name not in used and re.search(pattern, name.lower())]
        if names and getattr(config, key, None) is None:
            listed = ", ".join(quote(name) for name in names[:_MOST_NAMED])
            hints.append(f"{listed} {'looks' if len(names) == 1 else 'look'} like {use}")
    return hints


def say_suggestions(config: DataConfig, obs_keys: Sequence[str] = ()) -> None:
    """Write ``suggestions`` to standard error; to be called when the data are known to be usable, before the work."""
    for suggestion in suggestions(config, obs_keys):
        sys.stderr.write(f"Note: {suggestion}\n")


def _columns(path: Path) -> list[str] | None:
    """Return the obs columns of an ``.h5ad`` or ``.zarr``, or None for what only the loader can read."""
    if path.suffix == ".zarr":
        return _zarr_columns(path / "obs")
    if path.suffix != ".h5ad" or not path.is_file():
        return None
    import h5py

    try:
        with h5py.File(path, "r") as file:
            obs = file["obs"]
            if not isinstance(obs, h5py.Group):
                return None
            index = obs.attrs.get("_index", "_index")
            listed = [str(name) for name in obs.attrs.get("column-order", ())]
            return listed or [name for name in obs if name not in (index, "__categories")]
    except (OSError, KeyError, ValueError, RuntimeError):
        return None  # the loader says what is wrong with it


def _zarr_columns(obs: Path) -> list[str] | None:
    """Return the columns that the attributes of a table list, in either version of the format."""
    for name, inside in ((".zattrs", ()), ("zarr.json", ("attributes",))):
        try:
            attributes = json.loads((obs / name).read_text(encoding="utf-8"))
            for key in inside:
                attributes = attributes[key]
            return [str(column) for column in attributes["column-order"]]
        except (OSError, KeyError, TypeError, ValueError):
            continue
    return None
