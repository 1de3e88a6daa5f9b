"""The end of a run or a sweep as a door: where its report is, and what opens it."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from scballast.config.schema import Config
from scballast.sweep.trial import open_tracking
from scballast.tracking.faults import UnreachableError

_FIRST_PORT = 5000  # where scballast-ui listens unless it is taken


def door(run_id: str, folder: Path, config: Config) -> list[str]:
    """Return the lines that lead on: the report's file, its page in the UI, and the commands that open them.

    Parameters
    ----------
    run_id
        The MLflow run.
    folder
        Its result folder.
    config
        Where runs are kept and tracked.
    """
    flag = "" if config.runs_dir == "runs" else f" --runs-dir {shlex.quote(config.runs_dir)}"
    lines = ["", f"Report: {folder / 'report.html'}", f"Open it:  {command_of('scballast')} report {folder.name}{flag}"]
    tracking = open_tracking(config)
    settings = tracking.settings
    try:
        experiment = tracking.experiments().get(settings.experiment)
    except UnreachableError:  # said when the results could not be sent
        return lines
    page = f"/#/experiments/{experiment}/runs/{run_id}/artifacts/report.html?workflowType=machine_learning"
    if settings.is_server:
        return lines + ([f"In the MLflow UI:  {settings.shown_uri}{page}"] if experiment else [])
    lines.append(f"In the MLflow UI:  {command_of('scballast-ui', of_make=not flag)}{flag}")
    return lines + ([f"  then  http://127.0.0.1:{_FIRST_PORT}{page}"] if experiment else [])


def command_of(name: str, *, of_make: bool = False) -> str:
    """Return how a command of this environment is called from here: by name, its path, or through make if that does."""
    on_path, beside_python = shutil.which(name), Path(sys.executable).parent / name
    if on_path is not None and Path(on_path).resolve() == beside_python.resolve():
        return name
    if of_make and beside_python.parent == Path.cwd() / ".venv" / "bin" and Path("Makefile").is_file():
        return (
            "make ui"
            if "scballast-ui" in Path("Makefile").read_text(encoding="utf-8")
            else os.path.relpath(beside_python)
        )
    return shlex.quote(
        os.path.relpath(beside_python) if beside_python.is_relative_to(Path.cwd()) else str(beside_python)
    )
