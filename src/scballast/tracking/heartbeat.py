"""Signs of life of the runs that this process works on."""

from __future__ import annotations

import logging
import threading
import time

from scballast.config import keys
from scballast.errors import ScballastError
from scballast.tracking.liveness import HEARTBEAT_SECONDS
from scballast.tracking.outbox import Outbox
from scballast.tracking.store import Store

_log = logging.getLogger(__name__)


class Heartbeat:
    """A thread that once a minute says that the open runs are worked on, and ends with the last of them."""

    def __init__(self, store: Store, outbox: Outbox) -> None:
        self._store, self._outbox = store, outbox
        self._open: dict[str, str | None] = {}
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, key: str, run_id: str | None) -> None:
        """Begin to speak for a run."""
        with self._lock:
            self._open[key] = run_id
            if self._thread is None:
                self._changed.clear()
                self._thread = threading.Thread(target=self._beat, name="scballast-heartbeat", daemon=True)
                self._thread.start()

    def remove(self, key: str) -> None:
        """Speak for a run no longer."""
        with self._lock:
            self._open.pop(key, None)
            if not self._open:
                self._changed.set()

    def _beat(self) -> None:
        while True:
            self._changed.wait(HEARTBEAT_SECONDS)
            with self._lock:
                if not self._open:
                    self._thread = None
                    return
                self._changed.clear()
                runs = dict(self._open)
            for key, run_id in runs.items():
                self._outbox.touch(key)
                if run_id is None:
                    continue
                try:
                    with self._store.access():
                        self._store.client.set_tag(run_id, keys.HEARTBEAT, f"{time.time():.0f}")
                except ScballastError as error:
                    # One missed beat is no fault; the run's own requests report what lasts.
                    _log.debug("no sign of life for %s: %s", run_id, error)
