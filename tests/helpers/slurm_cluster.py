"""A Slurm of the system's packages on this machine: one controller, two nodes, a munge of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

NODES = ("node1", "node2")
START_SECONDS = 40.0


class NoClusterError(Exception):
    """There is no Slurm here, or it does not start; the message says why."""


@dataclass(frozen=True)
class Cluster:
    """A running cluster: the environment in which Slurm's commands find it, and its folder."""

    environment: dict[str, str]
    folder: Path

    def call(self, *words: str) -> str:
        """Run one of Slurm's commands and return what it prints."""
        answer = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=30, check=True)
        return answer.stdout

    def node_of(self, pid: int) -> str:
        """Return the node on which a process was started."""
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return next(word.partition(b"=")[2].decode() for word in words if word.startswith(b"SLURMD_NODENAME="))


@contextmanager
def slurm_cluster() -> Iterator[Cluster]:
    """Start a cluster; it ends, with all of its jobs, when the block does.

    Raises
    ------
    NoClusterError
        Slurm or munge is not installed, the user is not root, or the nodes do not come up.
    """
    missing = [name for name in ("munged", "slurmctld", "slurmd", "srun") if shutil.which(name) is None]
    if missing:
        message = f"no {', '.join(missing)} here: apt-get install slurm-wlm munge"
        raise NoClusterError(message)
    if os.geteuid() != 0:
        message = "the daemons of a Slurm are started as root"
        raise NoClusterError(message)
    with tempfile.TemporaryDirectory(prefix="scballast-slurm-") as text:
        folder = Path(text)
        settings = _write_settings(folder)
        environment = {**os.environ, "SLURM_CONF": str(settings)}
        try:
            _start(folder, settings, environment)
            yield Cluster(environment, folder)
        finally:
            _end(folder, environment)


def _write_settings(folder: Path) -> Path:
    for name in ("state", *(f"spool/{node}" for node in NODES)):
        (folder / name).mkdir(parents=True)
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    host = socket.gethostname().partition(".")[0]
    controller, *ports = _free_ports(1 + len(NODES))
    nodes = "\n".join(
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4"
        for node, port in zip(NODES, ports, strict=True)
    )
    settings = folder / "slurm.conf"
    settings.write_text(
        f"""
ClusterName=scballast
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
SlurmctldPort={controller}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
MpiDefault=none
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,batch_sched_delay=1
{nodes}
PartitionName=all Nodes={",".join(NODES)} Default=YES MaxTime=INFINITE State=UP
""",
        encoding="utf-8",
    )
    return settings


def _start(folder: Path, settings: Path, environment: dict[str, str]) -> None:
    munged = ["munged", "--force", f"--key-file={folder}/munge.key", f"--socket={folder}/munge.socket"]
    munged += [f"--{name}-file={folder}/munge.{name}" for name in ("log", "pid", "seed")]
    commands = [munged, ["slurmctld", "-c", "-f", str(settings)]]
    commands += [["slurmd", "-f", str(settings), "-N", node] for node in NODES]
    with (folder / "daemons.txt").open("ab") as said:
        for command in commands:
            if subprocess.run(command, env=environment, stdout=said, stderr=said, timeout=30, check=False).returncode:
                message = f"{command[0]} does not start: {(folder / 'daemons.txt').read_text()[-2000:]}"
                raise NoClusterError(message)
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        asked = ["sinfo", "--noheader", "--Node", "--format=%N %t"]
        answer = subprocess.run(asked, env=environment, capture_output=True, text=True, timeout=30, check=False)
        if answer.stdout.split("\n")[:-1] == [f"{node} idle" for node in NODES]:
            return
        time.sleep(0.5)
    message = f"the nodes do not come up: {answer.stdout} {answer.stderr}"
    raise NoClusterError(message)


def _end(folder: Path, environment: dict[str, str]) -> None:
    with suppress(OSError, subprocess.SubprocessError):
        subprocess.run(["scancel", "--state=RUNNING"], env=environment, capture_output=True, timeout=30, check=False)
    # Nodes before their controller, munge last: each needs the next one to end in peace.
    for path in [*(folder / f"{node}.pid" for node in NODES), folder / "slurmctld.pid", folder / "munge.pid"]:
        with suppress(OSError, ValueError):
            pid = int(path.read_text())
            os.kill(pid, signal.SIGTERM)
            for _ in range(100):
                os.kill(pid, 0)
                time.sleep(0.1)
            os.kill(pid, signal.SIGKILL)


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for end in sockets:
        end.bind(("127.0.0.1", 0))
    ports = [int(end.getsockname()[1]) for end in sockets]
    for end in sockets:
        end.close()
    return ports
