"""Optuna's samplers by name."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

from scballast.config.schema import Config
from scballast.errors import ConfigError
from scballast.seeds import Stream, integer_for
from scballast.sweep.optuna_compat import BaseSampler

_CLASSES = {
    "tpe": "TPESampler",
    "nsgaii": "NSGAIISampler",
    "nsgaiii": "NSGAIIISampler",
    "gp": "GPSampler",
    "random": "RandomSampler",
    "qmc": "QMCSampler",
}
# A low-discrepancy sequence is one sequence: all of its points share the seed.
_ONE_SEED = ("qmc",)


def build_sampler(config: Config, trial: int) -> BaseSampler:
    """Return the sampler that chooses the parameters of one trial.

    What a sampler knows of earlier trials it reads from the study, so each trial can have a sampler of its
    own, seeded by the trial's number: a resumed sweep continues as the uninterrupted one would have, and
    two workers never draw the same numbers.

    Raises
    ------
    ConfigError
        ``sweep.sampler_kwargs`` holds what the sampler does not take.
    """
    import optuna

    name = config.sweep.sampler
    # The trials of a grid are fixed beforehand, so nothing is drawn for them.
    cls: Any = getattr(optuna.samplers, _CLASSES.get(name, "RandomSampler"))
    kwargs = dict(config.sweep.sampler_kwargs) if name in _CLASSES and config.sweep.kind == "optuna" else {}
    identity = () if name in _ONE_SEED else (trial,)
    settings = {"seed": integer_for(config.seed, Stream.SWEEP, *identity), **kwargs}
    accepted = [entry for entry in inspect.signature(cls).parameters if entry != "self"]
    if config.sweep.fused > 1 and "constant_liar" in accepted:
        # Several trials are asked for before the first has a value: they are to differ.
        settings = {"constant_liar": True, **settings}
    unknown = sorted(set(kwargs) - set(accepted))
    if unknown:
        message = (
            f"sweep.sampler_kwargs: {', '.join(unknown)} not known to {cls.__name__}; allowed: {', '.join(accepted)}."
        )
        raise ConfigError(message)
    with warnings.catch_warnings():
        # Several samplers are marked experimental; their names are part of this program's configuration.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            sampler: BaseSampler = cls(**settings)
        except (TypeError, ValueError) as error:
            message = f"sweep.sampler_kwargs: {cls.__name__} does not take them: {error}"
            raise ConfigError(message) from error
    return sampler
