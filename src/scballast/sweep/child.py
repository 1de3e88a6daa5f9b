"""The process in which a worker's trials run, so that a trial that dies takes nothing else with it.

It is started once and runs one trial, or draws one page, after another: imports and the loaded data stay. It ends
with its worker: a worker that was killed leaves nothing computing.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from multiprocessing import Pipe
from typing import Any

from scballast.sweep.messages import Answer, Request

# After Ctrl-C a trial gets so long to end its MLflow run.
_GRACE_SECONDS = 20.0


class ProcessDiedError(Exception):
    """The trial's process ended without an answer; the message says how."""


class TrialTimeoutError(ProcessDiedError):
    """The trial's process was ended because it took too long."""


class TrialProcess:
    """A process of `scballast.sweep.child_main`, started on first use and again after it died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Any = None
        self._lifeline: int | None = None
        self._starting = threading.Lock()
        self._ended = False

    def start(self) -> None:
        """Start the process if there is none; returns before it is ready."""
        with self._starting:
            if self._ended:
                message = "it was ended"
                raise ProcessDiedError(message)
            if self._process is None or self._process.poll() is not None:
                self._start()

    def _start(self) -> None:
        self.close()
        ours, theirs = Pipe()
        # The process sees this pipe close when this one is gone, however it went.
        watched, held = os.pipe()
        code = f"from scballast.sweep.child_main import main; main({theirs.fileno()}, {watched})"
        try:
            # A group of its own: Ctrl-C in the terminal reaches the worker, which passes it on once.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", code],
                pass_fds=(theirs.fileno(), watched),
                stdin=subprocess.DEVNULL,
                process_group=0,
            )
        finally:
            theirs.close()
            os.close(watched)
        self._connection, self._lifeline = ours, held

    def send(self, request: Request) -> None:
        """Send a request without waiting for the answer."""
        self.start()
        try:
            self._connection.send(request)
        except (BrokenPipeError, OSError) as error:
            raise ProcessDiedError(self._how_it_ended()) from error

    def receive(self, deadline: float = math.inf) -> Answer:
        """Wait for the answer to the last request.

        Parameters
        ----------
        deadline
            On the monotonic clock, in seconds: when it passes, the process is ended.

        Raises
        ------
        ProcessDiedError
            The process ended without one, or `TrialTimeoutError`: it was ended.
        """
        try:
            if deadline < math.inf and not self._connection.poll(max(0.0, deadline - time.monotonic())):
                self.kill()
                raise TrialTimeoutError
            answer: Answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise ProcessDiedError(self._how_it_ended()) from error
        return answer

    def call(self, request: Request, deadline: float = math.inf) -> Answer:
        """Send a request and return the answer; see `receive`."""
        self.send(request)
        return self.receive(deadline)

    def kill(self) -> None:
        """End the process at once, whatever it is at."""
        if self._process is not None:
            self._process.kill()
        self.close()

    def end(self) -> None:
        """Kill the process under a thread that waits for its answer, and start none for a thread about to ask."""
        with self._starting:
            self._ended = True
            process = self._process  # the thread that waits may forget it just now
            if process is not None:
                process.kill()

    def interrupt(self) -> None:
        """Pass Ctrl-C on, and wait until the process has ended its trial; kill it when it takes too long."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGINT)
        with suppress(EOFError, OSError, KeyboardInterrupt):
            if self._connection.poll(_GRACE_SECONDS):
                self._connection.recv()
        self.close()

    def close(self) -> None:
        """End the process."""
        if self._connection is not None:
            self._connection.close()
        if self._lifeline is not None:
            os.close(self._lifeline)
        if self._process is not None:
            try:
                self._process.wait(2.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = self._connection = self._lifeline = None

    def __getstate__(self) -> dict[str, Any]:
        # A worker that is sent to another machine starts its own.
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]

    def _how_it_ended(self) -> str:
        process = self._process
        if process is None:
            return "its process ended without a word"
        status = process.wait()
        self.close()
        if status >= 0:
            return f"its process ended with status {status}"
        name = signal.Signals(-status).name if -status in set(signal.Signals) else str(-status)
        reason = f"its process was ended by {name}"
        if -status == signal.SIGKILL:
            reason += ", as the system does when memory runs out"
        return reason
