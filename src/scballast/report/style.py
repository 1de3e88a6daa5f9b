"""One look for every figure, and files that come out the same byte for byte."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import colormaps, font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.cm import ScalarMappable
from matplotlib.collections import QuadMesh
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from scballast.report.figure_names import FONT, figure_labels
from scballast.report.html import Picture, image_source

WIDTH = 10.1  # inches: the page of a report; text stays readable when it is shrunk to a double column (183 mm)
SMALL = 8.0  # points
DPI = 200
_COMPRESSION = 3  # of pixels: 6, the usual one, takes twice the time for 10% of the bytes

# Okabe & Ito (2008): told apart with any colour vision.
BLUE, VERMILION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
SKY, PURPLE, YELLOW = "#56B4E9", "#CC79A7", "#F0E442"
INK, GREY, PALE = "#222222", "#767676", "#E4E4E4"
ESTIMAND_COLOURS = {"marker": BLUE, "program": VERMILION, "response": GREEN}
CYCLE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, INK)
SEQUENTIAL, DIVERGING = "YlGnBu", "PuOr_r"

# Beside matplotlib's defaults.
_SETTINGS: dict[Any, Any] = {
    "font.family": [FONT],
    "axes.titlesize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "grid.color": PALE,
    "text.parse_math": False,  # names from the data are never formulas
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.06,
    "svg.hashsalt": "scballast",
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Draw with the report's settings, whatever a user's own matplotlibrc says; put theirs back after."""
    defaults = {k: v for k, v in mpl.rcParamsDefault.items() if not k.startswith("backend")}
    with mpl.rc_context({**defaults, **_SETTINGS}), _fonts_found_once():
        yield


@contextmanager
def _fonts_found_once() -> Iterator[None]:
    """Remember which file a font is in: matplotlib asks ten times for each text, and reads its settings each time."""
    manager = vars(font_manager.fontManager)
    before = dict(manager)
    manager["findfont"] = lru_cache(maxsize=None)(font_manager.fontManager.findfont)
    try:
        yield
    finally:
        del manager["findfont"]
        manager.update((name, value) for name, value in before.items() if name == "findfont")


def new_figure(height: float) -> Figure:
    """Make an empty figure (inches) outside pyplot's global list of figures."""
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def panel(height: float) -> tuple[Figure, Axes]:
    """Make a figure of one panel (inches)."""
    figure = new_figure(height)
    return figure, figure.subplots()


