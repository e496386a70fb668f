"""Figures as inline SVG text.

In: numbers. Out: one ``<svg>`` element a figure, with a text for screen readers. Colours are CSS
variables of the page, so that a figure follows the light or dark scheme; text stays text in the
page's own font. matplotlib's object-oriented interface only: no pyplot, no global state.
Must not know: files, verdicts.
"""

import html
import io
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import MaxNLocator

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
_SPLIT_COLOURS = {"train": TUNED, "validation": GOOD, "holdout": WARN, "quarantine": MUTED}

WIDTH = 4.6
"""Inches: 331 SVG units, so that 11-unit text can still be read on a 320 px screen."""
MAX_POINTS = 400
"""Longer curves are averaged in equal pieces; more points can't be seen at this width."""
_STYLE: Any = {
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


def effect_plot(
    difference: float,
    low: float,
    high: float,
    *,
    unit: str,
    text: str,
    higher_is_better: bool,
    minimum: float = 0.0,
) -> str:
    """The difference with its interval against the zero line.

    Args:
        difference, low, high: tuned minus base and its interval, in ``unit``.
        unit: unit of the axis; may be empty.
        text: what is written at the point.
        higher_is_better: which side of zero is good.
        minimum: smallest difference that matters; drawn when above 0.
    """
    span = max(abs(low), abs(high), abs(difference), minimum, 1e-9)
    left, right = min(low, 0.0), max(high, 0.0)
    pad = max(0.12 * (right - left), 0.08 * span)
    left, right = min(left - pad, -0.22 * span), max(right + pad, 0.22 * span)
    with mpl.rc_context(_STYLE):
        figure, axes = _canvas(1.55, left=0.12)
        good = (0.0, right) if higher_is_better else (left, 0.0)
        axes.axvspan(*good, ymax=0.63, color=GOOD, alpha=0.12, linewidth=0)
        axes.axvline(0, ymax=0.63, color=INK, linewidth=1.4, linestyle=(0, (4, 3)))
        if minimum > 0:
            edge = minimum if higher_is_better else -minimum
            axes.axvline(edge, ymax=0.63, color=WARN, linewidth=1.2, linestyle=":")
        axes.plot([low, high], [0, 0], color=TUNED, linewidth=4, solid_capstyle="butt")
        axes.plot([low, high], [0, 0], "|", color=TUNED, markersize=15, markeredgewidth=2)
        axes.plot([difference], [0], "o", color=TUNED, markersize=9)
        middle = (low + high) / 2
        place = (middle - left) / (right - left)
        side = "left" if place < 0.3 else "right" if place > 0.7 else "center"
        anchor = {"left": low, "right": high, "center": middle}[side]
        anchor = min(max(anchor, left), right)
        axes.text(anchor, 0.5, text, ha=side, va="bottom", fontweight="bold")
        words = ("base better", "tuned better")
        words = words if higher_is_better else (words[1], words[0])
        _side_words(axes, left, right, words)
        axes.set(xlim=(left, right), ylim=(-1, 1.15), yticks=[])
        axes.grid(False)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"difference, tuned {MINUS} base" + (f" ({unit})" if unit else ""))
        return _svg(figure, f"Difference between tuned and base with its interval: {text}")


def _side_words(axes: Axes, left: float, right: float, words: tuple[str, str]) -> None:
    """Name both sides of zero, a side only where its words fit."""
    gap = 0.015 * (right - left)
    for room, position, side, word in (
        (-left, -gap, "right", f"← {words[0]}"),
        (right, gap, "left", f"{words[1]} →"),
    ):
        if room > 0.24 * (right - left):
            axes.text(position, -0.94, word, ha=side, va="bottom", color=MUTED, fontsize=10)


