"""Where a sweep's trials are kept, and the lock under which its workers agree.

SQLite in the runs folder, a journal file on a shared disk, or PostgreSQL: what is said here about
opening, locking and concurrent starts holds for all three.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scballast.config.addresses import without_password
from scballast.errors import ConfigError, ScballastError
from scballast.sweep.optuna_compat import BaseStorage
from scballast.tracking.database import is_network_file_system

_LOCK_SECONDS = 300.0
# A writer waits so long for the others before SQLite gives up.
_BUSY_SECONDS = 60.0
_JOURNAL = "journal:"
_SQLITE = "sqlite:///"


@dataclass(frozen=True)
class StorageAddress:
    """The address of a study's storage.

    Attributes
    ----------
    uri
        ``sqlite:///PATH``, ``journal:PATH`` or ``postgresql://…``, with absolute paths.
    """

    uri: str

    @property
    def shown(self) -> str:
        """The address without its password."""
        return without_password(self.uri)

    @property
    def path(self) -> Path | None:
        """The file, or ``None`` for a server."""
        for prefix in (_JOURNAL, _SQLITE):
            if self.uri.startswith(prefix):
                return Path(self.uri.removeprefix(prefix))
        return None


def storage_address(text: str | None, runs_dir: Path) -> StorageAddress:
    """Return the address of ``sweep.storage``; by default ``optuna.db`` in the runs folder.

    Raises
    ------
    ConfigError
        The address is of no known kind, or its driver is not installed.
    """
    if text is None:
        return StorageAddress(f"{_SQLITE}{runs_dir / 'optuna.db'}")
    for prefix in (_JOURNAL, _SQLITE):
        if text.startswith(prefix) and len(text) > len(prefix):
            return StorageAddress(f"{prefix}{Path(text.removeprefix(prefix)).expanduser().absolute()}")
    scheme, separator, rest = text.partition("://")
    dialect, _, driver = scheme.partition("+")
    if not separator or dialect not in ("postgresql", "postgres"):
        message = (
            f"sweep.storage: {without_password(text)!r} is not the address of a storage.\n"
            "Give postgresql://user@host/database, journal:FILE on a disk that all workers share, or "
            "sqlite:///FILE; leave it out for SQLite in runs_dir."
        )
        raise ConfigError(message)
    if not driver:
        driver = next((name for name in ("psycopg", "psycopg2") if importlib.util.find_spec(name)), "")
        if not driver:
            message = "sweep.storage: PostgreSQL needs its driver: pip install 'scballast[postgresql]'."
            raise ConfigError(message)
    return StorageAddress(f"postgresql+{driver}://{rest}")


@contextmanager
def sweep_lock(address: StorageAddress) -> Iterator[None]:
    """Hold the lock under which one worker at a time creates a study, takes a trial or gives one up.

    The operating system or the server releases it when its holder dies.

    Raises
    ------
    ScballastError
        Another process holds it for more than five minutes, or the storage cannot be reached.
    """
    if address.path is not None:
        import filelock

        lock = address.path.with_name(f".{address.path.name}.lock")
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(lock, timeout=_LOCK_SECONDS):
                yield
        except filelock.Timeout as error:
            message = f"{lock}: another process has held this lock for {_LOCK_SECONDS:.0f} s. End it, and try again."
            raise ScballastError(message) from error
        return
    import sqlalchemy

    key = int.from_bytes(hashlib.blake2b(b"scballast", digest_size=8).digest(), "big", signed=True)
    engine = sqlalchemy.create_engine(address.uri, poolclass=sqlalchemy.pool.NullPool)
    with _reachable(address):
        connection = engine.connect()
    with connection:
        connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": key})
        yield
        # Closing the connection ends the session, and with it the lock.


def open_storage(address: StorageAddress) -> BaseStorage:
    """Open a storage, made if it is not there; to be called under `sweep_lock`.

    Raises
    ------
    ScballastError
        It cannot be opened.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if address.uri.startswith(_JOURNAL):
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        return JournalStorage(JournalFileBackend(address.uri.removeprefix(_JOURNAL)))
    arguments: dict[str, Any] = {"pool_pre_ping": True}
    if address.path is not None:
        arguments = {"connect_args": {"timeout": _BUSY_SECONDS}}
        # Readers and a writer work at once, except where processes may be on different machines.
        if not address.path.exists() and not is_network_file_system(address.path.parent):
            with closing(sqlite3.connect(address.path, timeout=_BUSY_SECONDS)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
    with _reachable(address):
        return optuna.storages.RDBStorage(address.uri, engine_kwargs=arguments)


@contextmanager
def _reachable(address: StorageAddress) -> Iterator[None]:
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except RuntimeError as error:
        message = (
            f"sweep.storage: {address.shown} cannot be opened: {str(error).splitlines()[0]}\n"
            "Optuna and MLflow cannot share a database: give the sweep one of its own (CREATE DATABASE optuna)."
        )
        raise ScballastError(message) from error
    except SQLAlchemyError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        message = f"sweep.storage: {address.shown} cannot be opened: {reason}"
        raise ScballastError(message) from error
