"""One look for every figure, and files that come out the same byte for byte."""

from __future__ import annotations

import io
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scballast.report.figure_names import FONT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 10.1  # inches: the page of a report; text stays readable when it is shrunk to a double column (183 mm)
SMALL = 8.0  # points
DPI = 200

# Okabe & Ito (2008): told apart with any colour vision.
BLUE, VERMILION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
SKY, PURPLE, YELLOW = "#56B4E9", "#CC79A7", "#F0E442"
INK, GREY, PALE = "#222222", "#767676", "#E4E4E4"
ESTIMAND_COLOURS = {"marker": BLUE, "program": VERMILION, "response": GREEN}
CYCLE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, INK)
SEQUENTIAL, DIVERGING = "YlGnBu", "PuOr_r"

_SETTINGS: dict[str, Any] = {
    "font.family": [FONT],
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": PALE,
    "grid.linewidth": 0.8,
    "text.parse_math": False,  # names from the data are never formulas
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.06,
    "svg.fonttype": "path",
    "svg.hashsalt": "scballast",
    "path.simplify": True,
}


@dataclass(frozen=True)
class Picture:
    """A finished figure.

    Attributes
    ----------
    stem
        File name without suffix, unique in its report.
    caption, alt
        What is shown and how to read it; the same for someone who cannot see it.
    png, svg
        The two files.
    width
        Width in inches.
    shows
        What these numbers show, in a sentence; ``""`` for nothing.
    """

    stem: str
    caption: str
    alt: str
    png: bytes
    svg: bytes
    width: float
    shows: str = ""


@contextmanager
def figure_style() -> Iterator[None]:
    """Draw with the report's settings, whatever a user's own matplotlibrc says; put theirs back after."""
    import matplotlib as mpl

    settings: dict[Any, Any] = {k: v for k, v in mpl.rcParamsDefault.items() if not k.startswith("backend")}
    settings.update(_SETTINGS)
    with mpl.rc_context(settings):
        yield


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """Make an empty figure (inches) outside pyplot's global list of figures."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


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
        The files' bytes with their text.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
    figure.set_layout_engine("none")  # laid out once: both files, and any machine, get the same positions
    png, svg = io.BytesIO(), io.BytesIO()
    # Straight to the backends: Figure.savefig would draw everything once more for each file.
    FigureCanvasAgg(figure).print_png(png, metadata={"Software": None})
    FigureCanvasSVG(figure).print_svg(svg, metadata={"Date": None, "Creator": None})
    target = folder / "figures"
    target.mkdir(parents=True, exist_ok=True)
    (target / f"{stem}.png").write_bytes(png.getvalue())
    (target / f"{stem}.svg").write_bytes(svg.getvalue())
    width = float(figure.get_size_inches()[0])
    return Picture(stem, caption, alt, png.getvalue(), svg.getvalue(), width)


def name_rows(axes: Axes, labels: Sequence[str], **text: Any) -> None:
    """Label the rows of a vertical layout, the first at the top."""
    axes.set_yticks(range(len(labels)), labels=list(labels), **text)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def name_columns(axes: Axes, labels: Sequence[str], *, positions: Sequence[float] | None = None, **text: Any) -> None:
    """Label the columns of a matrix on top, slanted so that long names keep apart."""
    places = list(range(len(labels))) if positions is None else list(positions)
    axes.set_xticks(
        places,
        labels=list(labels),
        rotation=45,
        ha="left",
        rotation_mode="anchor",
        **text,
    )
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


def two(value: float) -> str:
    """Write a number with two decimals; no minus before a zero."""
    if value != value:
        return "n/a"
    text = f"{value:.2f}"
    return "0.00" if text == "-0.00" else text.replace("-", "−")
