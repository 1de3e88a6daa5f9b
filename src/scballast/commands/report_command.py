"""``scballast report [RUN]``: say where the report of a run is, and open it."""

from __future__ import annotations

import argparse
import json
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from scballast.errors import ConfigError, ScballastError
from scballast.results import MARKER


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

        try:
            add_page(folder)
        except OSError as error:
            sys.stderr.write(f"{folder}: the report cannot be written ({error.strerror or error}).\n")
            return 1
        _send(folder, options.runs_dir)
    if not report.is_file():
        sys.stderr.write(f"{folder}: holds no report.html.\n")
        return 2
    print(report)
    if not options.no_browser:
        webbrowser.open(report.resolve().as_uri())
    return 0


def _send(folder: Path, runs_dir: Path) -> None:
    """Bring a report that was drawn just now into the run in MLflow too."""
    from scballast.tracking import Tracking, TrackingSettings
    from scballast.tracking.publish import PUBLISHED_MARKER

    marker = folder / PUBLISHED_MARKER
    if not marker.is_file():
        return  # sent as a whole by the next command
    published = json.loads(marker.read_text(encoding="utf-8"))
    settings = TrackingSettings(uri=None, experiment="scballast", runs_dir=runs_dir.expanduser().resolve())
    moved = not settings.is_server and published["store"].startswith("sqlite:")  # with its folder
    if published["store"] != settings.shown_uri and not moved:
        sys.stderr.write(
            f"The report is not in MLflow: the run is in {published['store']}. To send it there, remove this report "
            "and give the command again with MLFLOW_TRACKING_URI set.\n"
        )
        return
    try:
        Tracking(settings).publish(published["run_id"], folder)
    except ScballastError as error:
        sys.stderr.write(f"The report is not in MLflow: {error}\n")


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
    known = len(run) == 32 and all(letter in "0123456789abcdef" for letter in run)
    if not known:
        import difflib

        near = difflib.get_close_matches(run, names, n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        message = f"There is no run {run!r} in {runs_dir}.{hint} Runs: {', '.join(names[-5:])}."
        raise ConfigError(message)
    tracking = Tracking(settings)
    # What this machine computed, to which a report can be added, or else what the run holds in MLflow.
    folder = settings.root / "results" / tracking.get_run(run).name
    return folder if (folder / MARKER).is_file() else tracking.folder_of(run)
