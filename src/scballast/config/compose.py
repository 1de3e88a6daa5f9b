"""From command-line words to a checked configuration: Hydra composes, :mod:`scballast.config.schema` checks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from scballast.config.hydra_compat import forget_composition, parse_override
from scballast.config.schema import Config, DataConfig, build_config, conf_dir, to_leaves
from scballast.config.values import build, unknown_key, unknown_keys
from scballast.config.words import shown_word, value_of
from scballast.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig


def compose_config(overrides: Sequence[str]) -> Config:
    """Compose and check the configuration of one experiment.

    Parameters
    ----------
    overrides
        Words as on the command line, for example ``["data=h5ad", "model.n_latent=20"]``.

    Raises
    ------
    ConfigError
        A word is no override, a key or an option is unknown, or a value is not allowed.

    Examples
    --------
    >>> compose_config(["model.n_latent=5"]).model.n_latent
    5
    """
    try:
        return from_omegaconf(_compose(overrides))
    except ConfigError as error:
        raise ConfigError(as_written(str(error), overrides)) from error


def as_written(message: str, words: Sequence[str]) -> str:
    """Put values into a remedy as they were written: 0.50 and 1e3 are not 0.5 and 1000.0, where they are names.

    Parameters
    ----------
    message
        Of a ``ConfigError``, with or without such a remedy.
    words
        The command line's overrides, those of a sweep included.
    """
    for key, _, written in (word.partition("=") for word in words):
        before, introduction, after = message.partition(f"as it is written: {key}='\"")
        if introduction:
            shown, end, rest = after.partition("\"'")
            choices = [text for text in written.split(",") if repr(parse_override(f"{key}={text}").value()) == shown]
            message = f"{before}{introduction}{choices[0] if choices else shown}{end}{rest}"
    return message


def check_sweep_words(overrides: Sequence[str]) -> DataConfig:
    """Check the words of a sweep as far as they go without a value for what is swept.

    Returns
    -------
    DataConfig
        The data of all trials; what is swept is left at its default.

    Raises
    ------
    ConfigError
        A word is no override, a key or an option is unknown, or a group does not hold a key.
    """
    check_keys(overrides)
    composed = _compose([word for word in overrides if not parse_override(word).is_sweep_override()])
    try:
        data: DataConfig = build(DataConfig, _plain(composed)["data"], "data.")
    except ConfigError as error:
        raise ConfigError(as_written(str(error), overrides)) from error
    return data


def _compose(overrides: Sequence[str]) -> DictConfig:
    from hydra import compose, initialize_config_dir

    check_keys(overrides)
    _check_single(overrides)
    forget_composition()
    with _in_our_words(), initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", overrides=list(overrides))


@contextmanager
def _in_our_words() -> Iterator[None]:
    """Raise ``ConfigError`` for what Hydra and OmegaConf raise."""
    from hydra.errors import HydraException
    from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

    try:
        yield
    except InterpolationResolutionError as error:
        raise ConfigError(_interpolation(error)) from error
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(_first_lines(error)) from error


def from_omegaconf(composed: DictConfig) -> Config:
    """Return the checked configuration of what Hydra composed.

    Raises
    ------
    ConfigError
        A key is unknown, a value is not allowed, or an interpolation does not resolve.
    """
    values = _plain(composed)
    for not_ours in ("hydra", "experiment"):
        values.pop(not_ours, None)
    return build_config(values)


def _plain(composed: DictConfig) -> dict[str, Any]:
    from omegaconf import OmegaConf

    with _in_our_words():
        values: Any = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    return dict(values)


def config_groups() -> dict[str, tuple[str, ...]]:
    """Return the options of every config group, by the group's name."""
    groups: dict[str, list[str]] = {}
    for path in sorted(conf_dir().rglob("*.yaml")):
        group = path.parent.relative_to(conf_dir()).as_posix()
        if group != ".":
            groups.setdefault(group, []).append(path.stem)
    return {group: tuple(options) for group, options in groups.items()}


