"""Where runs are tracked: SQLite under ``runs/``, or the store that the user names."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from scballast.config.addresses import without_password
from scballast.errors import ConfigError

_VARIABLE = "MLFLOW_TRACKING_URI"
_SQLITE = "sqlite:///"
_SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https")


@dataclass(frozen=True)
class TrackingSettings:
    """Where runs are tracked.

    Attributes
    ----------
    uri
        Address of the store; ``None`` takes ``MLFLOW_TRACKING_URI``, and where that is not set either,
        ``mlflow.db`` in `runs_dir`.
    experiment
        Name of the MLflow experiment.
    runs_dir
        The folder that holds everything a run writes.
    """

    uri: str | None
    experiment: str
    runs_dir: Path

    @property
    def root(self) -> Path:
        """The runs folder, absolute and free of links: databases remember it."""
        return Path(self.runs_dir).expanduser().resolve()

    @property
    def store_uri(self) -> str:
        """The address that MLflow is given; raises `ConfigError` for one that it does not know."""
        named, uri = "tracking.uri", self.uri
        if not uri:
            named, uri = _VARIABLE, os.environ.get(_VARIABLE)
        if not uri:
            return sqlite_uri(self.root / "mlflow.db")
        scheme = uri.split(":", 1)[0].split("+", 1)[0]
        if scheme not in _SCHEMES or "://" not in uri:
            where = "the environment variable MLFLOW_TRACKING_URI" if named == _VARIABLE else named
            out = f"unset {_VARIABLE}" if named == _VARIABLE else "leave it out"
            msg = (
                f"{where}: {without_password(uri)!r} is not the address of a store that is known here.\n"
                f"Give http(s)://host:port of an MLflow server, postgresql://…, or sqlite:///…; {out} for SQLite "
                "under runs_dir."
            )
            raise ConfigError(msg)
        if scheme == "sqlite":
            return sqlite_uri(Path(uri.removeprefix(_SQLITE)).expanduser().absolute())
        return uri

    @property
    def is_server(self) -> bool:
        """Whether the store is an MLflow server, which may be out of reach."""
        return self.store_uri.startswith(("http://", "https://"))

    @property
    def database(self) -> Path | None:
        """The SQLite file, or ``None`` where the store is none."""
        uri = self.store_uri
        return Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None

    @property
    def artifact_root(self) -> Path:
        """Where artifacts lie when no server keeps them."""
        return self.root / "artifacts"

    @property
    def shown_uri(self) -> str:
        """The address without its password, for messages and markers."""
        return without_password(self.store_uri)


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def sqlite_uri(path: Path) -> str:
    """Return the address of a SQLite file, or refuse a path that no such address can hold."""
    # SQLAlchemy reads what follows a question mark as settings; some releases of it decode percent signs.
    for sign, name in (("?", "question mark"), ("%", "percent sign")):
        if sign in str(path):
            msg = f"runs_dir: {path} holds a {name}, which the address of a database cannot.\nName another folder."
            raise ConfigError(msg)
    return f"{_SQLITE}{path}"
