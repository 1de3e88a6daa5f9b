"""The command ``scballast-ui``: the MLflow UI over ``runs/``, and the sending of results that wait."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scballast.commands.output import forgive_characters
from scballast.errors import ScballastError
from scballast.tracking.location import is_loopback

if TYPE_CHECKING:
    from scballast.tracking import Tracking

_FIRST_PORT = 5000
_PORTS_TRIED = 100
# Where browsers open no page ("bad ports" of the Fetch standard, https://fetch.spec.whatwg.org/#port-blocking).
_BLOCKED_PORTS = frozenset({
    1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109, 110,
    111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532,
    540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061,
    6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
})  # fmt: skip
_START_SECONDS = 120.0
_STOP_SECONDS = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``scballast-ui``.

    Parameters
    ----------
    arguments
        Words of the command line, without the command.

    Returns
    -------
    int
        Exit status: 0 done; 1 some results still wait, or the server ended by itself; 2 nothing to show, or
        a folder, store or port that cannot be used.
    """
    forgive_characters()
    options = _parser().parse_args(arguments)
    try:
        if options.sync:
            return _sync(options)
        return _show(options)
    except ScballastError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scballast-ui", description="Show the runs of scballast in the MLflow UI, or send results that wait."
    )
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="folder of the runs (default: runs)")
    parser.add_argument(
        "--uri", help="address of the store (default: MLFLOW_TRACKING_URI, or SQLite in the runs folder)"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine only)"
    )
    parser.add_argument(
        "--port",
        type=int,
        default=_FIRST_PORT,
        help=f"port (default: {_FIRST_PORT}; the next free one if it is taken, or if browsers block it, as 6000)",
    )
    parser.add_argument("--experiment", default="scballast", help="MLflow experiment of results that name none")
    parser.add_argument(
        "--sync",
        action="store_true",
        help="send the results that an unreachable server or a kill left behind, and exit",
    )
    return parser


def _open(options: argparse.Namespace) -> Tracking:
    """Return the tracking of a runs folder that holds something; raises `ScballastError` if none does."""
    from scballast.tracking import Tracking, TrackingSettings

    settings = TrackingSettings(uri=options.uri, experiment=options.experiment, runs_dir=options.runs_dir)
    root = settings.root
    local = settings.database is not None
    if not root.is_dir() and (local or options.sync):
        msg = (
            f"{root}: there is no such folder, so there are no runs in it.\n"
            "Run scballast first, or name its folder: scballast-ui --runs-dir FOLDER"
        )
        raise ScballastError(msg)
    if settings.database is not None and not settings.database.exists() and not _holds_results(root):
        msg = f"{root}: holds no runs yet.\nRun scballast first, or name another folder: scballast-ui --runs-dir FOLDER"
        raise ScballastError(msg)
    return Tracking(settings)


def _holds_results(root: Path) -> bool:
    return any((root / "outbox").glob("*.json")) or next(root.rglob("complete.json"), None) is not None


def _sync(options: argparse.Namespace) -> int:
    tracking = _open(options)
    tracking.prepare(create_experiment=False, send=False)
    result = tracking.sync()
    for name in result.published:
        print(f"sent: {name}")
    for name in result.ended:
        print(f"sent: {name} (it did not finish)")
    for reason in result.waiting:
        print(f"waits: {reason}", file=sys.stderr)
    sent = len(result.published) + len(result.ended)
    print(f"{sent} sent, {len(result.waiting)} waiting, {result.running} still running.")
    return 1 if result.waiting else 0


