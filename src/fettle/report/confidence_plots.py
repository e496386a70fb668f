"""Figures about confidence: is it right as often as it says, and what abstaining buys.

In: bins and curve points. Out: one ``<svg>`` element a figure. Must not know: files, verdicts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.ticker import MaxNLocator

from fettle.report.drawing import BASE, INK, MUTED, STYLE, TUNED, WARN, WIDTH, as_svg, canvas


@dataclass(frozen=True, slots=True)
class Bin:
    """Rows of about equal confidence."""

    low: float
    high: float
    """Edges, 0 to 1."""
    n: int
    confidence: float
    """Mean over the rows."""
    right: int
    """Rows whose prediction is right."""
    ci_low: float
    ci_high: float
    """Of the share that is right."""

    @property
    def accuracy(self) -> float:
        """Share of the rows that is right."""
        return self.right / self.n


def calibration_plot(arms: Mapping[str, Sequence[Bin]]) -> str:
    """Share of right answers against confidence, with the number of rows below.

    Args:
        arms: "base", "tuned" to their bins without empty ones; "tuned" has intervals and counts.
    """
    height, low = 4.1, 1.15
    with mpl.rc_context(STYLE):
        figure, axes = canvas(height, left=0.62, bottom=low + 0.4, top=0.34)
        counts = figure.add_axes(
            (0.62 / WIDTH, 0.5 / height, (WIDTH - 0.74) / WIDTH, (low - 0.4) / height)
        )
        axes.plot([0, 100], [0, 100], color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
        for name, bins in arms.items():
            is_tuned = name == "tuned"
            colour = TUNED if is_tuned else BASE
            x = [100 * item.confidence for item in bins]
            y = [100 * item.accuracy for item in bins]
            if is_tuned:
                for place, item in zip(x, bins, strict=True):
                    ends = [100 * item.ci_low, 100 * item.ci_high]
                    axes.plot([place, place], ends, color=colour, linewidth=2, alpha=0.55)
            axes.plot(
                x, y, "-o" if is_tuned else "--s", color=colour, linewidth=1.6, markersize=5,
                markerfacecolor=colour if is_tuned else "none", label=name,
            )  # fmt: skip
        for item in arms.get("tuned", ()):
            counts.bar(
                100 * item.low, item.n, 100 * (item.high - item.low), align="edge",
                color=TUNED, alpha=0.5, linewidth=0,
            )  # fmt: skip
        axes.set(xlim=(0, 100), ylim=(0, 103), ylabel="right (%)", xticklabels=[])
        counts.set(xlim=(0, 100), xlabel="confidence (%)", ylabel="rows")
        counts.yaxis.set_major_locator(MaxNLocator(2, integer=True))
        counts.grid(axis="x")
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2, columnspacing=1
        )
        spoken = "; ".join(
            f"at {100 * item.confidence:.0f} % confidence {100 * item.accuracy:.0f} % of "
            f"{item.n:,} rows are right"
            for item in arms.get("tuned", ())
        )
        return as_svg(figure, f"Calibration of the tuned model: {spoken}")


def coverage_plot(
    points: Sequence[tuple[float, float]],
    *,
    chosen: tuple[float, float] | None = None,
    interval: tuple[float, float] | None = None,
    target: float | None = None,
) -> str:
    """Accuracy of the answered rows against the share that is answered.

    Args:
        points: (coverage, accuracy) from the surest rows to all of them, 0 to 1.
        chosen: coverage and accuracy at the threshold that was chosen on validation rows.
        interval: of the accuracy there.
        target: accuracy that the threshold was chosen for.
    """
    lowest = min(y for _, y in points)
    for value in (target, interval[0] if interval else None):
        lowest = lowest if value is None else min(lowest, value)
    with mpl.rc_context(STYLE):
        figure, axes = canvas(2.9, top=0.34)
        x, y = zip(*points, strict=True)
        axes.plot(
            [100 * v for v in x], [100 * v for v in y], color=TUNED, linewidth=2, label="tuned"
        )
        if target is not None:
            axes.axhline(100 * target, color=MUTED, linewidth=1.2, linestyle=":", label="target")
        if chosen is not None:
            if interval is not None:
                axes.plot([100 * chosen[0]] * 2, [100 * v for v in interval], color=WARN, lw=2.2)
            axes.plot(
                [100 * chosen[0]], [100 * chosen[1]], "D", color=WARN, markersize=8,
                label="chosen", linestyle="none",
            )  # fmt: skip
        floor = max(0.0, 100 * lowest - 6)
        axes.set(xlim=(0, 101.5), ylim=(floor, 101.5))
        axes.set(xlabel="rows that are answered (%)", ylabel="of those, right (%)")
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2, columnspacing=1
        )
        spoken = (
            f"Accuracy against coverage: {100 * points[-1][1]:.1f} % of "
            f"{100 * points[-1][0]:.0f} % answered"
        )
        if chosen is not None:
            spoken += (
                f"; at the chosen threshold {100 * chosen[1]:.1f} % of the "
                f"{100 * chosen[0]:.1f} % that are answered"
            )
        return as_svg(figure, spoken)
