"""Grades: one metric on one row of one arm, for the table of best and worst rows.

In: predictions and metrics. Out: ``Grade`` records (evaluation/grades.jsonl).
Must not know: tests, verdicts.
"""

from collections.abc import Iterator, Mapping, Sequence

from fettle.metrics.metric import Metric, references_of
from fettle.records.outcomes import Grade, Prediction

SHOWN = 80
"""Characters of a reference in a reason."""


def grade(rows: Sequence[Prediction], arm: str, metrics: Sequence[Metric]) -> Iterator[Grade]:
    """Grade every row that a metric covers; metrics without a value per row give none.

    Args:
        rows: one arm's predictions.
        arm: "base", "tuned" or a baseline's name.
        metrics: what is measured.

    Returns:
        Grades, metric by metric, in row order.
    """
    for metric in metrics:
        if metric.per_row is None:
            continue
        for row in rows:
            if metric.covers(row) and metric.is_finite(row):
                value = metric.per_row(row)
                yield Grade(row.row_id, arm, metric.name, value, _reason(metric, row, value))


def grades_of_arms(
    arms: Mapping[str, Sequence[Prediction]], metrics: Sequence[Metric]
) -> list[Grade]:
    """Grades of several arms, as grades.jsonl holds them.

    Args:
        arms: name to predictions.
        metrics: what is measured.

    Returns:
        All grades, arm by arm.
    """
    return [found for arm, rows in arms.items() for found in grade(rows, arm, metrics)]


def _reason(metric: Metric, row: Prediction, value: float) -> str:
    said = metric.reason(row)
    if said or metric.unit != "share" or value > 0.0:
        return said
    expected = " or ".join(repr(reference) for reference in references_of(row))
    return f"expected {expected if len(expected) <= SHOWN else expected[: SHOWN - 1] + '…'}"
