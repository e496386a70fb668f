"""Figures of what both models said about the holdout rows, as inline SVG text.

In: one value or answer a row. Out: one ``<svg>`` element a figure. Must not know: files, verdicts.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.collections import PathCollection
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import MaxNLocator

from fettle.report.drawing import (
    BASE,
    GOOD,
    INK,
    MUTED,
    STYLE,
    SURFACE,
    TUNED,
    WARN,
    WIDTH,
    as_svg,
    canvas,
)


def confusion_plot(matrix: Sequence[Sequence[float]]) -> str:
    """A heat map of true class (down) against predicted class (across).

    Args:
        matrix: counts; row = true class, column = predicted class. Classes are numbered from 1 as
            in the table of classes, so that any number of them fits.
    """
    counts = np.asarray(matrix, dtype=float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    num_classes = len(counts)
    with mpl.rc_context(STYLE):
        figure, axes = canvas(WIDTH * 0.92, left=0.62)
        axes.grid(False)
        # One outline a shade, as vectors: follows the colour scheme, and empty cells are free.
        edges = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
        for low, high in pairwise(edges):
            cells = np.argwhere((shares > low) & (shares <= high))
            if len(cells):
                axes.add_patch(
                    PathPatch(
                        _cell_outlines(cells),
                        facecolor=TUNED,
                        alpha=0.18 + 0.82 * high,
                        linewidth=0,
                    )
                )
        axes.plot([0.5, num_classes + 0.5], [0.5, num_classes + 0.5], color=MUTED, linewidth=0.4)
        axes.set(
            xlim=(0.5, num_classes + 0.5),
            ylim=(num_classes + 0.5, 0.5),
            xlabel="predicted class (number in the table)",
            ylabel="true class",
            aspect="equal",
        )
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(8, integer=True))
        right = float(np.trace(counts))
        return as_svg(
            figure,
            f"Confusion of {num_classes} classes: {right:,.0f} of {counts.sum():,.0f} rows are on "
            "the diagonal, where the prediction is the true class",
        )


def _cell_outlines(cells: np.ndarray[Any, np.dtype[Any]]) -> Outline:
    vertices: list[tuple[float, float]] = []
    codes: list[Any] = []
    for row, column in cells:
        x, y = column + 0.5, row + 0.5
        vertices += [(x, y), (x + 1, y), (x + 1, y + 1), (x, y + 1), (x, y)]
        codes += [Outline.MOVETO, *[Outline.LINETO] * 3, Outline.CLOSEPOLY]
    return Outline(vertices, codes)


def loss_distribution_plot(base: Sequence[float], tuned: Sequence[float]) -> str:
    """How the loss is spread over the holdout rows, base against tuned.

    Args:
        base, tuned: nats per target of every row. The highest 1 % is put into the last bar.
    """
    both = np.asarray([*base, *tuned], dtype=float)
    low, high = float(both.min()), float(np.quantile(both, 0.99))
    high = high if high > low else low + 1.0
    edges = [float(edge) for edge in np.linspace(low, high, 31)]
    with mpl.rc_context(STYLE):
        figure, axes = canvas(2.9, top=0.34)
        for name, losses, colour, dash in (
            ("base", base, BASE, (0, (4, 2))),
            ("tuned", tuned, TUNED, "solid"),
        ):
            values = np.clip(losses, low, high)
            median = float(np.median(losses))
            axes.hist(values, edges, color=colour, alpha=0.16)
            axes.hist(
                values,
                edges,
                histtype="step",
                color=colour,
                linewidth=1.8,
                linestyle=dash,
                label=f"{name}, median {median:.2f}",
            )
            axes.axvline(median, color=colour, linewidth=1.2, linestyle=dash)
        axes.set(xlabel="loss of a row (nats per target token)", ylabel="rows")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        # Above the axes: either arm can fill any corner inside.
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2, columnspacing=1
        )
        return as_svg(
            figure,
            f"Loss per holdout row: median {np.median(base):.3f} for the base, "
            f"{np.median(tuned):.3f} for the tuned model",
        )


def outcome_plot(counts: Mapping[str, int]) -> str:
    """How many rows both models, one of them, or none got right.

    Args:
        counts: "both right", "only tuned right", "only base right", "both wrong" to rows.
    """
    looks = {"only tuned right": (GOOD, None), "only base right": (WARN, "////")}
    total = sum(counts.values()) or 1
    with mpl.rc_context(STYLE):
        figure, axes = canvas(1.9, left=1.45, bottom=0.5)
        for place, (name, rows) in enumerate(counts.items()):
            colour, hatch = looks.get(name, (BASE, None))
            axes.barh(
                place, rows, height=0.66, color=colour, hatch=hatch, edgecolor=SURFACE, linewidth=0
            )
            axes.annotate(
                f"{rows:,}  ({100 * rows / total:.1f} %)", (rows, place), (4, 0),
                textcoords="offset points", va="center", fontweight="bold",
            )  # fmt: skip
        axes.set(
            yticks=range(len(counts)), yticklabels=list(counts), ylim=(len(counts) - 0.5, -0.5),
            xlim=(0, 1.42 * max([*counts.values(), 1])), xlabel="holdout rows",
        )  # fmt: skip
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        spoken = ", ".join(f"{name} {rows:,}" for name, rows in counts.items())
        return as_svg(figure, f"Rows by who is right: {spoken}")


def difference_plot(
    differences: Sequence[float],
    *,
    label: str,
    higher_is_better: bool,
    interval: tuple[float, float, float] | None = None,
) -> str:
    """How the paired difference is spread over the rows.

    Args:
        differences: tuned - base of every row.
        label: name and unit of the axis.
        higher_is_better: which side of zero is good.
        interval: difference of all rows and its ends, in the same unit; None where the metric of
            the verdict is not a mean of these rows.
    """
    values = np.asarray(differences, dtype=float)
    # The most extreme 1 % is put into the first and last bar, and zero is always in sight.
    least, most = (float(np.quantile(values, share)) for share in (0.005, 0.995))
    pad = 0.1 * (max(most, 0.0) - min(least, 0.0)) or 1.0
    least, most = min(least, -pad), max(most, pad)
    differing = values[values != 0]
    # Zero is an edge, so that no bar holds better and worse rows.
    width = (most - least) / 30
    first, last = int(np.floor(least / width)), int(np.ceil(most / width))
    edges = width * np.arange(first, last + 1)
    counts, _ = np.histogram(np.clip(differing, edges[0], edges[-1]), edges)
    middles = (edges[:-1] + edges[1:]) / 2
    better = middles > 0 if higher_is_better else middles < 0
    good = int(((differing > 0) == higher_is_better).sum())
    bad, same = len(differing) - good, len(values) - len(differing)
    with mpl.rc_context(STYLE):
        figure, axes = canvas(2.9, top=0.34)
        for mask, colour, hatch, name in (
            (better, GOOD, None, f"better on {good:,}"),
            (~better, WARN, "////", f"worse on {bad:,}"),
        ):
            axes.bar(
                middles[mask], counts[mask], width, color=colour, hatch=hatch, edgecolor=SURFACE,
                linewidth=0.6, label=name,
            )  # fmt: skip
        axes.axvline(0, color=INK, linewidth=1.4, linestyle=(0, (4, 3)))
        if interval is not None:
            middle, low, high = interval
            axes.axvspan(low, high, color=TUNED, alpha=0.3, linewidth=0)
            axes.axvline(middle, color=TUNED, linewidth=2)
        axes.set(xlabel=label, ylabel="rows", xlim=(float(edges[0]), float(edges[-1])))
        axes.set_ylim(0, 1.05 * max(int(counts.max()), 1))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2, columnspacing=1
        )
        return as_svg(
            figure,
            f"Difference of every row, tuned minus base: the tuned model is better on {good:,} and "
            f"worse on {bad:,} of {len(values):,} rows; {same:,} are equal",
        )


def change_plot(base: Sequence[Sequence[float]], tuned: Sequence[Sequence[float]]) -> str:
    """Which confusions became more and which fewer, as marks whose area is the change in rows.

    Args:
        base, tuned: counts; row = true class, column = predicted class, numbered from 1.
    """
    change = np.asarray(tuned, dtype=float) - np.asarray(base, dtype=float)
    num_classes = len(change)
    good = np.where(np.eye(num_classes, dtype=bool), change > 0, change < 0)
    largest = float(np.abs(change).max()) or 1.0
    room = (72.0 * (WIDTH - 0.74) / num_classes) ** 2
    with mpl.rc_context(STYLE):
        figure, axes = canvas(WIDTH * 0.92 + 0.2, left=0.62, top=0.34)
        axes.plot([0.5, num_classes + 0.5], [0.5, num_classes + 0.5], color=MUTED, linewidth=0.4)
        for mask, colour, sign, name in (
            (good & (change != 0), GOOD, "o", "for the better"),
            (~good & (change != 0), WARN, "X", "for the worse"),
        ):
            rows, columns = np.nonzero(mask)
            sizes = np.maximum(6.0, max(room, 30.0) * np.abs(change[mask]) / largest)
            axes.scatter(
                columns + 1, rows + 1, sizes, color=colour, marker=sign, linewidths=0, alpha=0.85,
                label=name,
            )  # fmt: skip
        axes.set(
            xlim=(0.5, num_classes + 0.5),
            ylim=(num_classes + 0.5, 0.5),
            xlabel="predicted class (number in the table)",
            ylabel="true class",
            aspect="equal",
        )
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(8, integer=True))
        legend = axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2, columnspacing=1
        )
        for handle in legend.legend_handles:
            if isinstance(handle, PathCollection):
                handle.set_sizes([40.0])
        better, worse = (float(np.abs(change[mask]).sum()) for mask in (good, ~good))
        return as_svg(
            figure,
            f"Change of the confusion of {num_classes} classes from base to tuned: cells changed "
            f"by {better:,.0f} rows for the better and {worse:,.0f} for the worse",
        )
