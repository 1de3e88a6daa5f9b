"""Addresses of servers and databases: used with their passwords, shown and logged without."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit, urlunsplit

from scballast.config.schema import Config, to_leaves


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


def params_of(config: Config) -> dict[str, str]:
    """Return every leaf of a configuration as text, as it may be logged: null as YAML has it, no passwords."""
    return {key: "null" if value is None else str(value) for key, value in to_leaves(without_passwords(config)).items()}
