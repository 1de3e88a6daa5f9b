"""The objectives of a sweep: those that its trials will have, settled once before its study is made."""

from __future__ import annotations

from collections.abc import Sequence

from scballast.config.schema import DEFAULT_OBJECTIVES, Config, Objective
from scballast.errors import ConfigError
from scballast.methods.registry import METHODS


def settled_objectives(config: Config, methods: Sequence[str]) -> tuple[tuple[Objective, ...], str]:
    """Return the objectives that trials can have, as far as the first configuration tells.

    The default ones are left out where their method is not run, as long as one is left; one that was named is not.

    Parameters
    ----------
    config
        The sweep's first configuration.
    methods
        Those that are run with it.

    Returns
    -------
    objectives : tuple of Objective
        All of a grid, which shows whatever it ran.
    said : str
        What is left out, and why; empty: nothing.

    Raises
    ------
    ConfigError
        An objective that was named is not measured, or none of the default ones is.
    """
    if config.sweep.kind == "grid":
        return config.objectives, ""
    if config.fit.n_mc_samples == 0:
        for objective in config.objectives:
            if objective.metric.split("/")[0] == "fit":
                message = f"objectives: {objective.metric!r} is not measured with fit.n_mc_samples=0. Set it to 64."
                raise ConfigError(message)
    missing = {o: name for o in config.objectives if (name := _method_of(o)) and name not in methods}
    if not missing:
        return config.objectives, ""
    left = tuple(objective for objective in config.objectives if objective not in missing)
    first, method = next(iter(missing.items()))
    run = ", ".join(methods)
    if config.objectives != DEFAULT_OBJECTIVES or not left:
        reading_models = [name for name in methods if METHODS[name].roles]
        remedy = objectives_word([(f"confirmed/{[*reading_models, *methods][0]}", "maximize")])
        message = (
            f"objectives: {first.metric!r} is not measured: {method!r} is none of this sweep's methods, {run}. "
            f"Name one that is: {remedy}"
        )
        raise ConfigError(message)
    names = ", ".join(objective.metric for objective in missing)
    kept = ", ".join(objective.metric for objective in left)
    return left, f"{names} is no objective here, since this sweep's methods are {run}; it tunes {kept}."


def objectives_word(objectives: Sequence[Sequence[str]], quote: str = "'") -> str:
    """Return the override that sets objectives, each a metric and a direction, quoted as in a shell."""
    written = ", ".join(f"{{metric: {metric}, direction: {direction}}}" for metric, direction in objectives)
    return f"objectives={quote}[{written}]{quote}"


def _method_of(objective: Objective) -> str:
    """Return the method that an objective is of; empty: no single one."""
    family, _, rest = objective.metric.partition("/")
    return rest.split("/")[0] if family in ("stability", "confirmed") else ""
