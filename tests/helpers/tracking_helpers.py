"""Result folders, servers and processes for the tests of tracking, UI and export."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from scballast.tracking import Tracking, TrackingSettings

PARAMS = {"model.n_latent": "10", "train.lr": "0.001", "data.batch_key": "null"}
TAGS = {"scballast.sweep": "s1", "scballast.trial": "3"}

STABILITY = pd.DataFrame(
    {
        "method": ["contrast", "axis"],
        "population": ["T/NK", "NA"],
        "k": [50, 50],
        "phi": [0.8123456789012345, 0.2],
        "reason": [None, "n/a"],
    }
)
RANKINGS = pd.DataFrame({"method": ["contrast"] * 3, "gene": ["NA", "CD3D", "nan"], "rank": [1, 2, 3]})


def make_result(
    folder: Path, *, n_metrics: int = 3, n_curves: int = 1, n_epochs: int = 5, offset: float = 0.0, sweep: str = "s1"
) -> Path:
    """Write a complete result folder in the layout that experiments write."""
    for name in ("tables", "figures", "config"):
        (folder / name).mkdir(parents=True)
    STABILITY.to_csv(folder / "tables" / "stability.csv", index=False)
    pd.DataFrame({"population": ["T/NK"], "method": ["contrast"], "phi": [0.8]}).to_csv(
        folder / "tables" / "answer.csv", index=False
    )
    RANKINGS.to_csv(folder / "tables" / "rankings.csv", index=False)
    RANKINGS.assign(rank=RANKINGS["rank"].astype("int32")).to_parquet(folder / "tables" / "rankings.parquet")
    (folder / "figures" / "stability.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "config" / "resolved.yaml").write_text("seed: 0\n", encoding="utf-8")
    (folder / "report.html").write_text("<html>report</html>", encoding="utf-8")
    (folder / "description.md").write_text("**answer**: trust `contrast`", encoding="utf-8")
    metrics: dict[str, float | None] = {f"stability/contrast/p{i}": i / 7 + offset for i in range(n_metrics)}
    metrics |= {"stability/contrast": 0.8, "stability/undefined": None, "train/elbo": 1.0}
    curves = {f"train/curve{i}": [[e, 100.0 / (e + 1) + i] for e in range(n_epochs)] for i in range(n_curves)}
    documents = {
        "metrics.json": metrics,
        "history.json": {"train/elbo": [[e, 10.0 - e] for e in range(n_epochs)], **curves},
        "params.json": {**PARAMS, "extra": "x" * 7000},
        "tags.json": {
            **TAGS,
            "scballast.sweep": sweep,
            "scballast.dataset": "pbmc",
            "scballast.dataset_digest": "0123456789abcdef" * 4,
        },
        "warnings.json": ["population 'B' has 3 cells"],
    }
    for name, value in documents.items():
        (folder / name).write_text(json.dumps(value), encoding="utf-8")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    digests = {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    (folder / "complete.json").write_text(json.dumps(digests), encoding="utf-8")
    return folder


def snapshot(tracking: Tracking, run_id: str) -> dict[str, object]:
    """Everything that a run holds, for comparison."""
    run = tracking.get_run(run_id)
    client = tracking._store.client
    history = {
        name: [(m.step, m.value, m.timestamp) for m in client.get_metric_history(run_id, name)] for name in run.metrics
    }
    inputs = [(d.dataset.name, d.dataset.digest) for d in client.get_run(run_id).inputs.dataset_inputs]
    root = Path(client.download_artifacts(run_id, ""))
    files = {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}
    tags = {k: v for k, v in run.tags.items() if k != "scballast.heartbeat"}
    return {
        "status": run.status,
        "params": run.params,
        "tags": tags,
        "history": history,
        "inputs": inputs,
        "files": files,
    }


def settings_for(runs: Path, uri: str | None = None) -> TrackingSettings:
    """Settings as an experiment makes them."""
    return TrackingSettings(uri=uri, experiment="scballast", runs_dir=runs)


def copy_template(template: Path, runs: Path) -> Path:
    """Give a runs folder a database that another already has: making one takes seconds."""
    runs.mkdir(parents=True, exist_ok=True)
    shutil.copy(template, runs / "mlflow.db")
    return runs


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for(url: str, process: subprocess.Popen[str], seconds: float = 90.0) -> None:
    """Wait until a server answers."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, "the server ended early"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise TimeoutError(url)


@contextlib.contextmanager
def mlflow_server(store: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """Run a real MLflow server on loopback over a store of its own."""
    command = [
        sys.executable, "-m", "uvicorn", "mlflow.server.fastapi_app:app",
        "--host", "127.0.0.1", "--port", str(port), "--log-level", "warning",
    ]  # fmt: skip
    environment = {
        **os.environ,
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{store / 'mlflow.db'}",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(store / "artifacts"),
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    process = subprocess.Popen(command, env=environment, text=True, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process)
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=30)
