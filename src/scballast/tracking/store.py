"""The MLflow store: one client, one experiment, and errors that say what to do."""

from __future__ import annotations

import getpass
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from scballast.config import keys
from scballast.errors import ScballastError
from scballast.tracking import mlflow_compat
from scballast.tracking.database import quiet_mlflow
from scballast.tracking.faults import UnreachableError, clear_faults
from scballast.tracking.liveness import ProcessIdentity
from scballast.tracking.location import TrackingSettings, is_loopback
from scballast.tracking.outbox import OutboxEntry

PARENT_TAG = "mlflow.parentRunId"
PRIMARY_METRIC = "stability/contrast"  # that the UI shows first; higher is better
SIGNS_OF_LIFE = (keys.PROCESS, keys.HOST, keys.PID, keys.HEARTBEAT)
"""Tags that are of use while a run is RUNNING, or to see what became of one that failed."""

# After a request without an answer the server is left alone for so long: a run makes several requests,
# and each would wait out its own retries.
_PAUSE_SECONDS = 30.0

# MLflow's own are 120 s and seven retries with growing pauses: minutes during which nothing moves.
_HTTP_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}


@dataclass(frozen=True)
class StoredRun:
    """A run as the store has it.

    Attributes
    ----------
    status
        ``RUNNING``, ``FINISHED``, ``FAILED`` or ``KILLED``.
    start_time
        Milliseconds since the epoch.
    """

    run_id: str
    name: str
    status: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    start_time: int


