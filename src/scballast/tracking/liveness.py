"""Which process a run belongs to, and whether that process is still there."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, get_type_hints

if TYPE_CHECKING:
    import psutil

#: A run of another machine counts as abandoned when its last sign of life is older than this.
HEARTBEAT_LIMIT_SECONDS = 600.0
HEARTBEAT_SECONDS = 60.0

# Elsewhere than on Linux the start time is derived from the clock, which may be set while a process runs. A
# process number is not handed out again within this span of its first owner's start.
_CLOCK_TOLERANCE_SECONDS = 10.0


@dataclass(frozen=True)
class ProcessIdentity:
    """A process, told apart from every other on this and other machines.

    Attributes
    ----------
    host
        Host name.
    boot
        Which start of that machine: machines may share a name, and numbers start anew.
    namespace
        The process namespace: containers of one machine number their processes separately.
    pid, created
        Process number, and its start in seconds: on Linux since the machine's, elsewhere since the epoch.
    """

    host: str
    boot: str
    namespace: str
    pid: int
    created: float

    def to_json(self) -> str:
        """Return the identity as a run's tag holds it."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ProcessIdentity | None:
        """Read what `to_json` wrote; ``None`` for anything else."""
        try:
            values = json.loads(text)
            return cls(**{name: kind(values[name]) for name, kind in get_type_hints(cls).items()})
        except (ValueError, TypeError, KeyError):
            return None

    def is_alive(self, *, silent_seconds: float) -> bool:
        """Tell whether the process still runs.

        On its own machine that is looked up. Of other machines only the last sign of life is known:
        after `HEARTBEAT_LIMIT_SECONDS` of silence the process counts as gone. (A machine that slept
        may come back: publishing then sets the run's true status.)

        Parameters
        ----------
        silent_seconds
            Seconds since the last sign of life.
        """
        here = current_process()
        if (self.host, self.boot, self.namespace) != (here.host, here.boot, here.namespace):
            return silent_seconds <= HEARTBEAT_LIMIT_SECONDS
        import psutil

        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            return abs(_started(process) - self.created) <= _CLOCK_TOLERANCE_SECONDS
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            return True


def current_process() -> ProcessIdentity:
    """Return the identity of this process."""
    return _identity(os.getpid())


@cache
def _identity(pid: int) -> ProcessIdentity:
    import psutil

    return ProcessIdentity(
        host=socket.gethostname(),
        boot=_of_linux("/proc/sys/kernel/random/boot_id", _text),
        namespace=_of_linux("/proc/self/ns/pid", os.readlink),
        pid=pid,
        created=_started(psutil.Process(pid)),
    )


def _started(process: psutil.Process) -> float:
    """Return when a process of this machine started; setting the clock does not change it on Linux."""
    stat = _of_linux(f"/proc/{process.pid}/stat", _text)
    if stat:
        # The name, in brackets, may hold anything; the start is the 22nd field, the 20th after it.
        return int(stat.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return float(process.create_time())


def _of_linux(path: str, read: Callable[[str], str]) -> str:
    # Only Linux has these; elsewhere the host name alone tells machines apart.
    try:
        return read(path)
    except OSError:
        return ""


def _text(path: str) -> str:
    return Path(path).read_text(encoding="utf-8", errors="replace").strip()
