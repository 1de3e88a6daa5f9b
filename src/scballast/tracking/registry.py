"""The chosen model of a sweep in MLflow's registry, under a name and an alias."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scballast.config import keys
from scballast.errors import ScballastError
from scballast.tracking.mlflow_compat import download_artifacts
from scballast.tracking.store import Store

if TYPE_CHECKING:
    from anndata import AnnData

_MODEL_FILE = "model.pt"
_CLASSES = {"ldvae": "LinearSCVI", "scvi": "SCVI", "drvi": "DRVI"}  # of scvi-tools, by model.name


def register_model(store: Store, run_id: str, folder: Path, name: str, alias: str) -> str:
    """Register a saved model; see `Tracking.register_model`."""
    if not (folder / _MODEL_FILE).is_file():
        msg = f"{folder}: holds no saved scvi-tools model ({_MODEL_FILE} is missing), so there is nothing to register."
        raise ScballastError(msg)
    client = store.client
    name, alias = re.sub(r"[^\w\-. ]", "_", name), re.sub(r"[^\w\-]", "_", alias)
    digest = hashlib.sha256((folder / _MODEL_FILE).read_bytes()).hexdigest()
    _ensure_name(client, name)
    version = next(
        (
            str(registered.version)
            for registered in client.search_model_versions(f"name = '{name}'")
            if registered.run_id == run_id and registered.tags.get(keys.MODEL_DIGEST) == digest
        ),
        None,
    )
    if version is None:
        version = _new_version(client, run_id, folder, name, digest)
    client.set_registered_model_alias(name, alias, version)
    return f"models:/{name}@{alias}"


def load_model(store: Store, uri: str, adata: AnnData) -> Any:
    """Load a registered model; see `Tracking.load_model`."""
    from mlflow.exceptions import MlflowException

    from scballast.models.saved import load_saved_model

    match = re.fullmatch(r"models:/([^@/]+)(?:@([^@/]+)|/(\d+))", uri)
    if match is None:
        msg = f"{uri}: is not the address of a registered model.\nWrite models:/NAME@ALIAS or models:/NAME/VERSION."
        raise ScballastError(msg)
    name, alias, number = match.groups()
    client = store.client
    try:
        model_version = (
            client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(name, number)
        )
    except MlflowException as error:
        known = sorted(model.name for model in client.search_registered_models())
        msg = f"{uri}: there is no such model; registered here: {', '.join(known) or 'none'}."
        raise ScballastError(msg) from error
    with tempfile.TemporaryDirectory() as place:
        source = client.get_model_version_download_uri(name, str(model_version.version))
        folder = download_artifacts(source, "model", place, store_uri=store.settings.store_uri)
        return load_saved_model(folder, adata)


def _ensure_name(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description="Chosen by scballast: its genes are the most stable ones.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _new_version(client: Any, run_id: str, folder: Path, name: str, digest: str) -> str:
    from importlib.metadata import version as version_of

    from mlflow.models import Model

    run = client.get_run(run_id)
    model_class = _CLASSES[run.data.params.get("model.name", "ldvae")]
    logged = client.create_logged_model(
        run.info.experiment_id,
        name=name,
        source_run_id=run_id,
        params={key: value for key, value in run.data.params.items() if key.startswith("model.")},
        model_type=model_class,
    )
    try:
        with tempfile.TemporaryDirectory() as place:
            # A flavour of its own: MLflow's generic loader would unpickle, scballast's reads weights only.
            shutil.copytree(folder, Path(place) / "model")
            described = Model(run_id=run_id, model_id=logged.model_id)
            described.add_flavor("scvi", data="model", model_class=model_class, scvi_version=version_of("scvi-tools"))
            described.save(str(Path(place) / "MLmodel"))
            client.log_model_artifacts(logged.model_id, place)
    except BaseException:
        client.finalize_logged_model(logged.model_id, "FAILED")
        raise
    client.finalize_logged_model(logged.model_id, "READY")
    # Named by its place: given as models:/ID, MLflow would look it up in whatever store is the global one.
    made = client.create_model_version(
        name, source=logged.artifact_location, run_id=run_id, model_id=logged.model_id, tags={keys.MODEL_DIGEST: digest}
    )
    versions = json.dumps([{"name": name, "version": str(made.version)}])
    client.set_logged_model_tags(logged.model_id, {"mlflow.modelVersions": versions})
    return str(made.version)
