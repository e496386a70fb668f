"""The evidence behind the verdict: rows, parts of the holdout, guards, confidences, the design.

In: ``Contents``. Out: tables and figures, each with the file that its numbers come from. Nothing
here changes the word. Must not know: HTML.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fettle.report import plots, row_plots, sentences, words
from fettle.report.changed_rows import row_grades
from fettle.report.contents import Contents, mapping, number, objects
from fettle.report.drawing import MINUS
from fettle.report.forest_plot import ForestRow, forest_plot
from fettle.report.tables import Figure, Table, cell
from fettle.report.words import plain

MOST_DRAWN = 24
"""Slices in the forest plot; the table has all."""


@dataclass(frozen=True, slots=True)
class Slices:
    """The primary metric on parts of the holdout."""

    figure: Figure
    table: Table
    worse: str
    """Those that got worse by name, as a sentence; empty where none did."""
    total: int


@dataclass(frozen=True, slots=True)
class Twins:
    """The result with and without rows that a training row tells about."""

    table: Table
    change: str
    """What changes without them, as a sentence; empty where nothing does."""


def effect(contents: Contents) -> Figure | None:
    """The primary difference with its interval against zero."""
    primary = mapping(contents.verdict.get("primary"))
    found = [number(primary.get(key)) for key in ("difference", "ci_low", "ci_high")]
    difference, low, high = found
    if difference is None or low is None or high is None:
        return None
    metric = str(primary.get("metric"))
    scale, unit = words.plot_scale(metric)
    text = f"{words.metric_difference(metric, difference)} ({words.interval(metric, low, high)})"
    minimum = number(contents.value("evaluate.minimum_difference"))
    if minimum is None:
        minimum = number(contents.plan.get("minimum_difference")) or 0.0
    svg = plots.effect_plot(
        difference * scale,
        low * scale,
        high * scale,
        unit=unit,
        text=text,
        higher_is_better=bool(primary.get("higher_is_better", True)),
        minimum=minimum * scale,
    )
    caption = (
        f"The dot is the measured difference in {words.metric_title(metric)}, the bar its "
        f"{words.percent(primary.get('confidence'))} interval. The dashed line is zero: the two "
        "models equally good. The shaded side is where the tuned model is better."
    )
    if minimum > 0:
        caption += " The dotted line is the smallest difference that the plan calls meaningful."
    return Figure(svg, caption, "verdict.json › primary")


def alpha_of(contents: Contents) -> float:
    """The level at which the primary comparison was tested."""
    confidence = number(mapping(contents.verdict.get("primary")).get("confidence"))
    return 0.05 if confidence is None else round(1.0 - confidence, 12)


def paired_rows(contents: Contents) -> Figure | None:
    """Row by row: who is right, or how the difference is spread."""
    base, tuned = (contents.answers.get(arm, {}) for arm in ("base", "tuned"))
    found = row_grades(contents, [row_id for row_id in base if row_id in tuned])
    if found is None:
        return None
    metric, higher_is_better, grades = found
    title = words.metric_title(metric)
    source = (
        f"evaluation/grades.jsonl › {metric}"
        if metric in contents.grades
        else "evaluation/predictions.*.jsonl"
    )
    if {value for pair in grades.values() for value in pair} <= {0.0, 1.0}:
        return _outcomes(contents, metric, grades, source)
    scale, unit = words.plot_scale(metric)
    differences = [scale * (after - before) for before, after in grades.values()]
    primary = mapping(contents.verdict.get("primary"))
    ends = [number(primary.get(key)) for key in ("difference", "ci_low", "ci_high")]
    shown = None
    if primary.get("metric") == metric and all(end is not None for end in ends):
        shown = tuple(scale * (end or 0.0) for end in ends)
    svg = row_plots.difference_plot(
        differences,
        label=f"{title}, tuned {MINUS} base" + (f" ({unit})" if unit else ""),
        higher_is_better=higher_is_better,
        interval=None if shown is None else (shown[0], shown[1], shown[2]),
    )
    caption = (
        f"Difference in {title} on each of {len(grades):,} rows, both models on the same row; the "
        "most extreme 1 % is counted in the last bars, rows without a difference are not drawn."
    )
    if shown is not None:
        caption += " The line is the difference that the verdict rests on, the band its interval."
    return Figure(svg, caption, source)


def _outcomes(
    contents: Contents, metric: str, grades: Mapping[str, tuple[float, float]], source: str
) -> Figure:
    pairs = list(grades.values())
    counts = {
        "both right": sum(a == 1.0 == b for a, b in pairs),
        "only tuned right": sum(a < b for a, b in pairs),
        "only base right": sum(a > b for a, b in pairs),
        "both wrong": sum(a == 0.0 == b for a, b in pairs),
    }
    decisive = counts["only tuned right"] + counts["only base right"]
    total = len(pairs) or 1
    caption = (
        f"All {len(pairs):,} rows by {words.metric_title(metric)}. Exactly one of the two models "
        f"is right on {decisive:,} rows ({100 * decisive / total:.1f} %, the discordant rows): "
        "only these decide between them."
    )
    planned = number(mapping(contents.verdict.get("power")).get("discordance"))
    if planned is not None:
        caption += f" The plan assumed {words.percent(planned)}."
    table = Table(
        "Rows by who is right",
        ("outcome", "rows"),
        [(name, f"{rows:,}") for name, rows in counts.items()],
        frozenset({1}),
        is_compact=True,
    )
    return Figure(row_plots.outcome_plot(counts), caption, source, table)


def slices(contents: Contents) -> Slices | None:
    """Parts of the holdout in a forest plot, the ones that got worse first and by name."""
    primary = mapping(contents.verdict.get("primary"))
    found = objects(mapping(contents.verdict.get("extra")).get("slices"))
    found = [item for item in found if number(item.get("difference")) is not None]
    if not found or not primary:
        return None
    metric = str(primary.get("metric"))
    higher_is_better = bool(primary.get("higher_is_better", True))
    scale, unit = words.plot_scale(metric)
    lines = [_forest_row("all rows", primary, scale, "primary")]
    lines += [_forest_row(_slice_name(item), item, scale, _tone(item)) for item in _drawn(found)]
    worse = [item for item in found if item.get("worse") is True]
    better = sum(item.get("better") is True for item in found)
    svg = forest_plot(
        lines,
        label=f"difference, tuned {MINUS} base" + (f" ({unit})" if unit else ""),
        sides=_sides(higher_is_better),
        spoken=f"Difference in {words.metric_title(metric)} on {len(found)} parts of the holdout: "
        f"{len(worse)} got worse, {better} better, {len(found) - len(worse) - better} are open",
    )
    level = words.percent(primary.get("confidence"))
    caption = (
        f"Exploratory: the parts were not chosen before training. Points with {level} intervals, "
        "which are not corrected; a part is called worse (▼) or better (▲) only by its p-value "
        "after the correction of Benjamini and Hochberg over all parts."
    )
    if len(found) > MOST_DRAWN:
        caption += f" Drawn are {MOST_DRAWN} of {len(found):,}: the named ones, then the extremes."
    columns = ("part", "value", "rows", "base", "tuned", "difference", "interval", "p adjusted", "")
    rows = [
        (
            cell(item.get("kind")),
            cell(item.get("value"), 80),
            words.count(item.get("n")),
            words.metric_value(metric, item.get("base")),
            words.metric_value(metric, item.get("tuned")),
            words.metric_difference(metric, item.get("difference")),
            words.interval(metric, item.get("ci_low"), item.get("ci_high")),
            words.p_value(item.get("p_adjusted")),
            {"worse": "▼ worse", "better": "▲ better"}.get(_tone(item), "open"),
        )
        for item in found
    ]
    source = "verdict.json › extra.slices"
    numeric = frozenset(range(2, 8))
    columns = (*columns[:-1], "outcome")
    return Slices(
        Figure(svg, caption, source),
        Table("All parts of the holdout, exploratory", columns, rows, numeric, source=source),
        sentences.slice_sentence(worse, metric, len(found)),
        len(found),
    )


def _drawn(found: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The named slices and the extremes of the others, in the order of the verdict."""
    if len(found) <= MOST_DRAWN:
        return list(found)
    named = [place for place, item in enumerate(found) if _tone(item) != "open"][:MOST_DRAWN]
    rest = [place for place in range(len(found)) if place not in set(named)]
    room = MOST_DRAWN - len(named)
    ends = rest[: (room + 1) // 2] + (rest[-(room // 2) :] if room > 1 else [])
    return [found[place] for place in sorted({*named, *ends})]


def _slice_name(item: Mapping[str, Any]) -> str:
    value = plain(item.get("value"))
    value = value if len(value) <= 20 else f"{value[:17]}..."
    return f"{value} ({words.count(item.get('n'))})"


def _tone(item: Mapping[str, Any]) -> str:
    return (
        "worse" if item.get("worse") is True else "better" if item.get("better") is True else "open"
    )


def _forest_row(name: str, item: Mapping[str, Any], scale: float, tone: str) -> ForestRow:
    low, high = number(item.get("ci_low")), number(item.get("ci_high"))
    return ForestRow(
        name,
        scale * (number(item.get("difference")) or 0.0),
        None if low is None else scale * low,
        None if high is None else scale * high,
        tone,
    )


def _sides(higher_is_better: bool) -> tuple[str, str]:
    sides = ("worse", "better")
    return sides if higher_is_better else (sides[1], sides[0])


def twins(contents: Contents) -> Twins | None:
    """The primary comparison with and without rows that a training row tells about."""
    verdict = contents.verdict
    primary = mapping(verdict.get("primary"))
    other = mapping(mapping(verdict.get("extra")).get("without_train_twins"))
    if not primary or not other:
        return None
    metric = str(primary.get("metric"))
    rows = [
        (
            name,
            words.count(item.get("n")),
            words.metric_value(metric, item.get("base")),
            words.metric_value(metric, item.get("tuned")),
            words.metric_difference(metric, item.get("difference")),
            words.interval(metric, item.get("ci_low"), item.get("ci_high")),
            words.p_value(item.get("p_value")),
        )
        for name, item in (("all rows", primary), ("without twins", other))
    ]
    columns = ("rows", "n", "base", "tuned", "difference", "interval", "p")
    return Twins(
        Table(
            "With and without holdout rows that have a twin among the training rows",
            columns,
            rows,
            frozenset(range(1, 7)),
            source="verdict.json › extra.without_train_twins",
        ),
        sentences.twins_change(verdict, alpha_of(contents)),
    )
