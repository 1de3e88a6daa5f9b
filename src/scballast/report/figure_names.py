"""Names from the data, made fit for a figure: one line, drawable, short, still distinct."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import lru_cache

FONT = "DejaVu Sans"  # shipped with matplotlib, so figures are the same on every machine
_MISSING = "□"


@lru_cache(maxsize=1)
def _drawable() -> frozenset[int]:
    from matplotlib import font_manager

    properties = [font_manager.FontProperties(family=FONT, style=style) for style in ("normal", "italic")]
    fonts = [font_manager.get_font(font_manager.findfont(item)) for item in properties]
    return frozenset(fonts[0].get_charmap()) & frozenset(fonts[1].get_charmap())


def one_line(name: str) -> str:
    """Drop control and direction-override characters and fold white space.

    Parameters
    ----------
    name
        Any text from the data.

    Returns
    -------
    str
        The text on one line; ``(blank)`` when nothing visible is left.
    """
    spaced = "".join(" " if unicodedata.category(c) in {"Cc", "Zl", "Zp"} else c for c in name)
    visible = "".join(c for c in spaced if unicodedata.category(c) not in {"Cf", "Cs", "Co"})
    return " ".join(visible.split()) or "(blank)"


def drawable(name: str) -> str:
    """Put a box in place of each character that the figures' font does not have."""
    known = _drawable()
    return "".join(c if ord(c) in known else _MISSING for c in one_line(name))


def shorten(name: str, limit: int) -> str:
    """Cut the middle of a long name: both ends tell populations apart ("CD4+ … naive").

    Parameters
    ----------
    name
        Text on one line.
    limit
        Largest number of characters to keep, at least 4.

    Returns
    -------
    str
        The name, or its two ends around an ellipsis, ``limit`` characters long.
    """
    if len(name) <= limit:
        return name
    tail = (limit - 1) // 3
    return f"{name[: limit - 1 - tail].rstrip()}…{name[len(name) - tail :].lstrip()}"


def figure_labels(names: Iterable[str], limit: int = 28) -> dict[str, str]:
    """Give each name a label that can be drawn, at most ``limit`` characters long and used once.

    Parameters
    ----------
    names
        Names from the data, distinct.
    limit
        Largest number of characters of a label.

    Returns
    -------
    dict
        Name to label, in the order given. Names that would look the same get a number.
    """
    labels: dict[str, str] = {}
    used: set[str] = set()
    for name in names:
        label = shorten(drawable(name), limit)
        count = 1
        while label in used:
            count += 1
            ending = f" ({count})"
            label = shorten(drawable(name), max(4, limit - len(ending))) + ending
        used.add(label)
        labels[name] = label
    return labels
