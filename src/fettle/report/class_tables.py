"""Quality class by class, and which classes are taken for which.

In: the verdict's extra tables. Out: ``Classes``. Must not know: HTML.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fettle.report import plots, words
from fettle.report.contents import Contents, mapping, number, objects
from fettle.report.tables import Figure, Table, cell
from fettle.report.words import plain

FEW_CLASSES = 12
"""Up to this many, the confusion is a table with names; above, a heat map with numbers."""
NUM_CONFUSIONS = 15


@dataclass(frozen=True, slots=True)
class Matrix:
    """A small confusion matrix with names."""

    labels: Sequence[str]
    rows: Sequence[Sequence[tuple[str, float]]]
    """(count, share of the true class) a cell."""


@dataclass(frozen=True, slots=True)
class Classes:
    """Per-class quality."""

    table: Table
    weakest: Table | None
    confusions: Table | None
    matrix: Matrix | None
    figure: Figure | None
    discordant: str


def classes(contents: Contents) -> Classes | None:
    """Per-class table and confusion, from the verdict's extra tables."""
    extra = mapping(contents.verdict.get("extra"))
    found = objects(extra.get("per_class"))
    confusion = mapping(extra.get("confusion"))
    labels = [plain(label) for label in confusion.get("labels") or ()]
    matrix = _square(confusion.get("tuned"), len(labels))
    if not found and not matrix:
        return None
    numbers = {label: place for place, label in enumerate(labels, start=1)}
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
                words.metric_value(words.CLASS_METRIC, tuned.get("precision")),
                words.metric_value(words.CLASS_METRIC, tuned.get("recall")),
            )
        )
        scores.append(tuned_f1 if tuned_f1 is not None else 2.0)
    numeric = frozenset(range(1, len(columns)))
    weakest = None
    if len(rows) > FEW_CLASSES:
        order = sorted(range(len(rows)), key=scores.__getitem__)[:10]
        weakest = Table(
            "The ten weakest classes of the tuned model", columns, [rows[i] for i in order], numeric
        )
    few = 0 < len(matrix) <= FEW_CLASSES
    return Classes(
        table=Table("All classes (precision and recall: tuned model)", columns, rows, numeric),
        weakest=weakest,
        confusions=_confusions(labels, matrix),
        matrix=_named_matrix(labels, matrix) if few else None,
        figure=Figure(
            plots.confusion_plot(matrix),
            "Confusion of the tuned model. Down: the true class; across: the predicted class; the "
            "stronger the colour, the larger the share of the true class. Right answers lie on the "
            "diagonal.",
        )
        if matrix and not few
        else None,
        discordant=_discordant(mapping(extra.get("discordant"))),
    )


def _square(matrix: Any, num_classes: int) -> list[list[float]]:
    """The matrix when it has one row and column a label, else nothing."""
    if not isinstance(matrix, list) or len(matrix) != num_classes:
        return []
    rows = [
        [number(value) or 0.0 for value in row] if isinstance(row, list) else [] for row in matrix
    ]
    return rows if all(len(row) == num_classes for row in rows) else []


def _named_matrix(labels: Sequence[str], matrix: Sequence[Sequence[float]]) -> Matrix:
    return Matrix(
        [cell(label, 40) for label in labels],
        [[(f"{value:,.0f}", value / (sum(row) or 1)) for value in row] for row in matrix],
    )


def _confusions(labels: Sequence[str], matrix: Sequence[Sequence[float]]) -> Table | None:
    mistakes = [
        (value, true, predicted)
        for true, row in enumerate(matrix)
        for predicted, value in enumerate(row)
        if value > 0 and true != predicted
    ]
    if not mistakes:
        return None
    mistakes.sort(key=lambda item: (-item[0], item[1], item[2]))
    rows = [
        (
            cell(labels[true], 80),
            cell(labels[predicted], 80),
            f"{value:,.0f}",
            f"{sum(matrix[true]):,.0f}",
        )
        for value, true, predicted in mistakes[:NUM_CONFUSIONS]
    ]
    return Table(
        "Most frequent confusions of the tuned model",
        ("true class", "predicted as", "times", "of rows"),
        rows,
        numeric=frozenset({2, 3}),
    )


def _discordant(counts: Mapping[str, Any]) -> str:
    """McNemar's b and c: only these rows decide the test."""
    base_only, tuned_only = number(counts.get("base_only")), number(counts.get("tuned_only"))
    if base_only is None or tuned_only is None:
        return ""
    return (
        f"Exactly one of the two models is right on {base_only + tuned_only:,.0f} rows: the base "
        f"alone on {base_only:,.0f}, the tuned model alone on {tuned_only:,.0f}. Only these rows "
        "decide between them."
    )
