"""``scballast report [RUN]``: say where the report of a run is, and open it."""

from __future__ import annotations

import argparse
import json
import re
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scballast.errors import ConfigError, ScballastError
from scballast.results import MARKER

if TYPE_CHECKING:
    from scballast.tracking import Tracking


def main(arguments: Sequence[str]) -> int:
    """Run the command; exit status 0 done, 2 there is no such run, 1 its report cannot be written."""
    parser = argparse.ArgumentParser(
        prog="scballast report", description="Open the report of a run, a check or a sweep."
    )
    parser.add_argument("run", nargs="?", help="name, MLflow id or result folder; default: the last")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="folder of the runs (default: runs)")
    parser.add_argument("--no-browser", action="store_true", help="only say where it is")
    options = parser.parse_args(arguments)
    try:
        folder = find_folder(options.run, options.runs_dir)
    except ScballastError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    report = folder / "report.html"
    if not report.is_file() and (folder / MARKER).is_file() and (folder / "tables" / "rankings.parquet").is_file():
        # A trial of a sweep, or a run whose report failed or was killed.
        from scballast.sweep.pages import add_page

        run = _finished_run(folder)
        try:
            add_page(folder, of_finished=run is not None)
        except OSError as error:
            sys.stderr.write(f"{folder}: the report cannot be written ({error.strerror or error}).\n")
            return 1
        if run is not None:
            tracking, run_id = run
            try:
                tracking.publish(run_id, folder)
            except ScballastError as error:
                sys.stderr.write(f"The report stays out of MLflow until the next command: {error}\n")
    if not report.is_file():
        sys.stderr.write(f"{folder}: holds no report.html.\n")
        return 2
    print(report)
    if not options.no_browser:
        webbrowser.open(report.resolve().as_uri())
    return 0


def _finished_run(folder: Path) -> tuple[Tracking, str] | None:
    """Return the finished run in MLflow to which a folder's report is to be added; None, and why: there is none."""
    from scballast.tracking import Tracking, TrackingSettings
    from scballast.tracking.faults import UnreachableError
    from scballast.tracking.publish import PUBLISHED_MARKER

    marker = folder / PUBLISHED_MARKER
    if not marker.is_file():
        return None  # sent as a whole by the next command
    published = json.loads(marker.read_text(encoding="utf-8"))
    run_id, place = str(published["run_id"]), str(published["store"])
    try:
        # The folder lies in results/ of its folder of runs, wherever this command is given.
        settings = TrackingSettings(uri=None, experiment="scballast", runs_dir=folder.resolve().parents[1])
        moved = not settings.is_server and place.startswith("sqlite:")  # with its folder
        if place != settings.shown_uri and not moved:
            message = f"the run is in {place}, and MLFLOW_TRACKING_URI or its absence names {settings.shown_uri}"
            raise ScballastError(message)
        if settings.database is not None and not settings.database.exists():
            message = f"there is no {settings.database}"
            raise ScballastError(message)
        tracking = Tracking(settings)
        status = tracking.get_run(run_id).status
        if status != "FINISHED":
            message = f"the run ended as {status}"
            raise ScballastError(message)
    except (ScballastError, UnreachableError) as error:
        sys.stderr.write(f"The report stays out of MLflow: {str(error).rstrip('.')}.\n")
        return None
    return tracking, run_id


def find_folder(run: str | None, runs_dir: Path) -> Path:
    """Return the result folder of a run.

    Parameters
    ----------
    run
        Name (or its beginning or end, where only one run has it), MLflow id, or folder; None: the last run,
        check or sweep.
    runs_dir
        Folder of the runs.

    Raises
    ------
    ConfigError
        There is no such run, or several.
    """
    if run is not None and (Path(run) / "tables").is_dir():
        return Path(run)
    root, results = runs_dir.expanduser(), runs_dir.expanduser() / "results"
    kinds = ("results", "checks", "sweeps")
    markers = [marker for kind in kinds for marker in (root / kind).glob(f"[!.]*/{MARKER}")]
    folders = sorted(markers, key=lambda marker: marker.stat().st_mtime)
    names = {marker.parent.name: marker.parent for marker in folders}
    if not names:
        message = f"{results}: holds no finished run. Name another folder: scballast report --runs-dir FOLDER"
        raise ConfigError(message)
    if run is None:
        return folders[-1].parent
    matching = [name for name in names if run == name or name.startswith(run) or name.endswith(run)]
    if len(matching) == 1 or run in names:
        return names[run if run in names else matching[0]]
    if matching:
        message = f"{run!r} is the name of several runs: {', '.join(matching)}."
        raise ConfigError(message)
    return _of_mlflow(run, runs_dir, list(names))


def _of_mlflow(run: str, runs_dir: Path, names: Sequence[str]) -> Path:
    """Return the folder of a run by its MLflow id."""
    from scballast.tracking import Tracking, TrackingSettings

    settings = TrackingSettings(uri=None, experiment="scballast", runs_dir=runs_dir.expanduser().resolve())
    if re.fullmatch("[0-9a-f]{32}", run) is None:
        import difflib

        near = difflib.get_close_matches(run, names, n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        message = f"There is no run {run!r} in {runs_dir}.{hint} Runs: {', '.join(names[-5:])}."
        raise ConfigError(message)
    tracking = Tracking(settings)
    # What this machine computed, to which a report can be added, or else what the run holds in MLflow.
    folder = settings.root / "results" / tracking.get_run(run).name
    return folder if (folder / MARKER).is_file() else tracking.folder_of(run)
