"""What the store has not been told yet, kept on disk until it has.

Each run has one small file under ``runs/outbox/`` from its start until its end is in the store. So a
store that is out of reach, and a process that is killed at any moment, lose nothing.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scballast.results import whole
from scballast.tracking.liveness import ProcessIdentity, current_process

_log = logging.getLogger(__name__)

#: A run that the store does not know yet is called by this prefix and its key.
PENDING_PREFIX = "pending-"


def now() -> int:
    """Return milliseconds since the epoch, as MLflow counts time."""
    return int(time.time() * 1000)


@dataclass(frozen=True)
class OutboxEntry:
    """One run as far as this machine knows it.

    Attributes
    ----------
    key
        Identity of the run before the store has given it one; also its tag ``scballast.key``.
    experiment, name
        Name of the MLflow experiment and of the run.
    state
        ``RUNNING``, ``FINISHED``, ``FAILED`` or ``KILLED``.
    parent
        What `Tracking.start_run` returned for the parent, if there is one.
    folder
        Result folder, relative to the runs folder where it lies inside, or ``None``.
    run_id, store
        The store's own name for the run, once it has one, and the store that gave it.
    start_time, end_time
        Milliseconds since the epoch.
    reason, traceback
        Why it did not finish.
    late_tags
        Tags that were set while the server was away.
    """

    key: str
    experiment: str
    name: str
    state: str = "RUNNING"
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    start_time: int = field(default_factory=now)
    process: ProcessIdentity = field(default_factory=current_process)
    parent: str | None = None
    folder: str | None = None
    run_id: str | None = None
    store: str | None = None
    end_time: int | None = None
    reason: str = ""
    traceback: str = ""
    late_tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def reference(self) -> str:
        """What callers know the run by."""
        return self.run_id or f"{PENDING_PREFIX}{self.key}"


@dataclass(frozen=True)
class Outbox:
    """The folder of entries."""

    root: Path

    def write(self, entry: OutboxEntry) -> None:
        """Store an entry, whole or not at all."""
        with whole(self._path(entry.key)) as part:
            part.write_text(json.dumps(asdict(entry), ensure_ascii=False), encoding="utf-8")

    def drop(self, key: str) -> None:
        """Forget an entry: the store has everything."""
        self._path(key).unlink(missing_ok=True)

    def touch(self, key: str) -> None:
        """Give a sign of life."""
        path = self._path(key)
        if path.exists():
            os.utime(path)

    def silent_seconds(self, key: str) -> float:
        """Seconds since the entry's last sign of life."""
        try:
            return max(0.0, time.time() - self._path(key).stat().st_mtime)
        except FileNotFoundError:
            return 0.0

    def find(self, reference: str) -> OutboxEntry | None:
        """Return the entry of a run, called by the store's name for it or by its pending name."""
        if reference.startswith(PENDING_PREFIX):
            return self._read(self._path(reference.removeprefix(PENDING_PREFIX)))
        return next((entry for entry in self.entries() if entry.run_id == reference), None)

    def entries(self) -> list[OutboxEntry]:
        """Return all entries, oldest run first, so that parents come before their children."""
        entries = [self._read(path) for path in sorted(self.root.glob("*.json"))]
        return sorted((entry for entry in entries if entry is not None), key=lambda e: (e.start_time, e.key))

    def _path(self, key: str) -> Path:
        return self.root / f"{key}.json"

    def _read(self, path: Path) -> OutboxEntry | None:
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return OutboxEntry(**{**values, "process": ProcessIdentity(**values["process"])})
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            _log.warning("%s is not an entry of the outbox and is left alone: %s", path, error)
            return None