def baseline_plot(values: Mapping[str, float], *, label: str) -> str:
    """The score of every model and baseline, as dots on one axis.

    Args:
        values: name to score, best last drawn on top; "base" and "tuned" have their own colours.
        label: name and unit of the axis.
    """
    ordered = sorted(values.items(), key=lambda item: item[1])
    with mpl.rc_context(_STYLE):
        figure, axes = _canvas(0.75 + 0.3 * len(ordered), left=1.95)
        low, high = ordered[0][1], ordered[-1][1]
        pad = 0.12 * (high - low) or abs(high) * 0.1 or 1.0
        for place, (name, value) in enumerate(ordered):
            colour = {"base": BASE, "tuned": TUNED}.get(name, MUTED)
            axes.plot(
                [value],
                [place],
                "o" if name in ("base", "tuned") else "D",
                color=colour,
                markersize=9 if name == "tuned" else 7,
            )
        axes.set(
            yticks=range(len(ordered)),
            yticklabels=[_drawable(name, 30) for name, _ in ordered],
            ylim=(-0.6, len(ordered) - 0.4),
            xlim=(low - pad, high + pad),
            xlabel=label,
        )
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        spoken = ", ".join(f"{name} {value:.4g}" for name, value in reversed(ordered))
        return _svg(figure, f"Scores of the models and baselines, {label}: {spoken}")


def loss_plot(
    steps: Sequence[float],
    losses: Sequence[float],
    validation: Sequence[tuple[float, float]],
    best_step: float | None,
) -> str:
    """Train and validation loss over the steps, the best checkpoint marked.

    Args:
        steps, losses: one entry a training step; losses in nats per target.
        validation: (step, loss) of every look at the validation rows.
        best_step: step of the checkpoint that was kept.
    """
    with mpl.rc_context(_STYLE):
        figure, axes = _canvas(2.7)
        if len(steps):
            x, y = thinned(steps, losses)
            axes.plot(x, y, color=MUTED, linewidth=1.1, label="train", alpha=0.85)
        if validation:
            x_validation, y_validation = zip(*validation, strict=True)
            axes.plot(
                x_validation,
                y_validation,
                "-o",
                color=TUNED,
                linewidth=2,
                markersize=4,
                label="validation",
            )
        best = [(step, loss) for step, loss in validation if step == best_step]
        if best:
            axes.plot(
                *best[-1],
                "o",
                markersize=12,
                markerfacecolor="none",
                markeredgecolor=GOOD,
                markeredgewidth=2.2,
                label=f"kept: step {best[-1][0]:,.0f}",
                linestyle="none",
            )
        axes.set(xlabel="step", ylabel="loss (nats per target)")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.legend(loc="upper right")
        return _svg(figure, _loss_words(losses, validation, best))


def _loss_words(
    losses: Sequence[float],
    validation: Sequence[tuple[float, float]],
    best: Sequence[tuple[float, float]],
) -> str:
    parts = []
    if len(losses):
        parts.append(f"train loss from {losses[0]:.3f} to {losses[-1]:.3f}")
    if validation:
        parts.append(f"validation loss from {validation[0][1]:.3f} to {validation[-1][1]:.3f}")
    if best:
        parts.append(f"the checkpoint of step {best[-1][0]:.0f} was kept ({best[-1][1]:.3f})")
    return "Loss over the training steps: " + "; ".join(parts)


def learning_rate_plot(steps: Sequence[float], rates: Sequence[float]) -> str:
    """The learning rate over the steps."""
    with mpl.rc_context(_STYLE):
        figure, axes = _canvas(2.7)
        x, y = thinned(steps, rates)
        axes.plot(x, y, color=TUNED, linewidth=2)
        axes.set(xlabel="step", ylabel="learning rate")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0), useMathText=False)
        return _svg(
            figure,
            f"Learning rate over {len(rates):,} steps: highest {max(rates):.3g}, "
            f"last {rates[-1]:.3g}",
        )


def split_plot(counts: Mapping[str, int]) -> str:
    """Where the input rows ended, as one stacked bar."""
    total = sum(counts.values()) or 1
    with mpl.rc_context(_STYLE):
        figure, axes = _canvas(0.95, left=0.1, bottom=0.08)
        start = 0
        for name, rows in counts.items():
            axes.barh(
                0,
                rows,
                left=start,
                height=0.8,
                color=_SPLIT_COLOURS.get(name, MUTED),
                hatch="////" if name == "quarantine" else None,
                edgecolor=SURFACE,
                linewidth=1.5,
                label=f"{name} {100 * rows / total:.1f} %",
            )
            start += rows
        axes.set(xlim=(0, total), ylim=(-0.45, 1.9))
        axes.axis("off")
        axes.legend(loc="upper left", ncols=2, borderaxespad=0, handlelength=1.2, columnspacing=1.2)
        spoken = ", ".join(f"{name} {rows:,}" for name, rows in counts.items())
        return _svg(figure, f"Input rows by split: {spoken}")


