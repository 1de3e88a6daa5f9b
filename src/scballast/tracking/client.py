"""Runs in the MLflow store: started, published, ended, and sent later when the store was out of reach."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scballast.config import keys
from scballast.errors import ScballastError
from scballast.results import MARKER, is_complete, read_tables
from scballast.tracking import database, leftovers, publish, registry
from scballast.tracking.delivery import Delivery
from scballast.tracking.faults import DiskFullError, UnreachableError, clear_faults, says_full
from scballast.tracking.heartbeat import Heartbeat
from scballast.tracking.leftovers import SyncResult
from scballast.tracking.liveness import current_process
from scballast.tracking.location import TrackingSettings
from scballast.tracking.outbox import PENDING_PREFIX, Outbox, OutboxEntry, now
from scballast.tracking.shared_view import share_view
from scballast.tracking.store import Store, StoredRun, life_tags, stored

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

_log = logging.getLogger(__name__)


class Tracking:
    """One store of runs.

    Methods that an experiment calls while it works (`start_run`, `publish`, `fail_run`, `interrupt_run`,
    `set_tags`) never fail because an MLflow server is out of reach: what they would have sent is kept on
    disk, a warning says so, and `sync` sends it. Everything else that the user can act on is raised as
    `ScballastError` with one clear message.

    Parameters
    ----------
    settings
        Where the store is.
    """

    def __init__(self, settings: TrackingSettings) -> None:
        self.settings = settings
        self._store = Store(settings)
        self._outbox = Outbox(settings.root / "outbox")
        self._delivery = Delivery(self._store, self._outbox)
        self._heartbeat = Heartbeat(self._store, self._outbox)

    def prepare(self, *, create_experiment: bool = True, send: bool = True) -> None:
        """Make the store ready: database, experiment, locations; end and send what was left behind.

        Safe to call from any number of processes at once, and quick when all is in place.

        Parameters
        ----------
        create_experiment
            Make the experiment too; left out where runs are only looked at.
        send
            Send the results that were left behind, unless another process is at it.

        Raises
        ------
        ScballastError
            The folder cannot be written, the disk is full, the database is broken, access is refused.
        """
        try:
            with self._store.access():
                if not self.settings.is_server:
                    with database.store_lock(self.settings):
                        database.create_or_migrate(self.settings)
                        database.relocate(self.settings)
                        if create_experiment:
                            self._store.experiment_id(self.settings.experiment)
                else:
                    self._store.experiment_id(self.settings.experiment)
            self._settle(send=send)
        except UnreachableError as error:
            self._warn_unreachable(error)

    def start_run(
        self,
        name: str,
        params: Mapping[str, object],
        tags: Mapping[str, object],
        parent_run_id: str | None = None,
        *,
        folder: Path | None = None,
    ) -> str:
        """Start a run.

        Parameters
        ----------
        name
            Name in the UI.
        params, tags
            Configuration leaves, and tags.
        parent_run_id
            What this method returned for the parent, or its MLflow run id.
        folder
            Where the result will be: if the process is killed between finishing it and publishing it,
            `sync` knows which run it belongs to.

        Returns
        -------
        str
            The MLflow run id; a name that begins with ``pending-`` while the server is out of reach. The
            other methods take either.
        """
        entry = OutboxEntry(
            key=uuid.uuid4().hex,
            experiment=self.settings.experiment,
            name=name,
            params=publish.clean_params(params),
            tags=publish.clean_tags(tags),
            parent=parent_run_id,
            folder=None if folder is None else self._delivery.place(folder),
        )
        self._write(entry)
        try:
            with self._store.access():
                entry = self._delivery.introduce(entry, fresh=True)
        except UnreachableError as error:
            self._warn_unreachable(error)
        self._heartbeat.add(entry.key, entry.run_id)
        return entry.reference

    def publish(self, run_id: str, folder: Path) -> str | None:
        """Send a complete result folder and end the run as FINISHED.

        Parameters
        ----------
        run_id
            What `start_run` returned.
        folder
            A result folder with its ``complete.json``.

        Returns
        -------
        str or None
            The MLflow run id; ``None`` when the server is out of reach and the results wait on disk.

        Raises
        ------
        ScballastError
            The results could not be logged for a reason that the user can remove; they stay on disk and
            `sync` sends them.
        """
        if not is_complete(folder):
            msg = f"{folder}: not published: {MARKER} is missing, or a file that it names."
            raise ScballastError(msg)
        place, finished = self._delivery.place(folder), publish.finished_time(folder)
        return self._end(replace(self._entry(run_id), state="FINISHED", folder=place, end_time=finished))

    def fail_run(self, run_id: str, reason: str, traceback: str = "") -> None:
        """End a run as FAILED: the reason becomes its tag, the traceback its artifact ``failure.txt``."""
        self._end_anyway(run_id, state="FAILED", reason=reason, traceback=traceback)

    def interrupt_run(self, run_id: str, reason: str = "interrupted by the user") -> None:
        """End a run as KILLED: the user, or a scheduler, stopped it."""
        self._end_anyway(run_id, state="KILLED", reason=reason)

    def reopen_run(self, run_id: str) -> None:
        """Take up a run again (the parent of a sweep that is resumed): RUNNING, owned by this process."""
        with self._store.access():
            run = self.get_run(run_id)
            entry = replace(
                self._entry(run_id),
                key=run.tags.get(keys.KEY, run_id),
                name=run.name,
                state="RUNNING",
                start_time=run.start_time,
                process=current_process(),
            )
            self._write(entry)
            publish.log_tags(self._store.client, run_id, {keys.KEY: entry.key, **life_tags(entry.process)})
            self._store.clear_tags(run_id, (keys.FAILURE,))
            self._store.client.update_run(run_id, status="RUNNING")
        self._heartbeat.add(entry.key, run_id)

    def set_tags(self, run_id: str, tags: Mapping[str, object]) -> None:
        """Set tags of a run: progress, links."""
        clean = publish.clean_tags(tags)
        entry = self._entry(run_id)
        try:
            with self._store.access():
                publish.log_tags(self._store.client, self._delivery.introduce(entry).reference, clean)
        except UnreachableError as error:
            self._write(replace(entry, late_tags={**entry.late_tags, **clean}))
            self._warn_unreachable(error)

    def reap_stale(self) -> list[str]:
        """End as FAILED the runs that are RUNNING although their process is gone.

        A process of this machine is looked up by its number and start; of other machines, a run without a
        sign of life for ten minutes counts as abandoned. A result that such a run had finished is not
        lost: `sync` publishes it, and the run ends as FINISHED after all.

        Returns
        -------
        list of str
            The ids of the runs that were ended.
        """
        with clear_faults(self.settings), database.store_lock(self.settings, "sync"):
            return leftovers.reap(self._delivery)

    def sync(self) -> SyncResult:
        """Send everything that is finished on disk but not in the store; nothing is sent twice.

        Returns
        -------
        SyncResult
            What was sent, and what still waits.
        """
        self._store.try_again()
        with clear_faults(self.settings), database.store_lock(self.settings, "sync"):
            return leftovers.send_all(self._delivery)

    def find_runs(self, tags: Mapping[str, str] | None = None, *, status: str | None = None) -> list[StoredRun]:
        """Return the experiment's runs with these tags and this status, oldest first."""
        condition = "" if status is None else f"attributes.status = '{status}'"
        with self._store.access():
            return self._store.search(self.settings.experiment, tags, condition=condition)

    def share_view(self, experiment_id: str) -> bool:
        """Let the UI show an experiment's results at first; returns whether there are any."""
        with self._store.access():
            return share_view(self._store.client, experiment_id)

    def experiments(self) -> dict[str, str]:
        """Return the ids of the experiments that have runs, by name."""
        with self._store.access():
            return self._store.experiments()

    def get_run(self, run_id: str) -> StoredRun:
        """Return one run; raises `ScballastError` when the store has none of that name."""
        with self._store.access():
            return stored(self._store.client.get_run(run_id))

    def folder_of(self, run_id: str) -> Path:
        """Return where a run's artifacts are on this machine; raises `ScballastError` when it holds no results."""
        with self._store.access():
            return self._store.artifacts_folder(run_id)

    def load_tables(self, run_id: str) -> dict[str, pd.DataFrame]:
        """Return a run's tables as data frames, by name; raises `ScballastError` when there are none."""
        return read_tables(self.folder_of(run_id))

    def register_model(self, run_id: str, folder: Path, name: str, alias: str) -> str:
        """Put a saved model into the registry and point an alias at it; doing it again changes nothing.

        Parameters
        ----------
        run_id
            The run that trained it.
        folder
            What `scballast.models.saved.save_model` wrote.
        name, alias
            What it will be found under; characters that MLflow does not allow become underscores.

        Returns
        -------
        str
            Its address, ``models:/NAME@ALIAS``.
        """
        with self._store.access():
            return registry.register_model(self._store, run_id, folder, name, alias)

    def load_model(self, uri: str, adata: AnnData) -> Any:
        """Load a registered model onto `adata` (raw counts of its genes): weights only, no foreign code.

        Parameters
        ----------
        uri
            ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.
        adata
            The cells to use it on.
        """
        with self._store.access():
            return registry.load_model(self._store, uri, adata)

    def _settle(self, *, send: bool) -> None:
        """End and send what was left behind, unless another process is at it."""
        try:
            with clear_faults(self.settings), database.store_lock(self.settings, "sync", timeout_seconds=0):
                leftovers.reap(self._delivery)
                result = leftovers.send_all(self._delivery) if send else SyncResult()
        except database.LockedError:
            return
        for name in result.published:
            _log.warning("%s: results of an earlier run, sent now", name)
        for reason in result.waiting:
            _log.warning("results that still wait: %s", reason)

    def _write(self, entry: OutboxEntry) -> None:
        with clear_faults(self.settings):
            self._outbox.write(entry)

    def _end(self, entry: OutboxEntry) -> str | None:
        self._heartbeat.remove(entry.key)
        self._write(entry)
        try:
            with self._store.access():
                return self._delivery.deliver(entry).run_id
        except UnreachableError as error:
            self._warn_unreachable(error)
            return None

    def _end_anyway(self, run_id: str, **how: Any) -> None:
        """End a run that went wrong; what goes wrong in that must not hide why."""
        entry = replace(self._entry(run_id), end_time=now(), **how)
        try:
            self._end(entry)
        except ScballastError as error:
            if isinstance(error, DiskFullError) and says_full(entry.reason):
                return  # what ended the run is told by the command, once
            _log.warning("the end of run %s could not be logged: %s", entry.name, error)

    def _entry(self, run_id: str) -> OutboxEntry:
        """Return what is known of a run; one that has ended already is taken up as it is in the store."""
        entry = self._outbox.find(run_id)
        if entry is not None:
            return entry
        key = run_id.removeprefix(PENDING_PREFIX)
        known = run_id if key == run_id else None
        return OutboxEntry(
            key=key,
            experiment=self.settings.experiment,
            name=run_id,
            run_id=known,
            store=self.settings.shown_uri if known else None,
        )

    def _warn_unreachable(self, error: UnreachableError) -> None:
        if error.told:
            return
        _log.warning(
            "%s. Results are kept in %s and sent later: by the next run, or by scballast-ui --sync",
            error,
            self.settings.root,
        )
