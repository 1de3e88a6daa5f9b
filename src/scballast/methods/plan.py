"""Which methods an experiment runs: those of every model, those of ``baselines``, or those asked for by name."""

from __future__ import annotations

from dataclasses import replace

from scballast.config.schema import Config
from scballast.config.values import unknown_key
from scballast.errors import require
from scballast.methods.method import DataHave, Method
from scballast.methods.registry import METHODS
from scballast.models import family_of


def plan_methods(config: Config, *, has_samples: bool) -> tuple[Method, ...]:
    """Resolve ``methods`` and ``baselines.methods`` for the model and the data.

    Methods that were asked for by name and cannot run are an error; those that only come with the defaults
    are left out, and :func:`left_out` says which and why.

    Raises
    ------
    ConfigError
        A name is unknown, or a method asked for cannot run with this model or these data.
    """
    family = family_of(config)
    chosen_by_name = config.methods is not None
    planned: dict[str, Method] = {}
    of_models = tuple(method.name for method in METHODS.values() if method.of_every_model)
    for name in of_models + config.baselines.methods if config.methods is None else config.methods:
        if name not in METHODS:
            raise unknown_key("methods" if chosen_by_name else "baselines.methods", name, tuple(METHODS))
        method = METHODS[name]
        obstacle = method.obstacle(family, _data_have(config, has_samples=has_samples))
        require(obstacle is None or not chosen_by_name, f"methods: {name!r} cannot run: {obstacle}.")
        if obstacle is None:
            deterministic = family.deterministic if method.as_the_model else method.deterministic
            planned[name] = replace(method, deterministic=deterministic)
    require(planned, "methods: empty. Name at least one method, or leave it at null for all that apply.")
    return tuple(planned.values())


def left_out(config: Config, *, has_samples: bool) -> dict[str, str]:
    """Return the methods of the defaults that cannot run with this model or these data, each with the reason.

    Those of an estimand that the data do not have are not missed.
    """
    family, data = family_of(config), _data_have(config, has_samples=has_samples)
    obstacles = {
        name: METHODS[name].obstacle(family, data)
        for name in config.methods or config.baselines.methods
        if data.conditions or METHODS[name].estimand != "response"
    }
    return {name: obstacle for name, obstacle in obstacles.items() if obstacle is not None}


def _data_have(config: Config, *, has_samples: bool) -> DataHave:
    return DataHave(samples=has_samples, conditions=config.data.condition_key is not None)
