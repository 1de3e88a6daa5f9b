"""The page of a trial: drawn with its results, at the end of its sweep, or when asked for."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from scballast.config import keys
from scballast.progress import Advance, progress_bar
from scballast.results import MARKER, is_complete, link_or_copy
from scballast.sweep.child import ProcessDiedError, TrialProcess
from scballast.sweep.front import pareto_front
from scballast.sweep.messages import Drawn, DrawRequest, Failed
from scballast.sweep.study import SweepStudy
from scballast.threads import at_once
from scballast.tracking import Tracking
from scballast.tracking.publish import PUBLISHED_MARKER

logger = logging.getLogger(__name__)


def add_page(folder: Path) -> None:
    """Add figures and page to a folder of results that has none, the page last.

    Raises
    ------
    OSError
        It cannot be written.
    """
    from scballast.report.experiment_report import render_trial_report

    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        made = Path(scratch) / folder.name
        share(folder, made)
        render_trial_report(made)
        shutil.copytree(made / "figures", folder / "figures", dirs_exist_ok=True)
        for page in ("description.md", "report.html"):
            os.replace(made / page, folder / page)


def share(folder: Path, copy: Path) -> None:
    """Copy a folder of results without its marks; the bytes of its tables and its model are shared."""

    def one_file(source: str, target: str) -> None:
        shared = Path(source).parent.name in ("tables", "model")
        (link_or_copy if shared else shutil.copy2)(source, target)

    marks = shutil.ignore_patterns(MARKER, PUBLISHED_MARKER)
    shutil.copytree(folder, copy, dirs_exist_ok=True, ignore=marks, copy_function=one_file)


def draw_front(study: SweepStudy, tracking: Tracking) -> None:
    """Draw the pages that the trials of the Pareto front lack, side by side in processes, and publish them.

    Of several commands that share a sweep one draws, and the others wait for it: with a lock of its own, for the
    storage's is that of other sweeps too.
    """
    import filelock

    place = tracking.settings.root / "sweeps"
    place.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(place / f".{study.name}.lock"):
        folders = _without_page(study, tracking.settings.root)
        n_processes = min(at_once(), len(folders))
        with progress_bar("drawing reports of the Pareto front", len(folders), unit="trials") as advance:
            parts = [dict(list(folders.items())[i::n_processes]) for i in range(n_processes)]
            with ThreadPoolExecutor(max(1, n_processes)) as pool:
                for drawn in [pool.submit(_draw, part, advance) for part in parts]:
                    for run_id in drawn.result():
                        tracking.publish(run_id, folders[run_id])


def _without_page(study: SweepStudy, root: Path) -> dict[str, Path]:
    """Return the folders of the trials on the front that have no page, by their runs."""
    folders: dict[str, Path] = {}
    for number in pareto_front(study.scores()):
        notes = study.trial(number).user_attrs
        folder = root / str(notes.get(keys.RESULTS, ""))
        # A trial of another machine, whose disk is not this one's, keeps its page for whoever asks there.
        if keys.RUN_ID in notes and is_complete(folder) and not (folder / "report.html").is_file():
            folders[str(notes[keys.RUN_ID])] = folder
    return folders


def _draw(folders: Mapping[str, Path], advance: Advance) -> list[str]:
    """Draw pages one after another in a process; return the runs whose page was drawn."""
    drawn = []
    process = TrialProcess()
    try:
        for run_id, folder in folders.items():
            try:
                answer = process.call(DrawRequest(str(folder)))
            except ProcessDiedError as error:
                answer = Failed(str(error), died=True)
            if isinstance(answer, Drawn):
                drawn.append(run_id)
            else:
                reason = answer.reason if isinstance(answer, Failed) else "it was interrupted"
                logger.warning("The report of %s is not drawn (%s): scballast report %s", folder.name, reason, folder)
            advance(1)
    finally:
        process.close()
    return drawn
