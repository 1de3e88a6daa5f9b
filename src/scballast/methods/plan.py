"""Which methods an experiment runs: what the model offers, the baselines, the controls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from scballast.config.schema import Config, unknown_key
from scballast.errors import ConfigError
from scballast.methods.baselines import BASELINES
from scballast.methods.rankers import RANKERS
from scballast.models import FAMILIES

Source = Literal["ranker", "conditioned", "per_population", "own_de", "scvi_de", "shuffled", "baseline"]


@dataclass(frozen=True)
class PlannedMethod:
    """A method of the experiment and where its scores come from."""

    name: str
    estimand: Literal["marker", "program"]
    source: Source
    deterministic: bool


def plan_methods(config: Config, *, has_samples: bool) -> tuple[PlannedMethod, ...]:
    """Resolve ``methods`` and ``baselines.methods`` for the model and the data.

    Methods that were asked for by name and cannot run are an error; those that only come with the defaults
    are left out, and :func:`left_out` says which and why.

    Raises
    ------
    ConfigError
        A name is unknown, or a method asked for cannot run with this model or these data.
    """
    family = FAMILIES[config.model.name]
    known = {**_from_models(), **{name: "baseline" for name in BASELINES}}
    chosen_by_name = config.methods is not None
    planned: dict[str, PlannedMethod] = {}
    for name in _requested(config):
        if name not in known:
            where = "methods" if chosen_by_name else "baselines.methods"
            raise unknown_key(where, name, tuple(known))
        obstacle = _obstacle(name, config, has_samples=has_samples)
        if obstacle is not None and chosen_by_name:
            message = f"methods: {name!r} cannot run: {obstacle}."
            raise ConfigError(message)
        if obstacle is None:
            planned[name] = _plan(name, deterministic_model=family.deterministic)
    if not planned:
        message = "methods: empty. Name at least one method, or leave it at null for all that apply."
        raise ConfigError(message)
    return tuple(planned.values())


def left_out(config: Config, *, has_samples: bool) -> dict[str, str]:
    """Return the methods of the defaults that cannot run with this model or these data, each with the reason."""
    obstacles = {name: _obstacle(name, config, has_samples=has_samples) for name in _requested(config)}
    return {name: obstacle for name, obstacle in obstacles.items() if obstacle is not None}


def _requested(config: Config) -> tuple[str, ...]:
    if config.methods is not None:
        return config.methods
    return tuple(_offered_by_model(config.model.name)) + config.baselines.methods


def _offered_by_model(model: str) -> dict[str, Source]:
    family = FAMILIES[model]
    offered: dict[str, Source] = {
        entry.name: "ranker" for entry in RANKERS.values() if family.linear or not entry.needs_loadings
    }
    if family.linear and family.conditional:
        offered["conditioned"] = "conditioned"
    if family.linear:
        offered["per_population"] = "per_population"
    return offered


def _from_models() -> dict[str, Source]:
    return {
        **{name: "ranker" for name in RANKERS},
        "conditioned": "conditioned",
        "per_population": "per_population",
        "ldvae_de": "own_de",
        "scvi_de": "scvi_de",
        "shuffled": "shuffled",
    }


def _obstacle(name: str, config: Config, *, has_samples: bool) -> str | None:
    """Say why a known method cannot run, or None."""
    model = config.model.name
    family = FAMILIES[model]
    if name in BASELINES:
        needs = BASELINES[name].needs_samples and not has_samples
        return "it needs data.sample_key, the obs column of the samples" if needs else None
    if name == "ldvae_de" and model != "ldvae":
        return f"model.name is {model}, and only model.name=ldvae trains an LDVAE"
    if name == "scvi_de" and not family.likelihood:
        return f"model.name is {model}; it comes with ldvae and scvi"
    if name == "shuffled" and not family.linear:
        return f"it is the contrast of shuffled labels, and model.name={model} has no loadings"
    if name not in _offered_by_model(model) and _from_models()[name] in ("ranker", "conditioned", "per_population"):
        return f"model.name={model} does not offer it"
    return None


def _plan(name: str, *, deterministic_model: bool) -> PlannedMethod:
    if name in BASELINES:
        baseline = BASELINES[name]
        return PlannedMethod(name, baseline.estimand, "baseline", baseline.deterministic)
    source = _from_models()[name]
    if name in RANKERS:
        return PlannedMethod(name, RANKERS[name].estimand, source, deterministic_model)
    if source in ("conditioned", "per_population"):
        return PlannedMethod(name, "program", source, deterministic_model)
    return PlannedMethod(name, "marker", source, deterministic=False)
