"""What killed processes and unreachable servers left behind: runs to end, results to send."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from scballast.config import keys
from scballast.errors import ScballastError
from scballast.results import MARKER, remove_partial
from scballast.tracking import publish
from scballast.tracking.delivery import Delivery
from scballast.tracking.liveness import ProcessIdentity, current_process
from scballast.tracking.outbox import PENDING_PREFIX, OutboxEntry, now

SILENT_DEATH = "its process ended without a word"

# No result folder lies below these folders of the runs folder.
_NO_RESULTS_BELOW = ("artifacts", "outbox", "cache")


@dataclass(frozen=True)
class SyncResult:
    """What was sent by `Tracking.sync`, and what still waits.

    Attributes
    ----------
    published
        Names of the runs whose results were sent now.
    ended
        Runs whose failure or interruption was sent now.
    running
        Number of runs left alone because their process is at work on them.
    waiting
        Runs that could not be sent, with the reason.
    """

    published: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()
    running: int = 0
    waiting: tuple[str, ...] = ()


def reap(delivery: Delivery) -> list[str]:
    """End as FAILED the runs that are RUNNING although their process is gone; returns their ids.

    One process at a time may: another could be sending the result of the very run. A result that such a
    run had finished is left to `send_all`, which ends the run as FINISHED after all.
    """
    store, ended = delivery.store, []
    for seen in delivery.outbox.entries():
        if not _is_for_this_store(delivery, seen) or _is_alive(delivery, seen):
            continue
        # The process may have ended its run between the look at the entry and the look at the process;
        # now that it is gone, what stands there stays.
        entry = delivery.outbox.find(f"{PENDING_PREFIX}{seen.key}")
        if entry is None or entry.state != "RUNNING":
            continue
        dead = _dead(delivery, entry)
        with store.access():
            dead = delivery.end(dead)
        if dead.folder is not None:
            remove_partial(store.settings.root / dead.folder)
        if delivery.result(dead) is None:
            delivery.outbox.drop(dead.key)
        ended.append(dead.reference)
    with store.access():
        # Only what this folder's own database holds is ours to judge in every experiment.
        experiment = store.settings.experiment if store.settings.is_server else None
        for run in store.search(experiment, condition="attributes.status = 'RUNNING'"):
            process = ProcessIdentity.from_json(run.tags.get(keys.PROCESS, ""))
            last = float(run.tags.get(keys.HEARTBEAT, run.start_time / 1000))
            if process is None or process.is_alive(silent_seconds=time.time() - last):
                continue
            if store.client.get_run(run.run_id).info.status == "RUNNING":
                store.client.set_tag(run.run_id, keys.FAILURE, SILENT_DEATH)
                store.client.set_terminated(run.run_id, "FAILED")
                ended.append(run.run_id)
    return ended


def send_all(delivery: Delivery) -> SyncResult:
    """Send what is finished on disk but not in the store; one process at a time may."""
    told: dict[str, list[str]] = {"published": [], "ended": [], "waiting": []}
    at_work = []
    for entry in delivery.outbox.entries():
        if not _is_for_this_store(delivery, entry):
            told["waiting"].append(f"{entry.name}: belongs to {entry.store}")
        elif _is_at_work(delivery, entry):
            at_work.append(entry)
        else:
            _send(delivery, entry, told)
    # A run at work that has not said where its result will be may own any of the folders.
    if all(entry.folder is not None for entry in at_work):
        for folder in list(_unpublished(delivery)):
            try:
                with delivery.store.access():
                    entry = _adopted(delivery, folder)
            except ScballastError as error:
                told["waiting"].append(f"{folder}: {error}")
            else:
                _send(delivery, entry, told)
    return SyncResult(running=len(at_work), **{what: tuple(texts) for what, texts in told.items()})


def _send(delivery: Delivery, entry: OutboxEntry, told: dict[str, list[str]]) -> None:
    if entry.state == "RUNNING":
        entry = _dead(delivery, entry)
    try:
        with delivery.store.access():
            delivered = delivery.deliver(entry)
    except ScballastError as error:
        told["waiting"].append(f"{entry.name}: {error}")
    else:
        told["published" if delivered.state == "FINISHED" else "ended"].append(entry.name)


def _dead(delivery: Delivery, entry: OutboxEntry) -> OutboxEntry:
    dead = replace(entry, state="FAILED", reason=SILENT_DEATH, end_time=now())
    delivery.outbox.write(dead)
    return dead


def _unpublished(delivery: Delivery) -> Iterator[Path]:
    """Yield the complete result folders that were never sent and that no entry speaks of."""
    root = delivery.store.settings.root
    claimed = {root / entry.folder for entry in delivery.outbox.entries() if entry.folder is not None}
    for place, folders, files in os.walk(root):
        path = Path(place)
        if MARKER in files:
            folders.clear()
            if publish.PUBLISHED_MARKER not in files and path not in claimed:
                yield path
            continue
        skipped = _NO_RESULTS_BELOW if path == root else ()
        folders[:] = sorted(f for f in folders if f not in skipped and not f.startswith("."))


def _adopted(delivery: Delivery, folder: Path) -> OutboxEntry:
    """Return an entry for a result folder that none speaks of: of the run it came from, or of a new one."""
    digest = publish.folder_digest(folder)
    finished = publish.finished_time(folder)
    params = json.loads((folder / "params.json").read_text(encoding="utf-8"))
    experiment = params.get("tracking.experiment", delivery.store.settings.experiment)
    run_id = delivery.store.find_one(experiment, keys.RESULT, digest)
    if run_id is None:
        place = {keys.FOLDER: delivery.place(folder)}
        unfinished = delivery.store.search(experiment, place, condition="attributes.status != 'FINISHED'")
        run_id = unfinished[-1].run_id if unfinished else None
    return OutboxEntry(
        key=digest[:32],
        experiment=experiment,
        name=folder.name,
        state="FINISHED",
        start_time=finished,
        folder=delivery.place(folder),
        run_id=run_id,
        store=delivery.store.settings.shown_uri if run_id else None,
        end_time=finished,
    )


def _is_at_work(delivery: Delivery, entry: OutboxEntry) -> bool:
    """Return whether a process is at work on a run, or sending it; this one has time to send its own."""
    return _is_alive(delivery, entry) and (entry.state == "RUNNING" or entry.process != current_process())


def _is_alive(delivery: Delivery, entry: OutboxEntry) -> bool:
    return entry.process.is_alive(silent_seconds=delivery.outbox.silent_seconds(entry.key))


def _is_for_this_store(delivery: Delivery, entry: OutboxEntry) -> bool:
    return entry.store in (None, delivery.store.settings.shown_uri)
