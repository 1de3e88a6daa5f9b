"""Spans of time as people write them: ``90m``, ``2h``, ``1d12h``, or a number of seconds."""

from __future__ import annotations

import re

from scballast.errors import ConfigError

_SECONDS = {"d": 86_400.0, "h": 3_600.0, "min": 60.0, "m": 60.0, "s": 1.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(d|h|min|m|s)")


def seconds_of(key: str, written: str | float | None) -> float | None:
    """Return a span of time in seconds, or None where there is none.

    Parameters
    ----------
    key
        Whose value it is, for the message.
    written
        A number of seconds, or numbers with the units d, h, m (or min) and s.

    Raises
    ------
    ConfigError
        It is no span of time, or none above 0.
    """
    if written is None:
        return None
    text = str(written).strip().lower().replace(" ", "")
    parts = _PART.findall(text)
    if "".join(number + unit for number, unit in parts) == text and text:
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    else:
        try:
            seconds = float(text)
        except ValueError:
            seconds = 0.0
    if not 0.0 < seconds < float("inf"):
        message = f"{key}: {written!r} is no span of time. Write 90m, 2h, 1d12h, or a number of seconds above 0."
        raise ConfigError(message)
    return seconds
