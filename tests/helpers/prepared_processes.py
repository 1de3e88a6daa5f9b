"""The command and its trials' processes, started from a process that has imported everything: seconds less for each.

They are processes like others, with a folder, an environment and a session of their own, and are interrupted and
killed as others are. What is not done anew is the import of libraries, and unless asked for what `spared_work` names.
Commands as a user starts them are in `sweep_helpers`.
"""

from __future__ import annotations

import atexit
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.helpers.spared_work import make_template, spare_work
from tests.helpers.sweep_helpers import WAIT_SECONDS

# What a command and a trial's process import before their first stage, and in it.
PRELOAD = [
    "scballast.sweep.trial",
    "scballast.sweep.controller",
    "scballast.sweep.child_main",
    "scballast.report.experiment_report",
    "scballast.report.sweep_report",
    "scballast.commands.terminal",
    "hydra",
    "optuna",
    "scanpy",
    "scvi",
    "mlflow.tracking",
    "mlflow.store.tracking.sqlalchemy_store",
    "matplotlib.pyplot",
    "sklearn.decomposition",
    "tests.helpers.fault_helpers",
    "tests.helpers.prepared_processes",
]


def prepared() -> ForkServerContext:
    """Return what starts processes from one that has imported everything; a test worker has one such process."""
    make_template()  # before the prepared process begins, which hands the name on
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    return context


class Started:
    """A process that was started from the prepared one, to be asked what a `subprocess.Popen` is asked."""

    def __init__(self, target: Callable[..., None], *arguments: Any) -> None:
        self._process = prepared().Process(target=_begin, args=(target, *arguments))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        # A test that fails leaves nothing behind it.
        atexit.register(self.kill)

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        status = self.poll()
        if status is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(runs: Path, *words: str, log: str = "log", errors: str | None = None, whole: bool = False) -> Started:
    """Start a command in a session of its own, in the folder of its runs folder.

    Parameters
    ----------
    runs
        The runs folder.
    *words
        Of the command.
    log, errors
        Files beside the runs folder, without their ending: for what it says, and for what it says on standard error;
        None: in the same file.
    whole
        Whether nothing is spared (see `spared_work`).
    """
    prepared()
    forkserver.ensure_running()
    address = forkserver._forkserver._forkserver_address  # type: ignore[attr-defined]
    files = [runs.parent / f"{name}.txt" for name in (log, errors or log)]
    for file in files:
        file.touch()
    return Started(_command, address, files, [*words, f"runs_dir={runs}"], whole)


def run(
    runs: Path, *words: str, status: int = 0, log: str = "log", seconds: float = WAIT_SECONDS, whole: bool = False
) -> str:
    """Run a command to its end and return what it said."""
    path = runs.parent / f"{log}.txt"
    begin = path.stat().st_size if path.exists() else 0
    found = start(runs, *words, log=log, whole=whole).wait(seconds)
    said = path.read_text()[begin:]
    assert found == status, said[-4000:]
    return said


def _begin(target: Callable[..., None], *arguments: Any) -> None:
    # What was imported stays: to look through it again and again would copy its memory.
    gc.freeze()
    target(*arguments)


def _command(address: str, files: Sequence[Path], words: Sequence[str], whole: bool) -> None:
    from scballast.commands.terminal import main
    from scballast.sweep import child

    os.setsid()
    os.chdir(files[0].parent)
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    for stream, file in zip((1, 2), files, strict=True):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    if not whole:
        spare_work()
    # What this process starts comes from the same one as itself.
    server: Any = forkserver._forkserver  # type: ignore[attr-defined]
    server._forkserver_address, server.ensure_running = address, lambda: None
    child.subprocess = SimpleNamespace(  # type: ignore[assignment]
        Popen=partial(_started_trial, whole), DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired
    )
    sys.argv = ["scballast", *words]
    main()


def _started_trial(whole: bool, command: Sequence[str], *, pass_fds: Sequence[int], **_: Any) -> Started:
    """Start the process that `scballast.sweep.child` would start by a command."""
    assert list(command[1:3]) == ["-P", "-c"]
    assert command[3].startswith("from scballast.sweep.child_main import main; main(")
    handed = [Connection(os.dup(number)) for number in (*pass_fds, 1, 2)]
    try:
        return Started(_trial, whole, Path.cwd(), dict(os.environ), *handed)
    finally:
        for connection in handed:
            connection.close()


def _trial(whole: bool, folder: Path, environment: dict[str, str], *handed: Connection) -> None:
    from scballast.sweep.child_main import main

    os.setpgid(0, 0)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    requests, lifeline, *outputs = handed
    for stream, output in zip((1, 2), outputs, strict=True):
        os.dup2(output.fileno(), stream)
        output.close()
    if not whole:
        spare_work()
    main(requests.fileno(), lifeline.fileno())
