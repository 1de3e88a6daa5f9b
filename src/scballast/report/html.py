"""From sections to one self-contained page."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from PIL.Image import Dither, Image

Column = tuple[str, str, int | None]
LARGEST_DRAWING = 120_000  # bytes of SVG put into the page
_COMPRESSION = 8  # 9 takes twice the time for 4% of the bytes


@dataclass(frozen=True)
class Fact:
    """A label and value of the page's head; ``digits`` None for text."""

    label: str
    value: Any
    digits: int | None = None


@dataclass(frozen=True)
class Grid:
    """A table of the report: text columns first, numbers with their decimals.

    Attributes
    ----------
    caption
        What the rows are.
    columns
        Heading and number of decimals; None for text.
    rows
        Cells in the order of the columns.
    """

    caption: str
    columns: tuple[tuple[str, int | None], ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Picture:
    """A finished figure.

    Attributes
    ----------
    stem
        File name without suffix, unique in its report.
    caption, alt
        What is shown and how to read it; the same for someone who cannot see it.
    source
        The figure as a data address, for the page (`image_source`).
    shows
        What these numbers show, in a sentence; ``""`` for nothing.
    """

    stem: str
    caption: str
    alt: str
    source: str
    shows: str = ""


@dataclass(frozen=True)
class Drawing:
    """A figure that is still to be drawn, by any process.

    Attributes
    ----------
    function
        Draws it from the stored folder and the arguments; a function of a module.
    arguments
        Beside the folder.
    """

    function: Callable[..., Picture]
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Section:
    """A piece of evidence, or the reason why it is not there.

    Attributes
    ----------
    anchor, title, lead
        Where, what, and how to read it.
    pictures, grids
        The evidence.
    missing
        Why a part is left out; ``""`` if nothing is.
    drawings
        Pictures that are still to be drawn, after those that are.
    """

    anchor: str
    title: str
    lead: str
    pictures: tuple[Picture, ...] = ()
    grids: tuple[Grid, ...] = ()
    missing: str = ""
    drawings: tuple[Drawing, ...] = ()


def grid_of(caption: str, columns: Iterable[Column], records: Iterable[Mapping[Any, Any]]) -> Grid:
    """Put the named values of each record into a row.

    Parameters
    ----------
    caption
        What the rows are.
    columns
        Name in the records, heading, and number of decimals (None for text).
    records
        One for each row.
    """
    named = tuple(columns)
    rows = tuple(tuple(record[name] for name, _, _ in named) for record in records)
    return Grid(caption, tuple((heading, digits) for _, heading, digits in named), rows)


def with_sentences(sections: Iterable[Section], sentence: Callable[[str], str]) -> list[Section]:
    """Return the sections with a sentence under each figure: what these numbers show.

    Parameters
    ----------
    sections
        From the tables.
    sentence
        From a figure's name to its sentence; ``""`` for none.
    """
    return [
        replace(item, pictures=tuple(replace(p, shows=sentence(p.stem)) for p in item.pictures)) for item in sections
    ]


def number(value: object, digits: int = 2) -> Markup:
    """Write a number for readers, and in full for programs, as ``<data value=…>``.

    Parameters
    ----------
    value
        Any number; None and NaN become "n/a".
    digits
        Decimals shown; 0 writes thousands separators.

    Returns
    -------
    Markup
        One element.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return Markup('<span class="na">n/a</span>')
    exact = float(value)  # type: ignore[arg-type]
    full = repr(int(exact)) if exact.is_integer() and abs(exact) < 2**53 else repr(exact)
    return Markup('<data value="{}">{}</data>').format(full, f"{exact:z,.{digits}f}".replace("-", "−"))


def two(value: float) -> str:
    """Write a number with two decimals; no minus before a zero."""
    return "n/a" if value != value else f"{value:z.2f}".replace("-", "−")


def image_source(pixels: Image, png: bytes, svg: bytes) -> str:
    """Give a figure as a data address: the drawing where it is small, else the pixels in 256 colours.

    The files beside the page keep every colour; the page must open at once with 40 populations.

    Parameters
    ----------
    pixels
        The figure, without transparency.
    png, svg
        Its two files.
    """
    small = len(svg) <= LARGEST_DRAWING
    kind, content = ("svg+xml", svg) if small else ("png", min(_few_colours(pixels), png, key=len))
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _few_colours(pixels: Image) -> bytes:
    buffer = io.BytesIO()
    pixels.quantize(256, dither=Dither.NONE).save(buffer, format="PNG", compress_level=_COMPRESSION)
    return buffer.getvalue()


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("scballast.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    return environment


def write_page(folder: Path, template: str, values: Mapping[str, Any], description: str) -> None:
    """Write ``report.html`` by a template of this package, every value escaped, and ``description.md``.

    Parameters
    ----------
    folder
        Of the two files.
    template
        File name under ``templates``.
    values
        Names that the template uses, beside the version.
    description
        Markdown.
    """
    page = _environment().get_template(template).render(version=version("scballast"), **values)
    (folder / "report.html").write_text(page, encoding="utf-8")
    (folder / "description.md").write_text(description, encoding="utf-8")
