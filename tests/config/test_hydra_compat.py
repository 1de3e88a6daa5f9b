"""What is used of Hydra beyond its documented interface is still there; see scballast.config.hydra_compat."""

from __future__ import annotations

import inspect

from scballast.config import hydra_compat

MOVED = "Hydra has moved: adapt scballast/config/hydra_compat.py"


def test_overrides_are_parsed_into_values_and_texts() -> None:
    override = hydra_compat.parse_override("model.n_latent=2,'3',null")
    assert override.is_sweep_override(), MOVED
    assert override.key_or_group == "model.n_latent", MOVED
    assert hydra_compat.choices_of(override) == [(2, "2"), ("'3'", "'3'"), ("null", "null")], MOVED
    interval = hydra_compat.parse_override("train.lr=tag(log,interval(1e-4,1e-1))")
    assert interval.is_interval_sweep(), MOVED
    assert (interval.value().start, interval.value().end, set(interval.value().tags)) == (1e-4, 1e-1, {"log"}), MOVED


def test_jobs_are_composed_launched_and_run() -> None:
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra.core.plugins import Plugins
    from hydra.core.utils import JobReturn, run_job

    hydra_compat.forget_composition()
    assert list(inspect.signature(ConfigLoaderImpl.load_sweep_config).parameters) == [
        "self", "master_config", "sweep_overrides",
    ], MOVED  # fmt: skip
    launcher = inspect.signature(Plugins.instantiate_launcher).parameters
    assert {"hydra_context", "task_function", "config"} <= set(launcher), MOVED
    job = {"task_function", "config", "job_dir_key", "job_subdir_key", "hydra_context", "configure_logging"}
    assert job <= set(inspect.signature(run_job).parameters), MOVED
    assert "_return_value" in JobReturn.__dataclass_fields__, MOVED
