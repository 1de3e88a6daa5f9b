from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow.tracking import MlflowClient
from tests.helpers.tracking_helpers import PARAMS, free_port, make_result, settings_for

from scballast.commands import ui
from scballast.errors import ScballastError
from scballast.tracking import Tracking
from scballast.tracking.liveness import current_process
from scballast.tracking.location import is_loopback

pytest_plugins = ("tests.helpers.tracking_fixtures",)
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")


def ask(url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        text = answer.read().decode()
    return json.loads(text) if text.startswith(("{", "[")) else text


def test_shows_the_runs_and_stops_cleanly(tracking: Tracking) -> None:
    runs = tracking.settings.root
    run_id = tracking.start_run("trial 3", PARAMS, {})
    tracking.publish(run_id, make_result(runs / "a"))
    taken = socket.socket()
    taken.bind(("127.0.0.1", free_port()))
    taken.listen()
    port = int(taken.getsockname()[1])
    command = [sys.executable, "-m", "scballast.commands.ui", "--runs-dir", str(runs), "--port", str(port)]
    # A proxy that nothing listens at, and an encoding that lacks what is said.
    surroundings = {
        "http_proxy": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "PYTHONIOENCODING": "latin-1",
    }
    shown = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=runs,
        start_new_session=True,
        env={**os.environ, **surroundings},
    )
    try:
        assert shown.stdout is not None
        lines = iter(shown.stdout.readline, "")
        page = next(line.split()[2] for line in lines if line.startswith("MLflow UI: "))
        url, place = page.split("/#/")
        assert place == "experiments/1/runs?workflowType=machine_learning&viewStateShareKey=scballast"
        tags = MlflowClient(f"sqlite:///{runs / 'mlflow.db'}").get_experiment("1").tags
        shown_columns = json.loads(tags["mlflow.sharedViewState.scballast"])["selectedColumns"]
        assert "metrics.`stability/contrast`" in shown_columns
        assert url.startswith("http://127.0.0.1:")
        assert int(url.rsplit(":", 1)[1]) > port
        family = [shown.pid, *(child.pid for child in psutil.Process(shown.pid).children(recursive=True))]
        assert len(family) >= 2
        found = ask(f"{url}/api/2.0/mlflow/runs/search", {"experiment_ids": ["1"]})
        assert [run["info"]["run_name"] for run in found["runs"]] == ["trial 3"]
        report = ask(f"{url}/get-artifact?path=report.html&run_uuid={run_id}")
        assert report == "<html>report</html>"
        assert ask(f"{url}/ajax-api/3.0/mlflow/ui-telemetry")["disable_ui_telemetry"] is True
        listening = {
            connection.laddr.ip
            for pid in family
            for connection in psutil.Process(pid).net_connections(kind="inet")
            if connection.status == psutil.CONN_LISTEN
        }
        assert listening == {"127.0.0.1"}
        shown.send_signal(signal.SIGINT)
        out, err = shown.communicate(timeout=60)
    finally:
        if shown.poll() is None:
            shown.kill()
            shown.communicate()
        taken.close()
    assert shown.returncode == 0
    assert "Stopped." in out
    assert "Traceback" not in err
    _, alive = psutil.wait_procs([psutil.Process(p) for p in family if psutil.pid_exists(p)], timeout=10)
    assert alive == []
    assert sorted(path.name for path in runs.iterdir() if path.suffix == ".db") == ["mlflow.db"]


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends the server with its parent only on Linux")
def test_a_killed_ui_leaves_no_server(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys, time; from scballast.commands.ui import _end_with_parent\n"
            "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
            " start_new_session=True, preexec_fn=_end_with_parent)\n"
            "print(child.pid, flush=True); time.sleep(600)",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()
    with contextlib.suppress(psutil.NoSuchProcess):
        child.wait(timeout=20)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_help_is_quick() -> None:
    text = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "scballast.commands.ui", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--sync" in text.stdout
    imported = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in text.stderr.splitlines() if "|" in line}
    assert imported.isdisjoint({"mlflow", "torch", "scvi", "pandas", "numpy", "psutil"})


@pytest.mark.parametrize(
    ("make", "message"),
    [(False, "there is no such folder, so there are no runs in it."), (True, "holds no runs yet.")],
)
def test_nothing_to_show(make: bool, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if make:
        (tmp_path / "runs").mkdir()
    assert ui.main(["--runs-dir", str(tmp_path / "runs")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Run scballast first" in said
    assert list(tmp_path.rglob("*.db")) == []


def test_a_server_is_only_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ui.main(["--runs-dir", str(tmp_path), "--uri", "http://me:secret@host:5000"]) == 0
    assert capsys.readouterr().out == "The runs are on an MLflow server; open http://me@host:5000 in a browser.\n"


def test_sync_sends_what_waits(tracking: Tracking, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tracking.settings.root
    done, lost = tracking.start_run("done", {}, {}, folder=runs / "a"), tracking.start_run("lost", {}, {})
    make_result(runs / "a")
    gone = replace(current_process(), pid=2**22 + 7)
    for entry in tracking._outbox.entries():
        tracking._outbox.write(replace(entry, process=gone))
    assert ui.main(["--runs-dir", str(runs), "--sync"]) == 0
    said = capsys.readouterr().out
    assert "sent: done" in said
    assert "1 sent, 0 waiting, 0 still running." in said
    again = Tracking(settings_for(runs))
    assert (again.get_run(done).status, again.get_run(lost).status) == ("FINISHED", "FAILED")


def test_sync_says_what_still_waits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_result(tmp_path / "a")
    assert ui.main(["--runs-dir", str(tmp_path), "--sync", "--uri", f"http://127.0.0.1:{free_port()}"]) == 1
    captured = capsys.readouterr()
    assert "gives no answer (Connection refused)" in captured.err
    assert "0 sent, 1 waiting, 0 still running." in captured.out


def test_ports() -> None:
    with pytest.raises(ScballastError, match="--port: 70000 is no port"):
        ui._free_port("127.0.0.1", 70000)
    with pytest.raises(ScballastError, match=r"--host 203\.0\.113\.7 --port 5000: cannot listen there"):
        ui._free_port("203.0.113.7", 5000)


@pytest.mark.parametrize("asked", [6000, 6665, 10080])
def test_ports_at_which_browsers_open_no_page_are_passed_over(asked: int, capsys: pytest.CaptureFixture[str]) -> None:
    found = ui._free_port("127.0.0.1", asked)
    assert found > asked
    assert found not in {5060, 5061, 6000, *range(6665, 6670), 10080}
    assert f"--port {asked}: browsers open no page at this port" in capsys.readouterr().err
    ui._free_port("127.0.0.1", 5062)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("host", "expected"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("h", False)]
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_server_that_does_not_start(tmp_path: Path) -> None:
    broken = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    begun = time.monotonic()
    assert not ui._wait_until_ready(broken, "http://127.0.0.1:1")
    assert time.monotonic() - begun < 30
