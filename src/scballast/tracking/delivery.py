"""From the outbox into the store."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from scballast.config import keys
from scballast.results import is_complete
from scballast.tracking import publish
from scballast.tracking.outbox import PENDING_PREFIX, Outbox, OutboxEntry
from scballast.tracking.store import SIGNS_OF_LIFE, Store


@dataclass(frozen=True)
class Delivery:
    """Brings entries of the outbox into the store."""

    store: Store
    outbox: Outbox

    def place(self, folder: Path) -> str:
        """Return a folder's path as entries hold it: relative to the runs folder, which may be moved."""
        path, root = folder.resolve(), self.store.settings.root
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)

    def result(self, entry: OutboxEntry) -> Path | None:
        """Return the entry's result folder, if it is complete."""
        if entry.folder is None:
            return None
        folder = self.store.settings.root / entry.folder
        return folder if is_complete(folder) else None

    def introduce(self, entry: OutboxEntry, *, fresh: bool = False) -> OutboxEntry:
        """Return the entry with the store's name for its run, which is created if it is not there yet.

        Parameters
        ----------
        entry
            A run.
        fresh
            The run was begun just now, so the store cannot have it.
        """
        if entry.run_id is not None:
            return entry
        run_id = None if fresh else self.store.find_one(entry.experiment, keys.KEY, entry.key)
        if run_id is None:
            run_id = self.store.create_run(entry, self._parent(entry))
        entry = replace(entry, run_id=run_id, store=self.store.settings.shown_uri)
        self.outbox.write(entry)
        known = {} if fresh else self.store.client.get_run(run_id).data.params
        publish.log_params(self.store.client, run_id, entry.params, known=known)
        return entry

    def deliver(self, entry: OutboxEntry) -> OutboxEntry:
        """Bring a run's end into the store, with its result where there is one; returns the entry, which is forgotten.

        A complete result makes a run FINISHED whatever became of its process afterwards.
        """
        entry = self.introduce(entry)
        run_id = entry.reference
        if entry.late_tags:
            publish.log_tags(self.store.client, run_id, entry.late_tags)
        folder = self.result(entry)
        if folder is None:
            entry = self.end(entry)
        else:
            finished = publish.finished_time(folder)
            publish.publish_folder(self.store.client, run_id, folder, finished=finished)
            self.store.client.set_terminated(run_id, "FINISHED", finished)
            # Only now: a run that is RUNNING and has no process would be nobody's to end.
            self.store.clear_tags(run_id, (keys.FAILURE, *SIGNS_OF_LIFE))
            marker = {"run_id": run_id, "store": self.store.settings.shown_uri}
            publish.write_atomically(folder / publish.PUBLISHED_MARKER, json.dumps(marker, indent=2) + "\n")
            entry = replace(entry, state="FINISHED")
        self.outbox.drop(entry.key)
        return entry

    def end(self, entry: OutboxEntry) -> OutboxEntry:
        """Set a run's status, reason and traceback; its entry stays."""
        entry = self.introduce(entry)
        run_id = entry.reference
        client = self.store.client
        if entry.traceback:
            client.log_text(run_id, f"{entry.reason}\n\n{entry.traceback}", "failure.txt")
        if entry.reason:
            publish.log_tags(client, run_id, publish.clean_tags({keys.FAILURE: entry.reason}))
        client.set_terminated(run_id, entry.state, entry.end_time)
        return entry

    def _parent(self, child: OutboxEntry) -> str | None:
        """Return the store's name for a parent, which may have been started while the server was away."""
        parent = child.parent
        if parent is None or not parent.startswith(PENDING_PREFIX):
            return parent
        entry = self.outbox.find(parent)
        if entry is not None:
            return self.introduce(entry).run_id
        return self.store.find_one(child.experiment, keys.KEY, parent.removeprefix(PENDING_PREFIX))
