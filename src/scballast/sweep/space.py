"""Search spaces in Hydra's own sweep syntax: what a sweep varies, and over which values."""

from __future__ import annotations

import dataclasses
import itertools
import math
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scballast.config.compose import check_keys, config_groups
from scballast.config.hydra_compat import choices_of, parse_override
from scballast.config.schema import Config
from scballast.config.values import unknown_key, written
from scballast.errors import ConfigError
from scballast.sweep.optuna_compat import Trial

# A trial's value of one key: what Optuna stores.
Value = str | int | float | bool | None

# These say where and how results are kept; a sweep cannot search over them.
_NOT_SEARCHED = (
    "hydra",
    "sweep",
    "tracking",
    "objectives",
    "runs_dir",
    "cache",
    "cache_gib",
    "plan",
    "experiment",
    "device",
)


@dataclass(frozen=True)
class Dimension:
    """One key that the sweep varies.

    Attributes
    ----------
    key
        Dotted key, or the name of a config group.
    text
        The values in Hydra's syntax, as they were given.
    n_asked
        How many values the text lists; those listed twice are one choice.
    choices
        Values and how each is written after ``key=``; empty for an interval.
    low, high, step, log, integer
        Limits of a number, both included; step ``None``: any number between them.
    ordered
        Whether the choices are numbers in equal steps, which samplers may interpolate between.
    """

    key: str
    text: str
    choices: tuple[tuple[Value, str], ...] = ()
    low: float = math.nan
    high: float = math.nan
    step: float | None = None
    log: bool = False
    integer: bool = False
    ordered: bool = False
    n_asked: int = 1

    def suggest(self, trial: Trial) -> Value:
        """Return the value that the study's sampler chooses for a trial."""
        if self.choices and not self.ordered:
            chosen: Value = trial.suggest_categorical(self.key, [value for value, _ in self.choices])
            return chosen
        if self.integer:
            step = 1 if self.log else int(self.step or 1)
            return trial.suggest_int(self.key, int(self.low), int(self.high), log=self.log, step=step)
        return trial.suggest_float(self.key, self.low, self.high, log=self.log, step=None if self.log else self.step)

    def word(self, value: Value) -> str:
        """Return a value as a word of the command line."""
        for known, text in self.choices:
            if known == value and isinstance(known, bool) == isinstance(value, bool):
                return f"{self.key}={text}"
        return f"{self.key}={value!r}" if isinstance(value, float) else f"{self.key}={value}"

    def ends(self) -> tuple[Value, ...]:
        """Return the values to check before anything runs: every choice, or both limits."""
        if self.choices:
            return tuple(value for value, _ in self.choices)
        return (int(self.low), int(self.high)) if self.integer else (self.low, self.high)


Space = tuple[Dimension, ...]
Point = dict[str, Value]


def split_words(
    words: Sequence[str], search_space: Mapping[str, Any], *, loader: Any = None
) -> tuple[list[str], Space]:
    """Part a sweep's command line into what all trials share and what varies.

    Parameters
    ----------
    words
        Overrides as on the command line.
    search_space
        ``sweep.search_space``: values in Hydra's syntax by key. The command line comes first: a key swept
        there replaces the entry, a key set there takes it out of the space. An entry of null is none.
    loader
        Hydra's config loader, for ``glob``.

    Returns
    -------
    words : list of str
        The overrides that every trial has.
    space : tuple of Dimension
        In the order of the search space, then of the command line.

    Raises
    ------
    ConfigError
        A key is unknown or cannot be searched, or its values are not understood.
    """
    entries = {key: entry_words(key, value) for key, value in _flat(search_space).items() if value is not None}
    check_keys([*words, *entries.values()])
    shared: list[str] = []
    for word in words:
        override = _parse(word, loader)
        if override.is_sweep_override():
            entries[override.key_or_group] = word
        else:
            shared.append(word)
            entries.pop(override.key_or_group, None)
    space = [parse_dimension(word, loader=loader) for word in entries.values()]
    groups = config_groups()
    for dimension in space:
        for value, _ in dimension.choices if dimension.key in groups else ():
            if value not in groups[dimension.key]:
                raise unknown_key(dimension.key, str(value), groups[dimension.key])
    return shared, tuple(space)


def entry_words(key: str, value: Any) -> str:
    """Return one entry of ``sweep.search_space`` as a word of the command line."""
    if isinstance(value, list | tuple):
        return f"{key}={','.join(map(written, value))}" if len(value) != 1 else f"{key}=choice({value[0]})"
    return f"{key}={written(value)}"


def parse_dimension(word: str, *, loader: Any = None) -> Dimension:
    """Parse ``key=choice(...)``, ``range``, ``interval`` or ``a,b,c``, tagged ``log`` or not.

    Raises
    ------
    ConfigError
        The key cannot be searched, or the values are none that a sweep can run over.
    """
    override = _parse(word, loader)
    key = str(override.key_or_group)
    text = word.split("=", 1)[1]
    if key.split(".")[0].split("/")[0] in _NOT_SEARCHED:
        message = f"{key}: a sweep cannot search over it: it says where results are kept or how they are computed."
        raise ConfigError(message)
    if override.is_interval_sweep():
        return _interval(key, text, override.value())
    if override.is_range_sweep():
        return _range(key, text, override.value(), override)
    if override.is_choice_sweep():
        return Dimension(key, text, choices=_choices(override), n_asked=len(list(override.sweep_string_iterator())))
    # A space of one value is no mistake: `sweep.search_space` may hold a constant.
    value = override.value()
    if isinstance(value, str | int | float | bool) or value is None:
        return Dimension(key, text, choices=((value, text),))
    message = f"sweep.search_space: {key}={text} is not understood. Use choice(a,b), range(0,10,step=2), interval(0,1)."
    raise ConfigError(message)


