"""A copy of the database with some of its runs only."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from scballast.config import keys
from scballast.errors import ScballastError

# What no foreign key ties to the runs, in the order in which it is deleted.
_OTHERS = {
    "runs": "run_uuid NOT IN kept",
    "logged_models": "source_run_id IS NOT NULL AND source_run_id NOT IN kept",
    "model_versions": "run_id IS NOT NULL AND run_id NOT IN kept",
    "inputs": "destination_type = 'RUN' AND destination_id NOT IN kept",
    "input_tags": "input_uuid NOT IN (SELECT input_uuid FROM inputs)",
    "assessments": "run_id IS NOT NULL AND run_id NOT IN kept",
    "experiments": "experiment_id != 0 AND experiment_id NOT IN (SELECT experiment_id FROM runs)",
    "registered_models": "name NOT IN (SELECT name FROM model_versions)",
    "registered_model_aliases": "(name, version) NOT IN (SELECT name, version FROM model_versions)",
}


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

    MLflow's own interface deletes for good in a database of its making only, and gives new ids to runs that are logged
    anew, by which trials, parents and links know them. What belongs to what is said by the database's foreign keys.

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
            for table, others in _OTHERS.items():
                connection.execute(f"DELETE FROM {table} WHERE {others}")
            while orphans := connection.execute("PRAGMA foreign_key_check").fetchall():
                for table, row, *_ in orphans:
                    connection.execute(f"DELETE FROM {table} WHERE rowid = ?", (row,))
            models = [model for (model,) in connection.execute("SELECT model_id FROM logged_models ORDER BY model_id")]
        connection.execute("VACUUM")
    return models
