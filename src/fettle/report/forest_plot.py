"""Forest plots: many differences with their intervals, one under the other, against one zero line.

In: names, differences, intervals. Out: one ``<svg>`` element. Must not know: what is compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from fettle.report.drawing import (
    GOOD,
    INK,
    MUTED,
    STYLE,
    TUNED,
    WARN,
    WIDTH,
    as_svg,
    canvas,
    drawable,
)

LEFT = 2.0
"""Inches for the names."""
_LOOKS = {"better": (GOOD, "^"), "worse": (WARN, "v"), "open": (TUNED, "o"), "primary": (INK, "D")}
"""Tone to colour and sign: never colour alone."""


@dataclass(frozen=True, slots=True)
class ForestRow:
    """One line of a forest plot."""

    name: str
    difference: float
    low: float | None
    high: float | None
    tone: str = "open"
    """better, worse, open or primary."""


def forest_plot(
    rows: Sequence[ForestRow],
    *,
    label: str,
    sides: tuple[str, str],
    spoken: str,
    margin: float | None = None,
) -> str:
    """Differences with their intervals.

    Args:
        rows: from top to bottom; at least one.
        label: name and unit of the axis.
        sides: what it means to lie left and right of zero.
        spoken: the text for screen readers.
        margin: where the loss that is accepted ends; drawn as a line.
    """
    ends = [
        end for row in rows for end in (row.difference, row.low, row.high, 0.0) if end is not None
    ]
    if margin is not None:
        ends.append(margin)
    low, high = min(ends), max(ends)
    pad = 0.08 * (high - low) or 1.0
    low, high = low - pad, high + pad
    with mpl.rc_context(STYLE):
        figure, axes = canvas(0.85 + 0.27 * (len(rows) + 1), left=LEFT)
        axes.axvline(0, color=INK, linewidth=1.4, linestyle=(0, (4, 3)))
        if margin is not None:
            axes.axvline(margin, color=WARN, linewidth=1.6, linestyle=":")
        for place, row in enumerate(rows):
            _draw(axes, place, row)
        axes.set(
            xlim=(low, high),
            ylim=(len(rows) - 0.4, -1.3),
            yticks=range(len(rows)),
            yticklabels=[drawable(row.name, 26) for row in rows],
            xlabel=label,
        )
        _name_sides(axes, low, high, sides)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        return as_svg(figure, spoken)


def _draw(axes: Axes, place: int, row: ForestRow) -> None:
    colour, sign = _LOOKS[row.tone]
    if row.low is not None and row.high is not None:
        axes.plot(
            [row.low, row.high], [place, place], color=colour, linewidth=2, solid_capstyle="butt"
        )
    axes.plot([row.difference], [place], sign, color=colour, markersize=6.5)


def _name_sides(axes: Axes, low: float, high: float, sides: tuple[str, str]) -> None:
    """A side is named where its words fit between zero and the edge."""
    inches = (WIDTH - LEFT - 0.12) / (high - low)
    for room, at, side, words in (
        (-low, 0.0, "right", f"← {sides[0]}"),
        (high, 0.0, "left", f"{sides[1]} →"),
    ):
        if room * inches > 0.085 * len(words):
            axes.annotate(
                words, (at, -0.8), (-5 if side == "right" else 5, 0), textcoords="offset points",
                ha=side, va="center", color=MUTED, fontsize=10,
            )  # fmt: skip
