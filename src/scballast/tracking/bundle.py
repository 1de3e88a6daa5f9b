"""A copy of the database with some of its runs only."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from scballast.config import keys
from scballast.errors import ScballastError

# What a run owns is found by these columns, whatever tables a release of MLflow has.
_RUN_COLUMNS = ("run_uuid", "run_id", "source_run_id")


def runs_of_sweep(database: Path, sweep: str | None) -> list[str]:
    """Return the ids of a sweep's runs, its parent among them; of all runs where no sweep is named.

    Raises
    ------
    ScballastError
        There is no such sweep; the message names those that there are.
    """
    with closing(sqlite3.connect(database, timeout=20.0)) as connection:
        alive = "SELECT run_uuid FROM runs WHERE lifecycle_stage = 'active'"
        if sweep is None:
            return sorted(run for (run,) in connection.execute(alive))
        query = f"SELECT run_uuid FROM tags WHERE key = ? AND value = ? AND run_uuid IN ({alive})"
        runs = {run for (run,) in connection.execute(query, (keys.SWEEP, sweep))}
        marks = ",".join("?" * len(runs))
        family = (
            "SELECT run_uuid, value FROM tags WHERE key = 'mlflow.parentRunId' AND "
            f"(value IN ({marks}) OR run_uuid IN ({marks}))"
        )
        runs |= {run for pair in connection.execute(family, [*runs, *runs]) for run in pair}
        if not runs:
            query = "SELECT DISTINCT value FROM tags WHERE key = ? ORDER BY value"
            names = connection.execute(query, (keys.SWEEP,))
            known = ", ".join(name for (name,) in names) or "none"
            msg = f"sweep {sweep!r}: there is none of that name; sweeps here: {known}."
            raise ScballastError(msg)
    return sorted(runs)


def keep_runs(database: Path, runs: list[str]) -> list[str]:
    """Delete all other runs and what belongs to them; returns the ids of the models that stay.

    Parameters
    ----------
    database
        A copy that nobody else has open.
    runs
        Ids of the runs to keep.
    """
    with closing(sqlite3.connect(database)) as connection:
        with connection:
            connection.execute("CREATE TEMP TABLE kept (id TEXT PRIMARY KEY)")
            connection.executemany("INSERT INTO kept VALUES (?)", [(run,) for run in runs])
            tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            columns = {t: [row[1] for row in connection.execute(f"PRAGMA table_info({t})")] for t in tables}
            for table in tables:
                for column in set(_RUN_COLUMNS) & set(columns[table]):
                    connection.execute(
                        f"DELETE FROM {table} WHERE {column} IS NOT NULL AND {column} NOT IN (SELECT id FROM kept)"
                    )
            connection.execute(
                "DELETE FROM inputs WHERE destination_type = 'RUN' AND destination_id NOT IN (SELECT id FROM kept)"
            )
            connection.execute(
                "DELETE FROM experiments WHERE experiment_id != 0 "
                "AND experiment_id NOT IN (SELECT experiment_id FROM runs)"
            )
            _delete_orphans(connection, "experiment_tags", "experiment_id", "experiments")
            for table in ("logged_model_params", "logged_model_tags", "logged_model_metrics"):
                _delete_orphans(connection, table, "model_id", "logged_models")
            for table in ("registered_models", "registered_model_tags", "registered_model_aliases"):
                _delete_orphans(connection, table, "name", "model_versions")
            # An alias, or a version's tag, belongs to one version of a model that may have kept others.
            for table in ("registered_model_aliases", "model_version_tags"):
                connection.execute(
                    f"DELETE FROM {table} WHERE (name, version) NOT IN (SELECT name, version FROM model_versions)"
                )
            models = [model for (model,) in connection.execute("SELECT model_id FROM logged_models ORDER BY model_id")]
        connection.execute("VACUUM")
    return models


def _delete_orphans(connection: sqlite3.Connection, table: str, column: str, owners: str) -> None:
    connection.execute(f"DELETE FROM {table} WHERE {column} NOT IN (SELECT {column} FROM {owners})")
