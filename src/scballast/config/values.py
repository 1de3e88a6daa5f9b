"""Plain values, as a command line or YAML gives them, become typed dataclasses; none of the keys is known here."""

from __future__ import annotations

import dataclasses
import difflib
import math
import operator
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any

from scballast.errors import ConfigError

_LARGEST = 2**63 - 1
_LIMITS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "minimum": ("at least", operator.ge),
    "maximum": ("at most", operator.le),
    "above": ("above", operator.gt),
    "below": ("below", operator.lt),
}
_MOST_LISTED = 40


def key_field(default: Any, about: str, **rules: Any) -> Any:
    """Return a field with its default (or what makes that), its line of the help, and the rules that values keep."""
    kind: dict[str, Any] = {"default_factory" if callable(default) else "default": default}
    return field(**kind, metadata={"about": about, **rules})


def one_of(about: str, *allowed: str) -> Any:
    """Return a field that holds one of a few words, by default the first of them."""
    return key_field(allowed[0], about, allowed=allowed)


def written(value: Any) -> str:
    """Return a value as it is written in YAML and on a command line."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def unknown_key(where: str, name: str, allowed: Sequence[str]) -> ConfigError:
    """Return the error for a name that is not there, with the nearest that is."""
    return unknown_keys(where, [name], allowed)


def unknown_keys(where: str, names: Sequence[str], allowed: Sequence[str]) -> ConfigError:
    """Return the error for names that are not there, each with the nearest that is."""
    said = ""
    for name in names:
        nearest = difflib.get_close_matches(name, allowed, n=1)
        said += f"{shown(name)} is not known. " + (f"Did you mean {nearest[0]!r}? " if nearest else "")
    listed = f"Allowed: {', '.join(sorted(allowed))}."
    if len(allowed) > _MOST_LISTED:
        listed = "`scballast --cfg job` prints every key, `scballast --help` the groups and their options."
    return ConfigError(f"{where}: {said}{listed}")


def build(cls: Any, values: Any, path: str) -> Any:
    """Return a dataclass of nested values whose fields are made by :func:`key_field`.

    Parameters
    ----------
    cls
        The dataclass.
    values
        By the names of its fields, nested as they are.
    path
        What stands before the names in messages: empty, or ends in a dot.

    Raises
    ------
    ConfigError
        A key is unknown, or a value has the wrong type or is out of range.
    """
    if isinstance(values, cls):
        return values
    if not isinstance(values, Mapping):
        message = f"{path.rstrip('.') or 'config'}: a group of keys is expected, not {shown(values)}."
        raise ConfigError(message)
    fields = {entry.name: entry for entry in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    unknown = [str(name) for name in values if name not in fields]
    if unknown:
        raise unknown_keys(path.rstrip(".") or "configuration", unknown, tuple(fields))
    built = {
        name: _convert(hints[name], value, f"{path}{name}", fields[name].metadata) for name, value in values.items()
    }
    return cls(**built)


def _convert(hint: Any, value: Any, path: str, rules: Mapping[str, Any]) -> Any:
    if dataclasses.is_dataclass(hint):
        return build(hint, value, f"{path}.")
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    for option in options:
        origin = typing.get_origin(option)
        if origin is tuple and isinstance(value, (list, tuple)):
            item = typing.get_args(option)[0]
            return tuple(_convert(item, entry, f"{path}[{i}]", {}) for i, entry in enumerate(value))
        if option is Mapping or (origin is not None and origin is not tuple and isinstance(value, Mapping)):
            return dict(value)
    scalar = _scalar(options, value)
    if scalar is None:
        names = " or ".join("null" if o is type(None) else getattr(o, "__name__", str(o)) for o in options)
        message = f"{path}: {shown(value)} is a {type(value).__name__}; allowed: {names}."
        if isinstance(value, (list, tuple)):
            first = _plain(value[0] if value else None)
            message = f"{path}: {shown(value)} is a list, and one value is needed: {path}={first}."
        elif any(typing.get_origin(option) is tuple for option in options):
            message = f"{path}: {shown(value)} is one value, and a list is needed: {path}=[{_plain(value)}]."
        if str in options and not isinstance(value, (list, tuple, Mapping)):
            # Hydra reads 0, 0.50, 1e3 and true as numbers and truths before this program sees them.
            message += f" A name that looks like one is quoted twice, as it is written: {path}='\"{shown(value)}\"'."
        raise ConfigError(message)
    for problem in _broken_rules(scalar, path, rules):
        message = f"{path}: {problem}"
        raise ConfigError(message)
    return scalar


def _scalar(options: Sequence[Any], value: Any) -> Any:
    if isinstance(value, bool):
        return value if bool in options else None
    if isinstance(value, int) and int in options:
        return value
    if isinstance(value, (int, float)) and float in options:
        # An integer of more than 308 digits is no float.
        return float(value) if abs(value) <= sys.float_info.max or isinstance(value, float) else math.inf
    if isinstance(value, float) and int in options and value.is_integer():
        return int(value)
    return value if isinstance(value, str) and str in options else None


def _plain(value: Any) -> str:
    """Return a value as it may be typed, where that is short and plain; else what stands for it."""
    text = str(value) if isinstance(value, (str, int, float)) else ""
    return text if text and len(text) <= 60 and all(sign.isalnum() or sign in "_.-/+" for sign in text) else "VALUE"


def shown(value: Any) -> str:
    """Return a value for a message: on one line, and not longer than one."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no integers of more than 4,300 digits
        return "a very large number"
    return text if len(text) <= 100 else f"{text[:99]}…"


def _broken_rules(value: Any, path: str, rules: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a value, the first first."""
    allowed = rules.get("allowed")
    if allowed is not None and value not in allowed:
        nearest = difflib.get_close_matches(str(value), allowed, n=1)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        yield f"{shown(value)} is not allowed; allowed: {', '.join(allowed)}.{hint}"
    if isinstance(value, str):
        if "\x00" in value:
            yield f"{shown(value)} holds a NUL character, which no name or path can."
        if "names" in rules and not value.strip():
            yield f"it is empty. Type the name of the {rules['names']}, {path}=NAME, or leave the key out."
        return
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{value} is not a finite number."
    if abs(value) > _LARGEST:
        yield f"{shown(value)} is out of range; it must be below 2**63."
    for rule, (words, holds) in _LIMITS.items():
        if rule in rules and not holds(value, rules[rule]):
            yield f"{value} is out of range; it must be {words} {rules[rule]}."
