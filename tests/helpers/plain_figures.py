"""Figures that are made but not drawn: for experiments of which nobody looks at the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scballast.report.style import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# One white pixel, and a drawing of nothing.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8ffff3f0005fe02fe0def46b80000"
    "000049454e44ae426082"
)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>'


def plain_figure(figure: Figure, folder: Path, stem: str, *, caption: str, alt: str) -> Picture:
    """Write the files of a figure as `scballast.report.style.finish` does, with nothing drawn in them."""
    target = folder / "figures"
    target.mkdir(parents=True, exist_ok=True)
    (target / f"{stem}.png").write_bytes(PNG)
    (target / f"{stem}.svg").write_bytes(SVG)
    return Picture(stem, caption, alt, PNG, SVG, float(figure.get_size_inches()[0]))