def enumerate_points(space: Space) -> Iterator[Point]:
    """Yield every combination of the values, the last key fastest.

    Raises
    ------
    ConfigError
        A dimension is an interval, which has no finite list of values.
    """
    for dimension in space:
        if not dimension.choices:
            message = (
                f"{dimension.key}={dimension.text}: an interval has no finite list of values, so it cannot be in a "
                "grid. Use choice(...) or range(...), or let Optuna search it: sweep=optuna."
            )
            raise ConfigError(message)
    keys = [dimension.key for dimension in space]
    for values in itertools.product(*(dimension.ends() for dimension in space)):
        yield dict(zip(keys, values, strict=True))


def n_asked_for(space: Space) -> int:
    """Return the number of combinations that a grid's words list, those that they list twice included."""
    return math.prod(dimension.n_asked for dimension in space)


def point_words(space: Space, point: Mapping[str, Value]) -> list[str]:
    """Return a point of the space as words of the command line."""
    return [dimension.word(point[dimension.key]) for dimension in space if dimension.key in point]


def point_overrides(space: Space, point: Mapping[str, Value]) -> list[str]:
    """Return a point of the space as Hydra's overrides.

    A group's file need not hold every key that the configuration has (a PCA's has no likelihood), so keys are
    added where they are missing; that they exist has been checked.
    """
    return [f"++{word}" if "." in word.split("=")[0] else word for word in point_words(space, point)]


def describe(space: Space) -> dict[str, str]:
    """Return the space as text by key, in a form that two equal spaces share."""
    described = {}
    for dimension in space:
        if dimension.choices:
            described[dimension.key] = ", ".join(text for _, text in dimension.choices)
        else:
            kind = ("integers" if dimension.integer else "numbers") + (", logarithmic" if dimension.log else "")
            described[dimension.key] = f"{dimension.low:g} to {dimension.high:g} ({kind})"
    return described


def _choices(override: Any) -> tuple[tuple[Value, str], ...]:
    choices: dict[tuple[type, Any], tuple[Value, str]] = {}
    for value, text in choices_of(override):
        # One configuration asked for twice is one trial.
        plain = None if text == "null" else value
        choices.setdefault((type(plain), plain), (plain, text))
    return tuple(choices.values())


def _range(key: str, text: str, sweep: Any, override: Any) -> Dimension:
    listed = [round(v, 12) if isinstance(v, float) else v for v in override.sweep_iterator()]
    # In binary fractions the end of a range may come out just below itself.
    values = [value for value in listed if abs(value - sweep.stop) > 1e-9 * abs(sweep.step)]
    integer = all(isinstance(value, int) for value in values) or _is_integer(key)
    values = [int(value) if integer else float(value) for value in values]
    if not values:
        message = f"{key}={text}: the range holds no value."
        raise ConfigError(message)
    log = "log" in sweep.tags
    if log and min(values) <= 0:
        message = f"{key}={text}: a logarithmic range must lie above 0."
        raise ConfigError(message)
    if log and abs(sweep.step) != 1:
        message = f"{key}={text}: a logarithmic range takes no step."
        raise ConfigError(message)
    choices = tuple((value, repr(value)) for value in values)
    low, high = min(values), max(values)
    return Dimension(
        key, text, choices, low, high, abs(sweep.step), log=log, integer=integer, ordered=True, n_asked=len(values)
    )


def _interval(key: str, text: str, sweep: Any) -> Dimension:
    low, high = sweep.start, sweep.end
    integer = (isinstance(low, int) and isinstance(high, int)) or _is_integer(key)
    log = "log" in sweep.tags
    if not low < high:
        message = f"{key}={text}: the interval's start must lie below its end."
        raise ConfigError(message)
    if log and low <= 0:
        message = f"{key}={text}: a logarithmic interval must lie above 0."
        raise ConfigError(message)
    if integer and (not float(low).is_integer() or not float(high).is_integer()):
        message = f"{key}={text}: {key} takes integers, so the interval must run from one to another."
        raise ConfigError(message)
    return Dimension(key, text, (), float(low), float(high), 1 if integer else None, log=log, integer=integer)


def _is_integer(key: str) -> bool:
    """Return whether the configuration takes integers, and no other numbers, under a key."""
    hint: Any = Config
    for part in key.split("."):
        if not dataclasses.is_dataclass(hint):
            return False
        hint = typing.get_type_hints(hint).get(part)
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return int in options and float not in options


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _parse(word: str, loader: Any) -> Any:
    from hydra.errors import HydraException

    try:
        return parse_override(word, loader=loader)
    except HydraException as error:
        first = str(error).splitlines()[0]
        message = f"{word}: is not understood ({first}). Use choice(a,b), range(0,10,step=2), interval(0,1)."
        raise ConfigError(message) from error
