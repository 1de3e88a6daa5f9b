"""The SQLite database under ``runs/``: made and migrated by one process, moved with its folder."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from scballast.config import keys
from scballast.errors import ConfigError, ScballastError
from scballast.results import remove_partial, whole
from scballast.tracking import mlflow_compat
from scballast.tracking.location import TrackingSettings, sqlite_uri

_log = logging.getLogger(__name__)


# Write-ahead logging lets readers and a writer work at once, but needs memory shared between all
# processes: on these file systems they may be on different machines.
_NETWORK_FILE_SYSTEMS = tuple("nfs cifs smb lustre gpfs beegfs ceph glusterfs 9p fuse.sshfs afs".split())

_LOCATION_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


class LockedError(ScballastError):
    """Another process holds the lock."""


@contextmanager
def store_lock(settings: TrackingSettings, name: str = "store", timeout_seconds: float = 300.0) -> Iterator[None]:
    """Hold a lock of the runs folder, so that one process at a time changes its databases' shape.

    Raises
    ------
    LockedError
        Another process holds it for longer than `timeout_seconds`.
    """
    import filelock

    settings.root.mkdir(parents=True, exist_ok=True)
    path = settings.root / f".{name}.lock"
    try:
        with filelock.FileLock(path, timeout=timeout_seconds):
            yield
    except filelock.Timeout as error:
        msg = (
            f"{path}: another process has held this lock for {timeout_seconds:.0f} s.\n"
            "Wait for it to end, or end it, and try again."
        )
        raise LockedError(msg) from error


def load_mlflow() -> None:
    """Import what `create_or_migrate` needs: seconds, for a caller that has to wait for something else."""
    quiet_mlflow()
    mlflow_compat.load_store()


def create_or_migrate(settings: TrackingSettings) -> None:
    """Make the database if there is none; bring one of an older MLflow up to date.

    A new database appears under its name only when it is whole, so that a kill leaves none or a whole
    one. Before a migration the old database is copied beside it.

    Raises
    ------
    ConfigError
        The database comes from a newer MLflow.
    ScballastError
        Its migration failed.
    """
    quiet_mlflow()
    database = settings.database
    if database is None:
        mlflow_compat.retry_briefly()
        # MLflow's own initialisation; under the lock, since it is not safe against a second one.
        mlflow_compat.make_database(settings.store_uri, settings.artifact_root.as_uri())
    elif not database.exists():
        with whole(database) as part:
            mlflow_compat.make_database(sqlite_uri(part), settings.artifact_root.as_uri())
            _set_journal(part, database.parent)
        remove_partial(database)
    else:
        _migrate(settings, database)


def _migrate(settings: TrackingSettings, database: Path) -> None:
    import sqlalchemy

    engine = sqlalchemy.create_engine(settings.store_uri)
    try:
        schema = mlflow_compat.schema_of(engine)
        wanted = mlflow_compat.newest_schema()
        if schema == wanted:
            return
        if schema is not None and not mlflow_compat.knows_schema(schema):
            msg = (
                f"{database}: was made by a newer MLflow than the one installed here (its form is {schema}; "
                f"the newest known here is {wanted}). It is left as it is.\n"
                "Install that MLflow (pip install --upgrade mlflow), or name another runs_dir."
            )
            raise ConfigError(msg)
        copy = database.with_name(f"{database.name}.before-{wanted}")
        if schema is not None:
            _log.warning("%s: brought to the installed MLflow's form; the old one is kept as %s", database, copy.name)
            copy_database(database, copy)
        try:
            mlflow_compat.upgrade(engine, schema)
        except Exception as error:
            msg = (
                f"{database}: its form ({schema}) cannot be brought to that of the installed MLflow ({wanted}): "
                f"{error}\n"
                "Install the MLflow that made it, or name another runs_dir."
            )
            raise ScballastError(msg) from error
    finally:
        engine.dispose()
    _set_journal(database, database.parent)


def copy_database(source: Path, target: Path) -> None:
    """Copy a SQLite database that may be in use, as one consistent state in one file."""
    with whole(target) as part, closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(part)) as new:
        old.backup(new)
        new.execute("PRAGMA journal_mode=DELETE")


def relocate(settings: TrackingSettings) -> bool:
    """Correct the artifact locations of a runs folder that was moved or copied.

    Databases hold absolute paths; each experiment remembers the folder it was made in.

    Returns
    -------
    bool
        Whether the folder had moved.
    """
    database, root = settings.database, settings.root
    if database is None or root not in database.parents:
        return False
    with closing(sqlite3.connect(database, timeout=20.0)) as connection, connection:
        rows = connection.execute("SELECT DISTINCT value FROM experiment_tags WHERE key = ?", (keys.RUNS_DIR,))
        old_roots = [old for (old,) in rows if old != str(root)]
        for old in old_roots:
            _log.warning("%s was moved here from %s; its artifact locations are corrected", root, old)
            for prefix, replacement in ((Path(old).as_uri(), root.as_uri()), (old, str(root))):
                for table, column in _LOCATION_COLUMNS:
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                        (replacement, len(prefix) + 1, len(prefix) + 1, f"{prefix}/"),
                    )
            connection.execute(
                "UPDATE experiment_tags SET value = ? WHERE key = ? AND value = ?", (str(root), keys.RUNS_DIR, old)
            )
    return bool(old_roots)


def _set_journal(database: Path, folder: Path) -> None:
    mode = "DELETE" if is_network_file_system(folder) else "WAL"
    with closing(sqlite3.connect(database, timeout=20.0)) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")


def is_network_file_system(folder: Path) -> bool:
    """Return whether a folder lies on a file system that several machines may write to at once."""
    import psutil

    folder = folder.resolve()
    mounts = sorted(psutil.disk_partitions(all=True), key=lambda mount: -len(mount.mountpoint))
    kind = next((m.fstype for m in mounts if folder.is_relative_to(m.mountpoint)), "")
    return kind.lower().startswith(_NETWORK_FILE_SYSTEMS)


def quiet_mlflow() -> None:
    """Keep MLflow from phoning home, and from printing what it raises anyway."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_DISABLE_AGENT_HINT", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    # It logs the traceback of every database error and then raises the error.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    # Each retry would be a warning of its own.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.WARNING)
