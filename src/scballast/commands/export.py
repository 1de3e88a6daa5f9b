"""The command ``scballast-export``: a sweep, or all runs, in one folder that opens elsewhere."""

from __future__ import annotations

import argparse
import shutil
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from scballast.commands.output import forgive_characters
from scballast.errors import ScballastError

_README = """# Runs of scballast

These are the runs{what}: the MLflow database, every table, figure, report and model{optuna}.

    pip install scballast
    scballast-ui --runs-dir .

The folder may be moved and renamed: its databases are corrected when it is opened.
Without scballast: the reports are `artifacts/*/artifacts/report.html`, the tables lie beside them.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``scballast-export``.

    Parameters
    ----------
    arguments
        Words of the command line, without the command.

    Returns
    -------
    int
        Exit status: 0 done, 2 there is nothing to export or no place to put it.
    """
    parser = argparse.ArgumentParser(
        prog="scballast-export",
        description="Bundle a sweep (databases and artifacts) into one folder that opens elsewhere.",
    )
    parser.add_argument("target", type=Path, help="folder to make")
    parser.add_argument("--sweep", help="name of the sweep (default: all runs)")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="folder of the runs (default: runs)")
    forgive_characters()
    options = parser.parse_args(arguments)
    try:
        n_runs = export_runs(options.runs_dir, options.target, sweep=options.sweep)
    except ScballastError as error:
        print(error, file=sys.stderr)
        return 2
    print(
        f"{n_runs} runs are in {options.target}. Open them, here or elsewhere: scballast-ui --runs-dir {options.target}"
    )
    return 0


def export_runs(runs_dir: Path, target: Path, *, sweep: str | None = None) -> int:
    """Copy runs with everything that belongs to them into a folder of its own.

    Parameters
    ----------
    runs_dir
        Folder of the runs; it may be in use.
    target
        Folder to make; it appears only when it is whole.
    sweep
        Name of the sweep; ``None`` takes all runs.

    Returns
    -------
    int
        Number of runs exported.

    Raises
    ------
    ScballastError
        There is no database or no such sweep, or `target` exists or cannot be written.
    """
    from scballast.results import whole
    from scballast.tracking import TrackingSettings
    from scballast.tracking.bundle import keep_runs, runs_of_sweep
    from scballast.tracking.database import copy_database
    from scballast.tracking.faults import clear_faults

    source, target = runs_dir.expanduser().resolve(), target.expanduser().resolve()
    database = source / "mlflow.db"
    if not database.exists():
        msg = f"{source}: holds no MLflow database, so there is nothing to export.\nName the folder with --runs-dir."
        raise ScballastError(msg)
    if target.exists():
        msg = f"{target}: exists already, and nothing is overwritten.\nName a folder that does not exist."
        raise ScballastError(msg)
    runs = runs_of_sweep(database, sweep)
    settings = TrackingSettings(uri=None, experiment="scballast", runs_dir=target)
    with clear_faults(settings), whole(target) as part:
        part.mkdir()
        copy_database(database, part / "mlflow.db")
        models = keep_runs(part / "mlflow.db", runs)
        for name in [*runs, *(f"models/{model}" for model in models)]:
            if (source / "artifacts" / name).is_dir():
                shutil.copytree(source / "artifacts" / name, part / "artifacts" / name)
        studies = (source / "optuna.db").exists()
        if studies:
            copy_database(source / "optuna.db", part / "optuna.db")
            if sweep is not None:
                _keep_study(part / "optuna.db", sweep)
        what = f" of the sweep {sweep}" if sweep else ""
        optuna = ", and the Optuna study (optuna.db)" if studies else ""
        (part / "README.md").write_text(_README.format(what=what, optuna=optuna), encoding="utf-8")
    return len(runs)


def _keep_study(database: Path, name: str) -> None:
    """Remove every other study from a copied Optuna database."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(f"sqlite:///{database}")
    try:
        for other in optuna.get_all_study_names(storage):
            if other != name:
                optuna.delete_study(study_name=other, storage=storage)
    finally:
        storage.engine.dispose()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("VACUUM")


if __name__ == "__main__":
    sys.exit(main())
