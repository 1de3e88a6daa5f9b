"""The command ``scballast`` with a clock and a memory gauge on its stages; nothing else about it is changed.

    python -m tests.benchmarks.staged_command EVENTS [--kill STAGE SECONDS] data=h5ad …

Each stage that begins or ends appends a JSON line to EVENTS: its name, seconds, seconds of the processor, and the peak
of resident memory since the event before (Linux resets it when asked). ``--kill`` ends the process by SIGKILL so many
seconds after a stage began. SIGUSR1 has it print where it is.
"""

from __future__ import annotations

import faulthandler
import functools
import importlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

WRAPPED = (
    ("scballast.sweep.trial", "prepare_dataset", "load"),
    ("scballast.sweep.trial", "write_results", "tables to disk"),
    ("scballast.report.experiment_report", "render_trial_report", "report"),
    ("scballast.experiment.run", "statistics_tables", "statistics: tables"),
    ("scballast.experiment.run", "gene_list_tables", "statistics: lists"),
    ("scballast.experiment.run", "marker_effects_table", "statistics: marker effects"),
    ("scballast.experiment.run", "minimal_sets_table", "statistics: minimal sets"),
    ("scballast.experiment.kept", "program_tables", "programs: search"),
    ("scballast.experiment.run", "program_models_table", "programs: models"),
    ("scballast.experiment.run", "caveats", "caveats"),
    ("scballast.experiment.latent", "factors_table", "latent: factors"),
    ("scballast.experiment.latent", "_local_table", "latent: local loadings"),
    ("scballast.experiment.latent", "embedding_table", "latent: map"),
    ("scballast.experiment.latent", "association", "latent: association"),
    ("scballast.experiment.latent", "axis_purity", "latent: purity"),
)
"""Functions by where they are looked up, and what their stage is called; some run more than once."""


class Gauge:
    """Writes down when stages begin and end, and the largest resident memory in between."""

    def __init__(self, path: Path, kill: tuple[str, float] | None) -> None:
        self._path = path
        self._kill = kill
        self._start = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Write down the block as a stage."""
        self._event(name, begins=True)
        if self._kill is not None and self._kill[0] == name:
            timer = threading.Timer(self._kill[1], os.kill, (os.getpid(), signal.SIGKILL))
            timer.daemon = True
            timer.start()
        try:
            yield
        except BaseException as error:
            # As a stage that was killed it has not ended, unless it is how the command says that all is well.
            self._event(name, begins=False, failed=not (isinstance(error, SystemExit) and not error.code))
            raise
        self._event(name, begins=False)

    def _event(self, name: str, *, begins: bool, failed: bool = False) -> None:
        event = {
            "stage": name,
            "begins": begins,
            "failed": failed,
            "wall": time.perf_counter() - self._start,
            "processor": time.process_time(),
            "peak": peak_bytes(),
        }
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(event)}\n")


def peak_bytes() -> float:
    """Return the peak of resident memory since the last call, and begin anew from what is resident now."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return float(peak) * 1024


def _wrapped(gauge: Gauge, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def timed(*arguments: Any, **named: Any) -> Any:
        with gauge.stage(name):
            return function(*arguments, **named)

    return timed


def attach(gauge: Gauge) -> None:
    """Put the gauge on every stage."""
    for module_name, attribute, stage in WRAPPED:
        module = importlib.import_module(module_name)
        setattr(module, attribute, _wrapped(gauge, stage, getattr(module, attribute)))
    run = importlib.import_module("scballast.experiment.run")
    of_clock = run._timed

    @contextmanager
    def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
        with gauge.stage(stage), of_clock(seconds, stage):
            yield

    run._timed = timed
    training = importlib.import_module("scballast.experiment.training")
    fit = training._fit
    training._fit = lambda role, *others, **named: _wrapped(gauge, f"training: {role}", fit)(role, *others, **named)
    setup = importlib.import_module("scballast.experiment.setup")
    plan = setup.plan_methods

    def planned(*arguments: Any, **named: Any) -> Any:
        return tuple(
            replace(method, score=_wrapped(gauge, f"method: {method.name}", method.score))
            for method in plan(*arguments, **named)
        )

    setup.plan_methods = planned
    client = importlib.import_module("scballast.tracking").Tracking
    client.publish = _wrapped(gauge, "tracking", client.publish)


def main() -> None:
    """Run the command."""
    events, words, kill = Path(sys.argv[1]), sys.argv[2:], None
    if words[:1] == ["--kill"]:
        kill, words = (words[1], float(words[2])), words[3:]
    faulthandler.register(signal.SIGUSR1)
    gauge = Gauge(events, kill)
    sys.argv[1:] = words
    with gauge.stage("command"):
        with gauge.stage("start"):
            attach(gauge)
        from scballast.commands.terminal import main as command

        command()


if __name__ == "__main__":
    main()
