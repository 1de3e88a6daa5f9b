"""What this program uses of MLflow beyond its documented interface: one place to look when MLflow moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def load_store() -> None:
    """Import what `make_database` needs: seconds, for a caller that has to wait for something else."""
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401


def retry_briefly() -> None:
    """Let MLflow try to reach a database for 6 seconds and not, in silence, for 100."""
    from mlflow.store.db import utils

    utils.MAX_RETRY_COUNT = 6


def make_database(uri: str, artifact_root: str) -> None:
    """Make the tables of a new database, with MLflow's default experiment."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    # The engine is cached for the process: a connection left open would keep the file's journal.
    SqlAlchemyStore(uri, artifact_root).engine.dispose()


def schema_of(engine: Any) -> str | None:
    """Return the revision of a database's tables; None for a database without any."""
    from mlflow.store.db import utils

    schema: str | None = utils._get_schema_version(engine)
    return schema


def newest_schema() -> str:
    """Return the revision that the installed MLflow works with."""
    from mlflow.store.db import utils

    return str(utils._get_latest_schema_revision())


def knows_schema(revision: str) -> bool:
    """Return whether the installed MLflow can bring a database of this revision up to its own."""
    from alembic.script import ScriptDirectory
    from mlflow.store.db import utils

    script = ScriptDirectory.from_config(utils._get_alembic_config(db_url=""))
    return revision in {known.revision for known in script.walk_revisions()}


def upgrade(engine: Any, schema: str | None) -> None:
    """Make a database's tables, or bring those of an older MLflow up to date."""
    from mlflow.store.db import utils

    if schema is None:
        utils._initialize_tables(engine)
    else:
        utils._upgrade_db(engine)


def local_path(uri: str) -> Path | None:
    """Return the folder of an artifact address on this machine; None for an address elsewhere."""
    if not uri.startswith(("file:", "/")):
        return None
    from mlflow.utils.file_utils import local_file_uri_to_path

    return Path(local_file_uri_to_path(uri))


def download_artifacts(uri: str, path: str, place: str, *, store_uri: str) -> Path:
    """Copy artifacts of any address into a folder of this machine, whatever store is MLflow's global one."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return Path(get_artifact_repository(uri, tracking_uri=store_uri).download_artifacts(path, place))
