"""Quality class by class, and which classes are taken for which.

In: the verdict's extra tables. Out: ``Classes``. Must not know: HTML.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fettle.report import row_plots, words
from fettle.report.contents import Contents, mapping, number, objects
from fettle.report.drawing import MINUS
from fettle.report.tables import Figure, Table, cell
from fettle.report.words import plain
from fettle.statistics.single import wilson_interval

FEW_CLASSES = 12
"""Up to this many, the confusion is a table with names; above, a heat map with numbers."""
NUM_CONFUSIONS = 15
PER_CLASS, CONFUSION = "verdict.json › extra.per_class", "verdict.json › extra.confusion"


@dataclass(frozen=True, slots=True)
class Matrix:
    """A small confusion matrix with names."""

    labels: Sequence[str]
    rows: Sequence[Sequence[tuple[str, float]]]
    """("base → tuned" in rows, share of the true class in the tuned model) a cell."""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Classes:
    """Per-class quality."""

    table: Table
    weakest: Table | None
    confusions: Table | None
    matrix: Matrix | None
    figure: Figure | None
    change: Figure | None
    """From base to tuned."""


def classes(contents: Contents) -> Classes | None:
    """Per-class table and confusion, from the verdict's extra tables."""
    extra = mapping(contents.verdict.get("extra"))
    found = objects(extra.get("per_class"))
    confusion = mapping(extra.get("confusion"))
    labels = [plain(label) for label in confusion.get("labels") or ()]
    matrix = _square(confusion.get("tuned"), len(labels))
    before = _square(confusion.get("base"), len(labels))
    if not found and not matrix:
        return None
    numbers = {label: place for place, label in enumerate(labels, start=1)}
    named = {
        label: sum(row[place] for row in matrix) for place, label in enumerate(labels) if matrix
    }
    columns = ("class", "#", "rows", "base F1", "tuned F1", "change", "precision", "recall")
    rows, scores = [], []
    for place, item in enumerate(found, start=1):
        base, tuned = mapping(item.get("base")), mapping(item.get("tuned"))
        label = plain(item.get("label"))
        base_f1, tuned_f1 = number(base.get("f1")), number(tuned.get("f1"))
        both = base_f1 is not None and tuned_f1 is not None
        change = (tuned_f1 or 0.0) - (base_f1 or 0.0) if both else None
        rows.append(
            (
                cell(label, 80),
                str(numbers.get(label, place)),
                words.count(item.get("support")),
                words.metric_value(words.CLASS_METRIC, base_f1),
                words.metric_value(words.CLASS_METRIC, tuned_f1),
                words.metric_difference(words.CLASS_METRIC, change),
                _with_interval(tuned.get("precision"), named.get(label)),
                _with_interval(tuned.get("recall"), item.get("support")),
            )
        )
        scores.append(tuned_f1 if tuned_f1 is not None else 2.0)
    numeric = frozenset(range(1, len(columns)))
    weakest = None
    if len(rows) > FEW_CLASSES:
        order = sorted(range(len(rows)), key=scores.__getitem__)[:10]
        weakest = Table(
            "The ten weakest classes of the tuned model",
            columns,
            [rows[i] for i in order],
            numeric,
            source=PER_CLASS,
        )
    few = 0 < len(matrix) <= FEW_CLASSES
    caption = "All classes (precision and recall: tuned model, with 95 % intervals)"
    return Classes(
        table=Table(caption, columns, rows, numeric, source=PER_CLASS),
        weakest=weakest,
        confusions=_confusions(labels, before, matrix),
        matrix=_named_matrix(labels, before, matrix) if few else None,
        figure=_heat_map(matrix) if matrix and not few else None,
        change=_change(before, matrix) if before and matrix and not few else None,
    )


def _heat_map(matrix: Sequence[Sequence[float]]) -> Figure:
    return Figure(
        row_plots.confusion_plot(matrix),
        "Confusion of the tuned model. Down: the true class; across: the predicted class; the "
        "stronger the colour, the larger the share of the true class. Right answers lie on the "
        "diagonal.",
        CONFUSION,
    )


def _change(before: Sequence[Sequence[float]], matrix: Sequence[Sequence[float]]) -> Figure:
    return Figure(
        row_plots.change_plot(before, matrix),
        "What changed from base to tuned. Discs: more right answers on the diagonal, fewer of a "
        "confusion beside it; crosses: the other way round. The area is the number of rows.",
        CONFUSION,
    )


def _with_interval(share: Any, n: Any) -> str:
    """A share of so many rows with its Wilson interval."""
    value, rows = number(share), number(n)
    shown = words.metric_value("accuracy", value)
    if value is None or not rows:
        return shown
    low, high = wilson_interval(min(rows, max(0.0, value * rows)), rows)
    return f"{shown} ({100 * low:.0f} to {100 * high:.0f})"


def _square(matrix: Any, num_classes: int) -> list[list[float]]:
    """The matrix when it has one row and column a label, else nothing."""
    if not isinstance(matrix, list) or len(matrix) != num_classes:
        return []
    rows = [
        [number(value) or 0.0 for value in row] if isinstance(row, list) else [] for row in matrix
    ]
    return rows if all(len(row) == num_classes for row in rows) else []


def _named_matrix(
    labels: Sequence[str],
    before: Sequence[Sequence[float]],
    matrix: Sequence[Sequence[float]],
) -> Matrix:
    def shown(true: int, predicted: int, value: float) -> str:
        was = before[true][predicted] if before else value
        return f"{value:,.0f}" if was == value else f"{was:,.0f} → {value:,.0f}"

    return Matrix(
        [cell(label, 40) for label in labels],
        [
            [
                (shown(true, predicted, value), value / (sum(row) or 1))
                for predicted, value in enumerate(row)
            ]
            for true, row in enumerate(matrix)
        ],
        CONFUSION,
    )


def _confusions(
    labels: Sequence[str],
    before: Sequence[Sequence[float]],
    matrix: Sequence[Sequence[float]],
) -> Table | None:
    """The confusions of either model with the most rows, and by how much they changed."""
    mistakes = []
    for true, row in enumerate(matrix):
        for predicted, value in enumerate(row):
            was = before[true][predicted] if before else 0.0
            if true != predicted and (value > 0 or was > 0):
                mistakes.append((max(value, was), value, was, true, predicted))
    if not mistakes:
        return None
    mistakes.sort(key=lambda item: (-item[0], -item[1], item[3], item[4]))
    rows = [
        (
            cell(labels[true], 80),
            cell(labels[predicted], 80),
            f"{was:,.0f}" if before else "–",
            f"{value:,.0f}",
            _signed(value - was) if before else "–",
            f"{sum(matrix[true]):,.0f}",
        )
        for _, value, was, true, predicted in mistakes[:NUM_CONFUSIONS]
    ]
    return Table(
        "Most frequent confusions of either model",
        ("true class", "predicted as", "base", "tuned", "change", "of rows"),
        rows,
        numeric=frozenset({2, 3, 4, 5}),
        source=CONFUSION,
    )


def _signed(change: float) -> str:
    return f"{change:+,.0f}".replace("-", MINUS) if change else "0"