class Store:
    """One MLflow store.

    Parameters
    ----------
    settings
        Where it is.
    """

    def __init__(self, settings: TrackingSettings) -> None:
        self.settings = settings
        self._client: Any = None
        self._experiments: dict[str, str] = {}
        self._silent_until = 0.0

    @property
    def client(self) -> Any:
        """The store's ``MlflowClient``."""
        if self._client is None:
            quiet_mlflow()
            if self.settings.is_server:
                for name, value in _HTTP_SETTINGS.items():
                    os.environ.setdefault(name, value)
                if is_loopback(urlsplit(self.settings.store_uri).hostname or ""):
                    _no_proxy_for_loopback()
            elif self.settings.database is None:
                mlflow_compat.retry_briefly()
            from mlflow.tracking import MlflowClient

            # The model registry is named too: left out, MLflow takes it from the environment.
            uri = self.settings.store_uri
            self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        return self._client

    def experiment_id(self, name: str) -> str:
        """Return the id of an experiment, which is made if it is not there yet."""
        if name not in self._experiments:
            self._experiments[name] = self._find_or_create_experiment(name)
        return self._experiments[name]

    def experiments(self) -> dict[str, str]:
        """Return the ids of the experiments that have runs, by name."""
        experiments = self.client.search_experiments()
        return {
            experiment.name: str(experiment.experiment_id)
            for experiment in experiments
            if self.client.search_runs([experiment.experiment_id], max_results=1)
        }

    @contextmanager
    def access(self) -> Iterator[None]:
        """Guard requests to the store.

        Raises
        ------
        UnreachableError
            The server gave no answer, or gave none a moment ago.
        ScballastError
            What the user can act on: full disk, no permission, locked or broken database, refused access.
        """
        if time.monotonic() < self._silent_until:
            msg = f"{self.settings.shown_uri} gave no answer a moment ago"
            repeated = UnreachableError(msg)
            repeated.told = True
            raise repeated
        try:
            with clear_faults(self.settings):
                yield
        except UnreachableError:
            self._silent_until = time.monotonic() + _PAUSE_SECONDS
            raise

    def try_again(self) -> None:
        """Forget that the server gave no answer."""
        self._silent_until = 0.0

    def create_run(self, entry: OutboxEntry, parent: str | None) -> str:
        """Create a run that is RUNNING and belongs to its process; returns its id."""
        tags = {**entry.tags, **life_tags(entry.process), keys.KEY: entry.key}
        tags |= {} if entry.folder is None else {keys.FOLDER: entry.folder}
        tags |= {} if parent is None else {PARENT_TAG: parent}
        experiment = self.experiment_id(entry.experiment)
        run = self.client.create_run(experiment, start_time=entry.start_time, tags=tags, run_name=entry.name)
        return str(run.info.run_id)

    def clear_tags(self, run_id: str, names: Iterable[str]) -> None:
        """Take tags away from a run: a failure that was none after all, signs of life of what is over."""
        present = self.client.get_run(run_id).data.tags
        for name in names:
            if name in present:
                self.client.delete_tag(run_id, name)

    def find_one(self, experiment: str, tag: str, value: str) -> str | None:
        """Return the first run of an experiment with this tag."""
        runs = self.search(experiment, {tag: value})
        return runs[0].run_id if runs else None

    def search(
        self, experiment: str | None, tags: Mapping[str, str] | None = None, *, condition: str = ""
    ) -> list[StoredRun]:
        """Return the runs with these tags that meet a condition, oldest first.

        Parameters
        ----------
        experiment
            Name of the experiment; ``None`` searches all of them.
        tags
            Exact values.
        condition
            In MLflow's search syntax.
        """
        if experiment is None:
            experiments = [e.experiment_id for e in self.client.search_experiments()]
        else:
            experiments = [self.experiment_id(experiment)]
        tags = tags or {}
        # The syntax cannot quote a quote: such values are compared below only.
        plain = {name: value for name, value in tags.items() if "'" not in value and '"' not in value}
        conditions = [
            *(f"tags.`{name}` = '{value}'" for name, value in plain.items()),
            *([condition] if condition else []),
        ]
        tagged_runs: list[StoredRun] = []
        token = None
        while True:
            page = self.client.search_runs(experiments, " and ".join(conditions), max_results=1000, page_token=token)
            tagged_runs += [stored(run) for run in page]
            token = page.token
            if not token:
                break
        wanted = [run for run in tagged_runs if all(run.tags.get(name) == value for name, value in tags.items())]
        return sorted(wanted, key=lambda run: (run.start_time, run.run_id))

    def artifacts_folder(self, run_id: str) -> Path:
        """Return a local folder with a run's artifacts; raises `ScballastError` when it has no tables."""
        if not self.client.list_artifacts(run_id, "tables"):
            status = self.client.get_run(run_id).info.status
            msg = f"run {run_id}: holds no tables (its status is {status})."
            raise ScballastError(msg)
        return Path(self.client.download_artifacts(run_id, ""))

    def _find_or_create_experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        settings = self.settings
        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            tags = {
                "mlflow.experimentKind": "custom_model_development",
                "mlflow.experiment.primaryMetric.name": PRIMARY_METRIC,
                "mlflow.experiment.primaryMetric.greaterIsBetter": "True",
            }
            location = None
            if not settings.is_server:
                location = settings.artifact_root.as_uri()
                tags[keys.RUNS_DIR] = str(settings.root)
            try:
                return str(self.client.create_experiment(name, artifact_location=location, tags=tags))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            # Another process was a moment quicker.
            experiment = self.client.get_experiment_by_name(name)
        if experiment.lifecycle_stage == "deleted":
            msg = (
                f"tracking.experiment: {name!r} was deleted in {settings.shown_uri}.\n"
                "Restore it there, or choose another name."
            )
            raise ScballastError(msg)
        return str(experiment.experiment_id)


def life_tags(process: ProcessIdentity) -> dict[str, str]:
    """Return the tags of a run that a process works on: who, where, since when."""
    return {
        keys.PROCESS: process.to_json(),
        keys.HOST: process.host,
        keys.PID: str(process.pid),
        keys.HEARTBEAT: f"{time.time():.0f}",
        "mlflow.source.name": "scballast",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": _user(),
    }


def stored(run: Any) -> StoredRun:
    """Return an MLflow run as plain values."""
    return StoredRun(
        run_id=run.info.run_id,
        name=run.info.run_name,
        status=run.info.status,
        tags=dict(run.data.tags),
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
        start_time=run.info.start_time,
    )


def _no_proxy_for_loopback() -> None:
    """Let MLflow's requests to this machine pass by a proxy, which would look for it at its own place."""
    for name in ("no_proxy", "NO_PROXY"):
        others = os.environ.get(name) or os.environ.get(name.swapcase()) or ""
        os.environ[name] = ",".join(dict.fromkeys([*filter(None, others.split(",")), "127.0.0.1", "localhost", "::1"]))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a number that no account has.
        return str(os.getuid())
