"""Figures of the verdict, of training and of the data, as inline SVG text.

In: numbers. Out: one ``<svg>`` element a figure. Must not know: files, verdicts.
"""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from fettle.report.drawing import (
    BASE,
    GOOD,
    INK,
    MINUS,
    MUTED,
    SPLIT_COLOURS,
    STYLE,
    SURFACE,
    TUNED,
    WARN,
    as_svg,
    canvas,
    drawable,
    thinned,
)


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
    with mpl.rc_context(STYLE):
        figure, axes = canvas(1.55, left=0.12)
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
        return as_svg(figure, f"Difference between tuned and base with its interval: {text}")


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
    with mpl.rc_context(STYLE):
        figure, axes = canvas(0.75 + 0.3 * len(ordered), left=1.95)
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
            yticklabels=[drawable(name, 30) for name, _ in ordered],
            ylim=(-0.6, len(ordered) - 0.4),
            xlim=(low - pad, high + pad),
            xlabel=label,
        )
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        spoken = ", ".join(f"{name} {value:.4g}" for name, value in reversed(ordered))
        return as_svg(figure, f"Scores of the models and baselines, {label}: {spoken}")


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
    with mpl.rc_context(STYLE):
        figure, axes = canvas(2.7)
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
        return as_svg(figure, _loss_words(losses, validation, best))


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


def choice_plot(
    looks: Sequence[tuple[float, float]], best_step: float | None, *, label: str
) -> str:
    """The metric on the validation rows over the steps, the best checkpoint marked.

    Args:
        looks: (step, value) of every look at the validation rows.
        best_step: step of the checkpoint that was kept.
        label: name and unit of the axis.
    """
    with mpl.rc_context(STYLE):
        figure, axes = canvas(2.7)
        x, y = zip(*looks, strict=True)
        axes.plot(x, y, "-o", color=TUNED, linewidth=2, markersize=4)
        kept = [(step, value) for step, value in looks if step == best_step]
        if kept:
            axes.plot(
                *kept[-1], "o", markersize=12, markerfacecolor="none", markeredgecolor=GOOD,
                markeredgewidth=2.2, label=f"kept: step {kept[-1][0]:,.0f}", linestyle="none",
            )  # fmt: skip
            axes.legend(loc="lower right")
        axes.set(xlabel="step", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        spoken = f"{label} over the training steps: from {y[0]:.4g} to {y[-1]:.4g}"
        if kept:
            spoken += f"; the checkpoint of step {kept[-1][0]:.0f} was kept ({kept[-1][1]:.4g})"
        return as_svg(figure, spoken)


def learning_rate_plot(steps: Sequence[float], rates: Sequence[float]) -> str:
    """The learning rate over the steps."""
    with mpl.rc_context(STYLE):
        figure, axes = canvas(2.7)
        x, y = thinned(steps, rates)
        axes.plot(x, y, color=TUNED, linewidth=2)
        axes.set(xlabel="step", ylabel="learning rate")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0), useMathText=False)
        return as_svg(
            figure,
            f"Learning rate over {len(rates):,} steps: highest {max(rates):.3g}, "
            f"last {rates[-1]:.3g}",
        )


def split_plot(counts: Mapping[str, int]) -> str:
    """Where the input rows ended, as one stacked bar."""
    total = sum(counts.values()) or 1
    with mpl.rc_context(STYLE):
        figure, axes = canvas(0.95, left=0.1, bottom=0.08)
        start = 0
        for name, rows in counts.items():
            axes.barh(
                0,
                rows,
                left=start,
                height=0.8,
                color=SPLIT_COLOURS.get(name, MUTED),
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
        return as_svg(figure, f"Input rows by split: {spoken}")


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
    with mpl.rc_context(STYLE):
        figure, axes = canvas(2.9, left=0.7, top=0.42)
        axes.hist(
            [np.clip(np.asarray(rows, dtype=float), 0, high) for rows in known.values()],
            edges,
            stacked=True,
            color=[SPLIT_COLOURS.get(side, MUTED) for side in known],
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
        return as_svg(figure, spoken), int((values > high).sum())
