"""A result folder becomes an MLflow run: its metrics, tables, figures, report and description.

Publishing the same folder twice, or again after a kill half-way, ends in the same run: every value is
logged under the time at which the folder was finished, and every file replaces itself.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scballast.config import keys
from scballast.config.values import written
from scballast.results import MARKER, link_or_copy, read_json, whole
from scballast.tracking.mlflow_compat import local_path

PUBLISHED_MARKER = "published.json"

#: Tables that one compares across runs: also stored in the form that the UI's comparison reads.
COMPARED_TABLES = ("answer", "stability", "concordance")

# These are in the run itself, or about the folder; everything else becomes an artifact.
_NOT_ARTIFACTS = ("metrics.json", "history.json", "params.json", "tags.json", MARKER, PUBLISHED_MARKER)

_MAX_METRICS = 1000
_MAX_PARAMS = 100
_MAX_PARAM_LENGTH = 6000
DESCRIPTION = "mlflow.note.content"  # the tag that MLflow's UI shows as a run's description
_MAX_TAG_LENGTH = 8000
_MAX_KEY_LENGTH = 250
_MAX_DIGEST_LENGTH = 36
_DATASET_ATTEMPTS = 5


def publish_folder(client: Any, run_id: str, folder: Path, *, finished: int) -> None:
    """Log a result folder to a run.

    Parameters
    ----------
    client
        An ``MlflowClient``.
    run_id
        A run of its store.
    folder
        A complete result folder.
    finished
        When the folder was finished, in milliseconds since the epoch; the time of every metric.
    """
    run = client.get_run(run_id)
    tags = {**clean_tags(read_json(folder / "tags.json", {})), keys.RESULT: folder_digest(folder)}
    warnings = read_json(folder / "warnings.json", [])
    if warnings:
        tags[keys.WARNINGS] = _cut("\n".join(str(w) for w in warnings), _MAX_TAG_LENGTH, "report.html")
    note = folder / "description.md"
    if note.exists():
        tags[DESCRIPTION] = _cut(note.read_text(encoding="utf-8"), _MAX_TAG_LENGTH, "description.md")
    compared = _compared_tables(folder)
    if compared:
        logged = [{"path": path, "type": "table"} for path in sorted(compared)]
        tags["mlflow.loggedArtifacts"] = json.dumps(logged)

    _log_files(client, run_id, run.info.artifact_uri, folder, compared)
    log_params(client, run_id, read_json(folder / "params.json", {}), known=run.data.params)
    _log_metrics(client, run_id, folder, finished)
    _log_dataset(client, run_id, tags)
    # The description and the digest come last: they say that all before them is there.
    log_tags(client, run_id, tags)


def log_params(
    client: Any, run_id: str, params: Mapping[str, object], *, known: Mapping[str, str] | None = None
) -> None:
    """Log parameters that the run does not have yet: MLflow lets each be written once."""
    from mlflow.entities import Param

    new = [Param(k, v) for k, v in clean_params(params).items() if k not in (known or {})]
    for chunk in _chunks(new, _MAX_PARAMS):
        client.log_batch(run_id, params=chunk)


def log_tags(client: Any, run_id: str, tags: Mapping[str, str]) -> None:
    """Set tags in as few requests as MLflow allows."""
    from mlflow.entities import RunTag

    for chunk in _chunks([RunTag(k, v) for k, v in tags.items()], _MAX_PARAMS):
        client.log_batch(run_id, tags=chunk)


def clean_params(params: Mapping[str, object]) -> dict[str, str]:
    """Return parameters as MLflow takes them: names it allows, values it can hold.

    A value beyond 6,000 characters is cut and says where the whole of it is.
    """
    return {_key(name): _cut(_text(value), _MAX_PARAM_LENGTH, "config/resolved.yaml") for name, value in params.items()}


def clean_tags(tags: Mapping[str, object]) -> dict[str, str]:
    """Return tags as MLflow takes them."""
    return {_key(name): _cut(_text(value), _MAX_TAG_LENGTH, "report.html") for name, value in tags.items()}


def folder_digest(folder: Path) -> str:
    """Return what tells this result from every other: a digest of its list of files and digests."""
    return hashlib.sha256((folder / MARKER).read_bytes()).hexdigest()


def finished_time(folder: Path) -> int:
    """Return when a result folder was finished, in milliseconds since the epoch."""
    return int((folder / MARKER).stat().st_mtime * 1000)


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict | tuple) else written(value)


def _key(name: str) -> str:
    return re.sub(r"[^\w\-. :/]", "_", name)[:_MAX_KEY_LENGTH]


def _cut(text: str, length: int, whole: str) -> str:
    if len(text) <= length:
        return text
    end = f"… ({len(text):,} characters; the whole of it is in {whole})"
    return text[: length - len(end)] + end


def _chunks(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _log_metrics(client: Any, run_id: str, folder: Path, finished: int) -> None:
    """Log ``metrics.json`` and ``history.json``; a name with a history is logged by its history.

    A value that is not finite has no place in a chart or a sort order: the tables hold it, with its reason.
    """
    from mlflow.entities import Metric

    history: dict[str, list[tuple[float, float | None]]] = read_json(folder / "history.json", {})
    metrics: dict[str, float | None] = read_json(folder / "metrics.json", {})
    points = [(name, value, 0) for name, value in metrics.items() if name not in history]
    points += [(name, value, int(epoch)) for name, curve in history.items() for epoch, value in curve]
    logged = [
        Metric(name, float(value), finished, step)
        for name, value, step in points
        if value is not None and math.isfinite(value)
    ]
    for chunk in _chunks(logged, _MAX_METRICS):
        client.log_batch(run_id, metrics=chunk)


def _log_dataset(client: Any, run_id: str, tags: Mapping[str, str]) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.exceptions import MlflowException

    name, digest = tags.get(keys.DATASET), tags.get(keys.DATASET_DIGEST)
    if not name or not digest:
        return
    source = json.dumps({"uri": name}, ensure_ascii=False)
    dataset = Dataset(name, digest[:_MAX_DIGEST_LENGTH], source_type="local", source=source, profile="{}")
    inputs = [DatasetInput(dataset, tags=[InputTag("mlflow.data.context", "training")])]
    for attempt in range(1, _DATASET_ATTEMPTS + 1):
        try:
            client.log_inputs(run_id, inputs)
        except MlflowException as error:
            # MLflow looks whether the data set is known and then adds it: another run of a sweep may have
            # added it in between. The next look finds it.
            if "unique constraint" not in str(error).lower() or attempt == _DATASET_ATTEMPTS:
                raise
        else:
            return


def _compared_tables(folder: Path) -> dict[str, str]:
    """Return, by artifact path, the text of the tables in the form of MLflow's ``log_table``.

    ``log_table`` itself appends to what is there, so publishing again would double the rows.
    """
    import pandas as pd

    texts = {}
    for name in COMPARED_TABLES:
        path = folder / "tables" / f"{name}.csv"
        if path.exists():
            frame = pd.read_csv(path, keep_default_na=False, na_values=[""])
            rows = frame.astype(object).where(frame.notna(), None).to_numpy().tolist()
            # Not pandas' own writer: it rounds.
            text = json.dumps({"columns": list(frame.columns), "data": rows}, ensure_ascii=False)
            texts[f"tables/{name}.json"] = text
    return texts


def _log_files(client: Any, run_id: str, artifact_uri: str, folder: Path, texts: Mapping[str, str]) -> None:
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not (path.parent == folder and path.name in _NOT_ARTIFACTS)
    ]
    root = local_path(artifact_uri)
    if root is not None:
        for left_by_a_kill in root.rglob(".*.part"):
            left_by_a_kill.unlink()
        for path in files:
            # Results are never written again once they are complete: artifact and result may share their bytes.
            with whole(root / path.relative_to(folder)) as part:
                link_or_copy(path, part)
        for name, text in texts.items():
            write_atomically(root / name, text)
        return
    for path in files:
        parent = path.relative_to(folder).parent.as_posix()
        client.log_artifact(run_id, str(path), None if parent == "." else parent)
    for name, text in texts.items():
        client.log_text(run_id, text, name)


def write_atomically(target: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with whole(target) as part:
        part.write_text(text, encoding="utf-8")