def _show(options: argparse.Namespace) -> int:
    tracking = _open(options)
    settings = tracking.settings
    if settings.is_server:
        print(f"The runs are on an MLflow server; open {settings.shown_uri} in a browser.")
        return 0
    tracking.prepare(create_experiment=False)
    port = _free_port(options.host, options.port)
    if not is_loopback(options.host):
        print(
            f"Warning: listening on {options.host}: everyone who can reach this machine can read and delete the runs.",
            file=sys.stderr,
        )
    shown = f"[{options.host}]" if ":" in options.host else options.host
    url = f"http://{shown}:{port}"
    print(f"Starting the MLflow UI over {settings.root} …", flush=True)
    server = _start_server(settings.store_uri, settings.artifact_root.as_uri(), options.host, port)
    try:
        if not _wait_until_ready(server, url):
            what = "ended before it was ready" if server.poll() is not None else f"gave no answer at {url}"
            print(f"The MLflow server {what}; its messages are above.", file=sys.stderr)
            return 1
        print(f"MLflow UI: {url}{_page(tracking)}   (stop with Ctrl-C)", flush=True)
        status = server.wait()
        print(f"The MLflow server ended with status {status}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", flush=True)
        return 0
    finally:
        _stop(server)


def _page(tracking: Tracking) -> str:
    """Return the page to open: the runs of the experiment with their results, or the list where there are several.

    MLflow begins with its pages for language models, which are empty here, unless the address says otherwise.
    """
    from scballast.tracking.shared_view import SHARE_KEY

    experiments = tracking.experiments()
    configured = experiments.get(tracking.settings.experiment)
    ids = list(experiments.values()) if configured is None else [configured]
    if len(ids) != 1:
        return "/#/experiments?workflowType=machine_learning"
    shared = f"&viewStateShareKey={SHARE_KEY}" if tracking.share_view(ids[0]) else ""
    return f"/#/experiments/{ids[0]}/runs?workflowType=machine_learning{shared}"


def _start_server(store_uri: str, artifact_root: str, host: str, port: int) -> subprocess.Popen[bytes]:
    command = [
        sys.executable, "-m", "mlflow", "server",
        "--backend-store-uri", store_uri,
        "--registry-store-uri", store_uri,
        "--default-artifact-root", artifact_root,
        "--no-serve-artifacts",
        "--host", host,
        "--port", str(port),
        "--workers", "1",
        "--uvicorn-opts", "--log-level warning",
    ]  # fmt: skip
    environment = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_DISABLE_AGENT_HINT": "true",
        # Background jobs are for judging language models; they would be more processes to end.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        # MLflow's own use of what its dependencies deprecate is nothing the user can act on.
        "PYTHONWARNINGS": "ignore",
    }
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A session of its own: Ctrl-C reaches only this process, which then ends the server in order.
    return subprocess.Popen(command, env=environment, start_new_session=True, preexec_fn=_end_with_parent)


def _end_with_parent() -> None:
    """Ask Linux to end this process with its parent, even when that is killed."""
    if sys.platform == "linux":
        import ctypes

        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


def _stop(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=_STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def _wait_until_ready(server: subprocess.Popen[bytes], url: str) -> bool:
    end = time.monotonic() + _START_SECONDS
    url = url.replace("://0.0.0.0:", "://127.0.0.1:").replace("://[::]:", "://[::1]:")
    # The server is on this machine, where no proxy of the environment would find it.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(OSError), opener.open(f"{url}/health", timeout=5) as answer:
            if answer.status == 200:
                return True
        time.sleep(0.1)
    return False


def _free_port(host: str, first: int) -> int:
    """Return the first port from `first` on that nothing listens on and that browsers open."""
    if not 1 <= first <= 65535:
        msg = f"--port: {first} is no port.\nGive a number from 1024 to 65535."
        raise ScballastError(msg)
    if first in _BLOCKED_PORTS:
        print(
            f"--port {first}: browsers open no page at this port; the next one that is free is taken.", file=sys.stderr
        )
    error: OSError | None = None
    for port in range(first, min(first + _PORTS_TRIED, 65536)):
        if port in _BLOCKED_PORTS:
            continue
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
        except OSError as failed:
            error = failed
            if isinstance(failed, socket.gaierror):
                break
        else:
            return port
    msg = f"--host {host} --port {first}: cannot listen there ({error}).\nName another host or port."
    raise ScballastError(msg)


if __name__ == "__main__":
    sys.exit(main())
