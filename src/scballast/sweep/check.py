"""Every configuration that a sweep can run, checked before it runs the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from scballast.config.compose import from_omegaconf
from scballast.config.hydra_compat import compose_job, parse_override
from scballast.config.schema import Config, config_hash
from scballast.errors import ConfigError
from scballast.models import FAMILIES, family_of
from scballast.sweep.space import Dimension, Point, Space, enumerate_points, point_overrides, point_words


def without_missing_families(space: Space) -> tuple[Space, dict[str, str]]:
    """Leave out families of models that cannot be trained here, so that a sweep over families goes on with the others.

    Returns
    -------
    space : tuple of Dimension
        A key whose every value is such a family stays as it is: its check says what is wrong.
    left_out : dict
        The words that are left out, and why.
    """
    kept: list[Dimension] = []
    left_out: dict[str, str] = {}
    for dimension in space:
        known = [str(value) for value, _ in dimension.choices if value in FAMILIES]
        obstacles = {name: FAMILIES[name].obstacle for name in known if dimension.key in ("model", "model.name")}
        missing = {name: obstacle for name, obstacle in obstacles.items() if obstacle is not None}
        choices = tuple(choice for choice in dimension.choices if choice[0] not in missing)
        if missing and choices:
            left_out |= {dimension.word(value): obstacle for value, obstacle in missing.items()}
            text = f"choice({','.join(text for _, text in choices)})"
            kept.append(replace(dimension, text=text, choices=choices, n_asked=dimension.n_asked - len(missing)))
        else:
            kept.append(dimension)
    return tuple(kept), left_out


def config_of(composed: DictConfig) -> Config:
    """Return the checked configuration of a job; Hydra's own part, which knows no job yet, is left out."""
    without_hydra = composed.copy()
    with open_dict(without_hydra):
        without_hydra.pop("hydra", None)
    config = from_omegaconf(without_hydra)
    family_of(config)
    return config


def checked_points(composer: Composer, config: Config) -> list[Point]:
    """Check what a sweep can run, and return the distinct configurations of a grid.

    A grid is checked whole; a tuned space at every choice and limit of each key, the others at their first.

    Returns
    -------
    list of Point
        Empty for a space that a sampler chooses from.

    Raises
    ------
    ConfigError
        A configuration is not allowed, the space is empty, or a grid holds an interval.
    """
    space = composer.space
    if config.sweep.kind == "grid" or config.sweep.sampler == "grid":
        return _distinct(composer, config)
    if not space:
        message = (
            "sweep.search_space: empty, so there is nothing to tune. Give values on the command line, for example "
            "model.n_latent='range(5,31,step=5)', or use the space of sweep=optuna."
        )
        raise ConfigError(message)
    for dimension in space:
        for value in dimension.ends():
            composer.config({**composer.first_point(), dimension.key: value})
    return []


def _distinct(composer: Composer, config: Config) -> list[Point]:
    points: dict[str, Point] = {}
    for point in enumerate_points(composer.space):
        points.setdefault(config_hash(composer.config(point)), point)
    distinct = list(points.values())
    # A tuned sweep over a grid has a budget; a grid runs whole.
    return distinct[: config.sweep.n_trials] if config.sweep.kind == "optuna" else distinct


class Composer:
    """Configurations of many points: Hydra composes once per combination of groups, keys are set in that.

    Composing takes a fifth of a second; a grid may have thousands of points.
    """

    def __init__(self, loader: Any, master: DictConfig, words: Sequence[str], space: Space) -> None:
        self._loader, self._master, self._words, self.space = loader, master, words, space
        self._composed: dict[tuple[Any, ...], DictConfig] = {}
        self._groups = tuple(d for d in space if "." not in d.key and loader.get_group_options(d.key))
        self._leaves = tuple(dimension for dimension in space if dimension not in self._groups)

    def first_point(self) -> Point:
        """Return the first value of every key."""
        return {dimension.key: dimension.ends()[0] for dimension in self.space}

    def config(self, point: Point) -> Config:
        """Return the checked configuration at a point."""
        return config_of(self.composed(point))

    def composed(self, point: Point) -> DictConfig:
        """Return the configuration at a point as Hydra composes it for a job.

        Raises
        ------
        ConfigError
            Hydra cannot compose it; its own words.
        """
        chosen = tuple(point[dimension.key] for dimension in self._groups)
        if chosen not in self._composed:
            words = [*self._words, *point_overrides(self._groups, point)]
            try:
                self._composed[chosen] = compose_job(self._loader, self._master, words)
            except HydraException as error:
                raise ConfigError(" ".join(str(error).split())) from error
        composed = self._composed[chosen].copy()
        OmegaConf.copy_cache(from_config=self._master, to_config=composed)
        for word in point_words(self._leaves, point):
            override = parse_override(word)
            OmegaConf.update(composed, override.key_or_group, override.value(), merge=True, force_add=True)
        with read_write(composed), open_dict(composed):
            composed.hydra.overrides.task = [*self._words, *point_overrides(self.space, point)]
        return composed