def panels(count: int, most: int, height: float, rest: float = 0.0, **subplots: Any) -> tuple[Figure, list[Axes]]:
    """Make a figure of equal panels, row by row, with names along the x axis under the lowest of each column.

    Parameters
    ----------
    count
        Number of panels.
    most
        Panels in a row.
    height, rest
        Inches of a row of panels, and of what stands around them.
    **subplots
        As of matplotlib's ``subplots``: what the panels share.
    """
    n_columns = min(most, count)
    n_rows = math.ceil(count / n_columns)
    figure = new_figure(n_rows * height + rest)
    grid = figure.subplots(n_rows, n_columns, squeeze=False, sharex=True, **subplots)
    for axes in grid.flat[count:]:
        axes.remove()
    for column in range(n_columns):
        grid[(count - 1 - column) // n_columns, column].tick_params(axis="x", labelbottom=True)
    return figure, list(grid.flat[:count])


def panels_of_rows(
    names: Sequence[str], count: int, most: int, heading: float, rest: float
) -> tuple[Figure, list[Axes]]:
    """Make a figure of equal panels whose rows are the same names, such as populations (see `panels`).

    Parameters
    ----------
    names
        Of the rows, the first at the top.
    count, most
        Number of panels, and of those in a row.
    heading, rest
        Inches of the heading of a panel, and of what stands around the panels.
    """
    figure, drawn = panels(count, most, len(names) * row_height(len(names)) + heading, rest, sharey=True)
    label_rows(drawn[0], names)
    for axes in drawn:
        axes.tick_params(axis="y", length=0)
        axes.tick_params(axis="x", labelbottom=True)
    return figure, drawn


def heat_map(
    axes: Axes, values: np.ndarray, colours: str, limits: tuple[float, float], *, linewidth: float, bad: Any = PALE
) -> QuadMesh:
    """Draw a matrix as coloured cells with white seams, the first row at the bottom of the data's axis.

    Parameters
    ----------
    axes
        To draw in.
    values : (n_rows, n_columns) float
        NaN is drawn in the colour ``bad``.
    colours
        Name of matplotlib's colour map.
    limits
        Values at the ends of the colours.
    linewidth
        Of the seams, in points.
    bad
        Colour of what is not known.
    """
    edges = [np.arange(size + 1) - 0.5 for size in values.shape]
    mesh = axes.pcolormesh(
        edges[1], edges[0], np.ma.masked_invalid(values), cmap=colormaps[colours].with_extremes(bad=bad),
        vmin=limits[0], vmax=limits[1], edgecolor="white", linewidth=linewidth,
    )  # fmt: skip
    axes.spines[:].set_visible(False)
    return mesh


def colour_bar(figure: Figure, drawn: ScalarMappable, axes: Any, label: str, **placement: Any) -> Colorbar:
    """Explain the colours beside the panels ``axes``, without a frame."""
    bar = figure.colorbar(drawn, ax=axes, label=label, **placement)
    bar.outline.set_visible(False)
    return bar


def mark(colour: str, marker: str = "o", **more: Any) -> Line2D:
    """Make a mark without a line for a legend."""
    return Line2D([], [], color=colour, marker=marker, linewidth=0, **more)


def finish(figure: Figure, folder: Path, stem: str, *, caption: str, alt: str) -> Picture:
    """Write ``figures/<stem>.png`` and ``.svg``.

    Parameters
    ----------
    figure
        The drawn figure.
    folder
        Result folder.
    stem
        File name without suffix.
    caption, alt
        Text for the report.

    Returns
    -------
    Picture
        The figure for the page, with its text.
    """
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        if not axis.get_label_text():
            axis.set_label_coords(0, 0)  # else matplotlib measures all ticks, five times, to place no words
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
    figure.set_layout_engine("none")  # laid out once: both files, and any machine, get the same positions
    png, svg = io.BytesIO(), io.BytesIO()
    # Straight to the backends: Figure.savefig would draw everything once more for each file.
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    # Without the channel of transparency, of which there is none: half the time, and smaller files.
    pixels = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    pixels.save(png, format="PNG", dpi=(figure.dpi, figure.dpi), compress_level=_COMPRESSION)
    FigureCanvasSVG(figure).print_svg(svg, metadata={"Date": None, "Creator": None})
    target = folder / "figures"
    target.mkdir(parents=True, exist_ok=True)
    (target / f"{stem}.png").write_bytes(png.getvalue())
    (target / f"{stem}.svg").write_bytes(svg.getvalue())
    return Picture(stem, caption, alt, image_source(pixels, png.getvalue(), svg.getvalue()))


def name_panel(axes: Axes, title: str, **text: Any) -> None:
    """Write a title above a panel whose ticks have no common factor, which is what matplotlib makes room for."""
    axes.set_title(title, y=1.0, **text)


def name_rows(axes: Axes, labels: Sequence[str], **text: Any) -> None:
    """Label the rows of a vertical layout, the first at the top."""
    axes.set_yticks(range(len(labels)), labels=list(labels), **text)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def label_rows(axes: Axes, names: Sequence[str]) -> None:
    """Label the rows of a vertical layout with names from the data, made fit for a figure."""
    name_rows(axes, list(figure_labels(names, 40).values()), fontsize=row_font(len(names)))


def name_columns(axes: Axes, labels: Sequence[str], places: Sequence[float]) -> None:
    """Label the columns of a matrix on top, slanted so that long names keep apart."""
    axes.set_xticks(places, labels=list(labels), rotation=45, ha="left", rotation_mode="anchor")
    axes.set_xlim(min(places) - 0.5, max(places) + 0.5)
    axes.tick_params(axis="x", length=0, top=True, labeltop=True, bottom=False, labelbottom=False)


def row_font(n_rows: int) -> float:
    """Font size in points for row names: smaller when there are many."""
    return 9.0 if n_rows <= 24 else 8.0


def row_height(n_rows: int) -> float:
    """Height in inches of one named row."""
    return 0.24 if n_rows <= 24 else 0.185


def text_colour(rgba: Sequence[float]) -> str:
    """Black or white, whichever reads better on a colour."""
    red, green, blue = rgba[:3]
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 0.55 else "white"
