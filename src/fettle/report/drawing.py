"""What all figures share: colours, sizes, a canvas, and matplotlib's SVG made fit for a page.

In: a drawn matplotlib figure. Out: one ``<svg>`` element, with a text for screen readers. Colours
are CSS variables of the page, so that a figure follows the light or dark scheme; text stays text in
the page's own font. matplotlib's object-oriented interface only: no pyplot, no global state.
Must not know: what is drawn.
"""

import html
import io
import re
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# matplotlib knows no CSS variables: each colour is a mark that is replaced in the written SVG.
INK, MUTED, GRID, SURFACE = "#010101", "#020202", "#030303", "#040404"
BASE, TUNED, GOOD, WARN = "#050505", "#060606", "#070707", "#080808"
MINUS = "\u2212"
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--line",
    SURFACE: "--surface",
    BASE: "--base",
    TUNED: "--tuned",
    GOOD: "--good",
    WARN: "--warn",
}
SPLIT_COLOURS = {"train": TUNED, "validation": GOOD, "holdout": WARN, "quarantine": MUTED}

WIDTH = 4.6
"""Inches: 331 SVG units, so that 11-unit text can still be read on a 320 px screen."""
MAX_POINTS = 400
"""Longer curves are averaged in equal pieces; more points can't be seen at this width."""
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fettle",
    "text.parse_math": False,
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.labelsize": 11,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.fontsize": 10,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "axes.formatter.useoffset": False,
    "axes.unicode_minus": True,
}


def thinned(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """A curve of at most MAX_POINTS points: means of equal pieces."""
    if len(x) <= MAX_POINTS:
        return list(x), list(y)
    pieces = min(MAX_POINTS, len(x))
    return (
        [float(piece.mean()) for piece in np.array_split(np.asarray(x, dtype=float), pieces)],
        [float(piece.mean()) for piece in np.array_split(np.asarray(y, dtype=float), pieces)],
    )


def canvas(
    height: float, *, left: float = 0.62, bottom: float = 0.5, top: float = 0.12
) -> tuple[Figure, Axes]:
    """A figure with margins in inches, the same for all figures so that axes line up."""
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.add_axes(
        (
            left / WIDTH,
            bottom / height,
            (WIDTH - left - 0.12) / WIDTH,
            (height - bottom - top) / height,
        )
    )
    return figure, axes


def _short_tag(match: re.Match[str]) -> str:
    """A tag with the page's font in place of matplotlib's, and coordinates of two decimals."""
    tag = re.sub(r"font-family: [^;\"]*;? ?", "", match[0])
    tag = re.sub(r' transform="rotate\(-?0 [^"]*"', "", tag)
    return re.sub(r"(\d+\.\d\d)\d+", r"\1", tag)


def drawable(text: str, longest: int) -> str:
    """Text that matplotlib's own font can measure; it warns about signs that it lacks."""
    text = "".join(sign if " " <= sign <= "~" else "?" for sign in text)
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def as_svg(figure: Figure, description: str) -> str:
    """The figure as one <svg> element that can stand inside HTML."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # What several figures on one page would repeat (ids), leak (a style for *) or don't need.
    text = re.sub(
        r"<!--.*?-->\s*|<metadata>.*?</metadata>\s*|<style.*?</style>\s*", "", text, flags=re.DOTALL
    )
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"<[^>]*>", _short_tag, text)
    # Marks and hatches are shared by their id: on one page each figure needs its own.
    own = f"{zlib.crc32(text.encode() + description.encode()):08x}"
    text = re.sub(r'( id="|href="#|url\(#)([^")]+)', rf"\1\2-{own}", text)
    for mark, variable in _VARIABLES.items():
        text = text.replace(mark, f"var({variable})")
    view = re.search(r'viewBox="([^"]+)"', text)
    assert view is not None, "matplotlib writes a viewBox"
    spoken = html.escape(description, quote=True)
    opening = f'<svg class="plot" role="img" aria-label="{spoken}" viewBox="{view[1]}">'
    return opening + text[text.index(">") + 1 :].strip()
