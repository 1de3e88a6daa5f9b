"""Addresses of servers and databases: used with their passwords, shown and logged without."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit, urlunsplit

from scballast.config.schema import FAMILY_KEYS, Config, to_leaves


def without_password(uri: str) -> str:
    """Return an address with its password left out."""
    try:
        parts = urlsplit(uri)
        if not parts.password:
            return uri
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return uri.split("@")[-1]
    return urlunsplit(parts._replace(netloc=f"{parts.username}@{host}{port}"))


def without_passwords(config: Config) -> Config:
    """Return a configuration as it may be logged: its addresses without passwords."""
    uri, storage = config.tracking.uri, config.sweep.storage
    return replace(
        config,
        tracking=replace(config.tracking, uri=uri and without_password(uri)),
        sweep=replace(config.sweep, storage=storage and without_password(storage)),
    )


def params_of(config: Config, *, of_sweep: bool = False) -> dict[str, str]:
    """Return the leaves that apply to a run as text, as they may be logged: null as YAML has it, no passwords.

    What decides nothing of the run is left to the stored configuration: where results are kept, the settings of a
    simulation, a file, a sweep, an early stop or a consensus that there is not; that counts are in memory.

    Parameters
    ----------
    config
        Of the run.
    of_sweep
        Whether the run stands for a sweep, whose settings then apply.
    """
    applies = {
        "data.simulation.": config.data.kind == "simulated",
        "data.path": config.data.kind == "file",
        "data.labels": config.data.kind == "file",
        "data.condition_": config.data.condition_key is not None,
        **{f"model.{key}": config.model.name == family for key, family in FAMILY_KEYS.items()},
        "train.data": config.train.data != "memory",
        "train.early_stopping_patience": config.train.early_stopping,
        "sweep.": of_sweep,
        "objectives": of_sweep,
    }
    hidden = ("tracking.", "plan", "runs_dir", "cache", *(key for key, does in applies.items() if not does))
    leaves = to_leaves(without_passwords(config))
    return {key: "null" if v is None else str(v) for key, v in leaves.items() if not key.startswith(hidden)}
