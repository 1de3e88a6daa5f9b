"""Addresses of servers and databases: used with their passwords, shown and logged without."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit, urlunsplit

from scballast.config.schema import Config


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
