from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from anndata import AnnData
from tests.helpers.tracking_helpers import make_result

from scballast.errors import ScballastError
from scballast.tracking import Tracking

pytest_plugins = ("tests.helpers.tracking_fixtures",)
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")


@pytest.fixture
def chosen(tracking: Tracking) -> str:
    """Return the run of a chosen configuration."""
    run_id = tracking.start_run("chosen", {"model.n_latent": 3, "seed": 0}, {})
    tracking.publish(run_id, make_result(tracking.settings.root / "a"))
    return run_id


def saved(folder: Path, content: bytes) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.pt").write_bytes(content)
    return folder


def test_registering_again_makes_no_second_version(tracking: Tracking, chosen: str, tmp_path: Path) -> None:
    first = saved(tmp_path / "m1", b"one")
    for alias in ("best", "best", "paper"):
        assert tracking.register_model(chosen, first, "pbmc/ldvae", alias) == f"models:/pbmc_ldvae@{alias}"
    client = tracking._store.client
    assert [str(v.version) for v in client.search_model_versions("name = 'pbmc_ldvae'")] == ["1"]
    tracking.register_model(chosen, saved(tmp_path / "m2", b"two"), "pbmc/ldvae", "best")
    aliases = client.get_registered_model("pbmc_ldvae").aliases
    assert {name: str(version) for name, version in aliases.items()} == {"best": "2", "paper": "1"}
    version = client.get_model_version_by_alias("pbmc_ldvae", "best")
    assert version.run_id == chosen
    logged = client.search_logged_models([client.get_run(chosen).info.experiment_id])
    assert [(str(m.status), m.params) for m in logged] == [("READY", {"model.n_latent": "3"})] * 2
    folder = Path(version.source.removeprefix("file://"))
    assert version.source in [m.artifact_location for m in logged]
    assert (folder / "model" / "model.pt").read_bytes() == b"two"
    flavours = (folder / "MLmodel").read_text()
    assert "model_class: LinearSCVI" in flavours
    assert "python_function" not in flavours


@pytest.mark.parametrize(("family", "model_class"), [("ldvae", "LinearSCVI"), ("scvi", "SCVI"), ("drvi", "DRVI")])
def test_a_registered_model_is_described_by_its_class(
    family: str, model_class: str, tracking: Tracking, tmp_path: Path
) -> None:
    run = tracking.start_run("one", {"model.name": family}, {})
    tracking.register_model(run, saved(tmp_path / "m", b"one"), family, "best")
    source = tracking._store.client.get_model_version_by_alias(family, "best").source
    flavours = (Path(source.removeprefix("file://")) / "MLmodel").read_text()
    assert f"model_class: {model_class}\n" in flavours


def test_what_is_not_there(tracking: Tracking, chosen: str, tmp_path: Path) -> None:
    with pytest.raises(ScballastError, match="holds no saved scvi-tools model"):
        tracking.register_model(chosen, tmp_path, "ldvae", "best")
    tracking.register_model(chosen, saved(tmp_path / "m", b"one"), "ldvae", "best")
    with pytest.raises(ScballastError, match="there is no such model; registered here: ldvae"):
        tracking.load_model("models:/other@best", AnnData(np.zeros((1, 1))))
    with pytest.raises(ScballastError, match="is not the address of a registered model"):
        tracking.load_model("runs:/x/model", AnnData(np.zeros((1, 1))))


def test_foreign_pickles_are_not_opened(tracking: Tracking, chosen: str, tmp_path: Path) -> None:
    import torch

    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "harm",))

    folder = tmp_path / "m"
    folder.mkdir()
    torch.save({"model_state_dict": {}, "attr_dict": Harmful(), "var_names": np.array(["a"])}, folder / "model.pt")
    uri = tracking.register_model(chosen, folder, "ldvae", "best")
    with pytest.raises(ScballastError, match="is not opened"):
        tracking.load_model(uri, AnnData(np.zeros((1, 1))))
    assert not (tmp_path / "harm").exists()


@pytest.mark.slow
def test_a_trained_model_loads_back(tracking: Tracking, chosen: str, tmp_path: Path) -> None:
    import scvi

    from scballast.engine.scvi_compat import quiet_scvi
    from scballast.models.saved import save_model

    generator = np.random.default_rng(0)
    adata = AnnData(generator.poisson(2.0, (80, 30)).astype(np.float32))
    adata.var_names = [f"gene{i}" for i in range(30)]
    with quiet_scvi():
        scvi.model.LinearSCVI.setup_anndata(adata)
        model = scvi.model.LinearSCVI(adata, n_latent=3, n_hidden=8)
        model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False, logger=False)
    save_model(model, tmp_path / "saved")
    uri = tracking.register_model(chosen, tmp_path / "saved", "ldvae", "best")
    back = tracking.load_model(uri, AnnData(adata.X.copy(), var=adata.var.copy()))
    assert isinstance(back, scvi.model.LinearSCVI)
    np.testing.assert_array_equal(back.get_loadings().to_numpy(), model.get_loadings().to_numpy())
    np.testing.assert_allclose(back.get_latent_representation(), model.get_latent_representation(), rtol=1e-6)