def confusion_plot(matrix: Sequence[Sequence[float]]) -> str:
    """A heat map of true class (down) against predicted class (across).

    Args:
        matrix: counts; row = true class, column = predicted class. Classes are numbered from 1 as
            in the table of classes, so that any number of them fits.
    """
    counts = np.asarray(matrix, dtype=float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    num_classes = len(counts)
    with mpl.rc_context(_STYLE):
        figure, axes = _canvas(WIDTH * 0.92, left=0.62)
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
        return _svg(
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
    with mpl.rc_context(_STYLE):
        figure, axes = _canvas(2.9, top=0.34)
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
        return _svg(
            figure,
            f"Loss per holdout row: median {np.median(base):.3f} for the base, "
            f"{np.median(tuned):.3f} for the tuned model",
        )


def length_plot(
    lengths: Mapping[str, Sequence[int]], *, unit: str, limit: int | None = None
) -> tuple[str, int]:
    """How long the rows are, by side, with the context limit marked.

    Args:
        lengths: side to the length of each of its rows; at least one row.
        unit: what is counted: tokens, characters.
        limit: longest input that the base reads; None where no base is known.

    Returns:
        The figure, and how many rows are longer than the axis and counted in its last bar.
    """
    values = np.concatenate([np.asarray(rows, dtype=float) for rows in lengths.values()])
    longest = float(values.max())
    high = min(longest, 1.25 * float(np.quantile(values, 0.995))) or 1.0
    # A limit far beyond nearly all rows would press them into one bar.
    if limit is not None and limit <= 2.5 * high:
        high = max(high, 1.08 * limit)
    edges = [float(edge) for edge in np.linspace(0, high, 41)]
    known = {side: rows for side, rows in lengths.items() if len(rows)}
    with mpl.rc_context(_STYLE):
        figure, axes = _canvas(2.9, left=0.7, top=0.42)
        axes.hist(
            [np.clip(np.asarray(rows, dtype=float), 0, high) for rows in known.values()],
            edges,
            stacked=True,
            color=[_SPLIT_COLOURS.get(side, MUTED) for side in known],
            edgecolor=SURFACE,
            linewidth=0.6,
            label=list(known),
        )
        if limit is not None and limit <= high:
            axes.axvline(limit, color=INK, linewidth=1.6, linestyle=(0, (4, 3)))
        if limit is not None:
            at = limit if limit <= high else high
            words = f"limit {limit:,}" if limit <= high else f"limit {limit:,} →"
            axes.annotate(
                words, (at, 0.98), (-5, 0), axes.get_xaxis_transform(),
                textcoords="offset points", ha="right", va="top", fontweight="bold",
            )  # fmt: skip
        axes.set(xlabel=f"length of a row ({unit})", ylabel="rows", xlim=(0, high))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2, columnspacing=1
        )
        spoken = f"Lengths of {len(values):,} rows in {unit}: median {np.median(values):,.0f}, "
        spoken += f"longest {longest:,.0f}"
        if limit is not None:
            over = int((values > limit).sum())
            spoken += f"; {over:,} are longer than the limit of {limit:,}"
        return _svg(figure, spoken), int((values > high).sum())


def thinned(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """A curve of at most MAX_POINTS points: means of equal pieces."""
    if len(x) <= MAX_POINTS:
        return list(x), list(y)
    pieces = min(MAX_POINTS, len(x))
    return (
        [float(piece.mean()) for piece in np.array_split(np.asarray(x, dtype=float), pieces)],
        [float(piece.mean()) for piece in np.array_split(np.asarray(y, dtype=float), pieces)],
    )


def _canvas(
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


def _drawable(text: str, longest: int) -> str:
    """Text that matplotlib's own font can measure; it warns about signs that it lacks."""
    text = "".join(sign if " " <= sign <= "~" else "?" for sign in text)
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _svg(figure: Figure, description: str) -> str:
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
    for mark, variable in _VARIABLES.items():
        text = text.replace(mark, f"var({variable})")
    view = re.search(r'viewBox="([^"]+)"', text)
    assert view is not None, "matplotlib writes a viewBox"
    spoken = html.escape(description, quote=True)
    opening = f'<svg class="plot" role="img" aria-label="{spoken}" viewBox="{view[1]}">'
    return opening + text[text.index(">") + 1 :].strip()