def _not_understood(word: str, reason: str) -> str:
    """Say what to do about a word that is no override: quoted twice, its value is text, whatever signs it holds."""
    key, _, value = word.partition("=")
    if not value or value_of(f'{key}="{value}"') != value:
        return (
            f"{word!r} is not understood: {reason} Give keys and values as key=value; quote values with spaces, as in "
            "data.population_key='\"cell type\"'."
        )
    return (
        f"{word!r} is not understood: signs of its value have a meaning here. Give keys and values as key=value, and "
        f"quote such a value twice: {shown_word(key, value)}"
    )


def check_keys(overrides: Sequence[str]) -> None:
    """Name an unknown key or option, and the nearest known one, before Hydra does in its own words."""
    from hydra.errors import HydraException

    groups = config_groups()
    leaves = tuple(to_leaves(Config()))
    unknown = []
    for word in overrides:
        try:
            override = parse_override(word)
        except HydraException as error:
            raise ConfigError(_not_understood(word, _first_lines(error))) from error
        key = override.key_or_group
        if key.split(".")[0].split("/")[0] == "hydra" or (key == "experiment" and override.value() is None):
            continue
        free = ("sweep.search_space.", "sweep.sampler_kwargs.")
        if key in groups:
            option = override.value()
            # A mapping sets keys of the group, as in train={lr: 0.1}.
            if option not in groups[key] and not isinstance(option, dict) and not override.is_sweep_override():
                raise _no_option(key, str(option), groups[key])
        elif key not in leaves and not key.startswith(free) and not any(leaf.startswith(f"{key}.") for leaf in leaves):
            unknown.append(key)
    if unknown:
        raise unknown_keys(where="command line", names=unknown, allowed=leaves + tuple(groups))


def _check_single(overrides: Sequence[str]) -> None:
    """Say what to type in place of several values for one experiment, before Hydra does in its own words."""
    for word in overrides:
        if not parse_override(word).is_sweep_override():
            continue
        key, _, value = word.partition("=")
        remedy = f"Type one of them, {key}=VALUE."
        if "(" not in value:
            choices = [part.strip() for part in value.split(",")]
            is_list = key == "methods" or isinstance(to_leaves(Config()).get(key), list)
            listed = f"a list, {key}=[{','.join(choices)}], " if is_list else ""
            remedy = (
                f"Type one of them, {key}={choices[0]}, {listed}or, where a name holds the comma, {key}='\"{value}\"'."
            )
        message = f"{key}: {value} is several values for one experiment. {remedy} With -m each is tried in a sweep."
        raise ConfigError(message)


def _no_option(group: str, option: str, options: Sequence[str]) -> ConfigError:
    """Name the nearest option; of a file given as ``data``, say where it belongs."""
    if group == "data" and re.search(r"\.(h5ad|zarr|h5|hdf5|mtx|csv|loom|rds)(\.gz)?$|/", option, re.IGNORECASE):
        return ConfigError(
            f"data: {option!r} is a file. Give it as data=h5ad {shown_word('data.path', option)} "
            "data.population_key=COLUMN, with the obs column that holds the populations."
        )
    return unknown_key(group, option, options)


def _interpolation(error: Exception) -> str:
    """Name the key whose value holds ``${…}``: Hydra's way to speak of another key, and at times a file's name."""
    key = str(getattr(error, "full_key", "") or "configuration")
    reason = _first_lines(error).rstrip(".")
    return (
        f"{key}: ${{…}} in a value stands for another key, and this one stands for none ({reason}). "
        f"Where the name itself holds it, write {key}='path/with/\\${{x}}', the backslash included."
    )


def _first_lines(error: Exception) -> str:
    text = re.sub(r"\s+", " ", str(error).split("\n\n")[0].split("\n    full_key")[0]).strip()
    # What a terminal cannot show, bytes of another encoding, is written as numbers.
    text = text.encode("utf-8", "backslashreplace").decode()
    if unknown := re.match(r"Could not override '([\w.]+)'\. To append to your config use \+\S+?=", text):
        key, value = unknown[1], text[unknown.end() :]
        text = f"{key}: what is chosen here has no such key. To give it where it has a meaning, write ++{key}={value}"
    return text if text.endswith(".") else f"{text}."
