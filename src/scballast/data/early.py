"""Cheap checks of the file and its columns, before anything heavy is imported; what they pass the loader checks."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from scballast.data.names import quote
from scballast.errors import ConfigError, DataError

if TYPE_CHECKING:
    from scballast.config.schema import DataConfig

_KEYS = ("population_key", "batch_key", "sample_key")
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
        "conditions: association.keys=[COLUMN] shows which latent dimensions follow them.",
    ),
)


def check_file(config: DataConfig) -> None:
    """Look whether the file is there and, in an ``.h5ad``, whether it has the columns that are named.

    Raises
    ------
    DataError
        There is no such file.
    ConfigError
        A column is not there; the message names the nearest.
    """
    if config.kind != "file" or config.path is None:
        return
    path = Path(config.path).expanduser()
    if not path.exists():
        from scballast.data.files import missing_file

        raise DataError(missing_file(path))
    columns = _columns(path) if config.labels is None else None
    if columns is None:
        return
    for key in _KEYS:
        name = getattr(config, key)
        if name is not None and name not in columns:
            near = difflib.get_close_matches(name.lower(), [column.lower() for column in columns], n=1)
            nearest = next((column for column in columns if near and column.lower() == near[0]), None)
            hint = f" Did you mean {quote(nearest)}?" if nearest else ""
            message = (
                f"data.{key}: {path} has no obs column {quote(name)}.{hint} "
                f"Columns: {', '.join(quote(column) for column in columns) or 'none'}."
            )
            raise ConfigError(message)


def suggestions(config: DataConfig) -> list[str]:
    """Name the obs columns that look like samples, batches or conditions, with the option that would use them.

    Only for options that are not set, and in an ``.h5ad``; one line for each option.
    """
    path = Path(config.path or "").expanduser()
    columns = _columns(path) if config.kind == "file" and config.path is not None else None
    used = {getattr(config, key) for key in _KEYS}
    found = []
    for key, pattern, use in _LOOKS_LIKE:
        names = [name for name in columns or () if name not in used and re.search(pattern, name.lower())]
        if names and getattr(config, key, None) is None:
            listed = ", ".join(quote(name) for name in names[:_MOST_NAMED])
            found.append(f"{listed} {'looks' if len(names) == 1 else 'look'} like {use}")
    return found


def _columns(path: Path) -> list[str] | None:
    """Return the obs columns of an ``.h5ad``, or None for what only the loader can read."""
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
