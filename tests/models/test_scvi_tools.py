"""Both models of scvi-tools train through either engine, and end as genuine models of their class."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.helpers.engine_examples import QUIET_SCVI, small_adata

from scballast.config.compose import compose_config
from scballast.engine.ensemble import Ensemble
from scballast.engine.interface import Member
from scballast.models import FAMILIES
from scballast.models.family import FitRequest
from scballast.models.scvi_training import SequentialEnsemble

pytestmark = [pytest.mark.filterwarnings(w) for w in QUIET_SCVI]


@pytest.mark.parametrize(("name", "class_name"), [("ldvae", "LinearSCVI"), ("scvi", "SCVI")])
@pytest.mark.parametrize(("engine", "kind"), [("ensemble", Ensemble), ("scvi", SequentialEnsemble)])
def test_the_engine_that_the_configuration_names_trains_the_model(
    name: str, class_name: str, engine: str, kind: type[Any]
) -> None:
    config = compose_config(
        [f"model={name}", f"train.engine={engine}", "train.max_epochs=2", "model.n_latent=3", "model.n_hidden=16"]
    )
    members = [Member(np.arange(60), seed=5), Member(np.arange(40, 100), seed=6)]
    fitted = FAMILIES[name].fit(FitRequest(small_adata(), members, config, "batch"))
    assert isinstance(fitted, kind)
    exported = fitted.export(1)
    assert type(exported).__name__ == class_name
    assert exported.module.n_latent == 3
    assert exported.module.use_observed_lib_size == (name == "scvi")
    np.testing.assert_allclose(exported.get_latent_representation(), fitted.posterior_means(1), atol=1e-5)
    assert len(fitted.history(0)["elbo_train"]) == 2
