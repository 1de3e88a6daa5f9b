"""The page of a trial: drawn with its results, at the end of its sweep, or when asked for."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue

from scballast.config import keys
from scballast.errors import ScballastError
from scballast.progress import progress_bar
from scballast.results import MARKER, is_complete, link_or_copy, remove_partial
from scballast.sweep.child import ProcessDiedError, TrialProcess
from scballast.sweep.front import pareto_front
from scballast.sweep.messages import Answer, Drawn, DrawRequest, Failed
from scballast.sweep.study import SweepStudy
from scballast.threads import at_once
from scballast.tracking import Tracking
from scballast.tracking.publish import PUBLISHED_MARKER

logger = logging.getLogger(__name__)


def add_page(folder: Path, *, of_finished: bool = True, n_processes: int | None = None) -> None:
    """Add figures and page to a folder of results that has none, the page last.

    Parameters
    ----------
    folder
        A complete folder of results.
    of_finished
        Its run in MLflow has finished. The folder then counts as not published until it is published with its page:
        if this process is killed in between, the next command sends it.
    n_processes
        Processes that draw figures, which do not depend on it; None: as many as this one has cores, a few.

    Raises
    ------
    OSError
        It cannot be written.
    """
    from scballast.report.drawing import drawers
    from scballast.report.experiment_report import render_trial_report

    with (
        drawers(at_once() if n_processes is None else n_processes) as others,
        tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.", suffix=".part") as scratch,
    ):
        made = Path(scratch) / folder.name
        share(folder, made)
        render_trial_report(made, others)
        shutil.copytree(made / "figures", folder / "figures", dirs_exist_ok=True)
        if of_finished:
            (folder / PUBLISHED_MARKER).unlink(missing_ok=True)
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
    """Draw the pages that the trials of the Pareto front lack, side by side in processes, and publish each.

    Of several commands that share a sweep one draws, and the others wait for it: with a lock of its own, for the
    storage's is that of other sweeps too.
    """
    import filelock

    place = tracking.settings.root / "sweeps" / study.name
    place.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(place.with_name(f".{place.name}.lock")):
        folders = _without_page(study, tracking.settings.root)
        processes = [TrialProcess() for _ in range(min(at_once(), len(folders)))]
        n_each = at_once() // max(1, len(processes))
        free: SimpleQueue[TrialProcess] = SimpleQueue()
        for process in processes:
            free.put(process)
        pool = ThreadPoolExecutor(max(1, len(processes)))
        try:
            with progress_bar("drawing reports of the Pareto front", len(folders), unit="trials") as advance:
                drawing = {pool.submit(_draw, folder, free, n_each): run_id for run_id, folder in folders.items()}
                for drawn in as_completed(drawing):
                    run_id = drawing[drawn]
                    if _is_drawn(drawn.result(), folders[run_id]):
                        _publish(tracking, run_id, folders[run_id])
                    advance(1)
        except BaseException:
            for process in processes:
                process.end()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
            for process in processes:
                process.close()


def _publish(tracking: Tracking, run_id: str, folder: Path) -> None:
    """Send a page into its run; where it cannot be sent the sweep's result stands, and the next command tries again."""
    try:
        tracking.publish(run_id, folder)
    except ScballastError as error:
        logger.warning("The report of %s is not in MLflow: %s", folder.name, error)


def _without_page(study: SweepStudy, root: Path) -> dict[str, Path]:
    """Return the folders of the trials on the front that have no page, by their runs."""
    folders: dict[str, Path] = {}
    for number in pareto_front(study.scores()):
        notes = study.trial(number).user_attrs
        folder = root / str(notes.get(keys.RESULTS, ""))
        # A trial of another machine, whose disk is not this one's, keeps its page for whoever asks there.
        if keys.RUN_ID in notes and is_complete(folder) and not (folder / "report.html").is_file():
            remove_partial(folder)
            folders[str(notes[keys.RUN_ID])] = folder
    return folders


def _draw(folder: Path, free: SimpleQueue[TrialProcess], n_processes: int) -> Answer:
    """Draw a page in a process that is free."""
    process = free.get()
    try:
        return process.call(DrawRequest(str(folder), n_processes))
    except ProcessDiedError as error:
        return Failed(str(error), died=True)
    finally:
        free.put(process)


def _is_drawn(answer: Answer, folder: Path) -> bool:
    if isinstance(answer, Drawn):
        return True
    reason = answer.reason if isinstance(answer, Failed) else "it was interrupted"
    logger.warning("The report of %s is not drawn (%s): scballast report %s", folder.name, reason, folder)
    return False
