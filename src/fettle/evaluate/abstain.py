"""When to say nothing: a threshold of confidence, chosen on validation, judged on the holdout.

A classifier that abstains on rows below the threshold is right more often on the rest. Rows that
belong to no known label ("out of scope") are the sharpest case: abstaining is the right answer
there, and any label is wrong.

In: predictions with probabilities or confidences. Out: an ``Abstention``. Must not know: models,
verdicts.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fettle.metrics.auroc import placements
from fettle.metrics.metric import references_of
from fettle.metrics.probability import is_right
from fettle.records.outcomes import Prediction, confidence_of
from fettle.statistics.resampling import BoolArray, FloatArray
from fettle.statistics.single import wilson_interval

POINTS = 101
"""Most points of a curve."""
LIFT = 0.5
"""Without a target: the accuracy to reach takes away this share of the errors."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Answering the rows at or above a threshold."""

    threshold: float
    coverage: float
    """Share of rows answered."""
    accuracy: float
    """Of the rows answered."""


@dataclass(frozen=True, slots=True)
class OutOfScope:
    """Rows that belong to no known label."""

    rows: int
    abstained: int
    """Kept from a wrong answer by the threshold, or told apart as such by their own label."""
    auroc: float | None
    """How well confidence tells rows in scope from these; None where one kind is missing."""


@dataclass(frozen=True, slots=True)
class Abstention:
    """What a threshold of confidence does, on rows that had no part in choosing it."""

    threshold: float | None
    """None where no threshold reached the target on validation."""
    target_accuracy: float
    validation_rows: int
    rows: int
    """Of the holdout, with a confidence."""
    without_confidence: int
    answered: int
    coverage: float
    accuracy: float | None
    """Of the answered rows; None where there are none."""
    ci_low: float | None
    """Wilson interval of that accuracy."""
    ci_high: float | None
    accuracy_of_all: float
    """Answering every row."""
    area: float
    """Mean error over all coverages of the holdout (area under risk and coverage): less is better;
    it judges the order of confidences, whatever the threshold."""
    curve: tuple[CurvePoint, ...]
    out_of_scope: OutOfScope | None

    def to_json(self) -> dict[str, Any]:
        """For verdict.json's ``extra``."""
        return asdict(self)


def abstain(
    validation: Sequence[Prediction],
    holdout: Sequence[Prediction],
    *,
    target_accuracy: float | None = None,
    out_of_scope: Collection[str] = ("oos",),
    confidence: float = 0.95,
) -> Abstention | None:
    """Choose a threshold on validation rows and say what it does to the holdout.

    Args:
        validation: rows that chose everything else too; the threshold is the lowest at which the
            accuracy of the answered rows reaches the target.
        holdout: the rows that are judged.
        target_accuracy: of the answered rows; None takes what halves the errors on validation.
        out_of_scope: references that mean "none of the labels"; a row with one is right when it is
            not answered, or answered with that very label.
        confidence: level of the interval.

    Returns:
        None where either side has no row with a prediction and a confidence.

    Source: El-Yaniv and Wiener 2010 (risk and coverage); Geifman and El-Yaniv 2017 (the area).
    """
    chosen, judged = _known(validation), _known(holdout)
    if not chosen or not judged:
        return None
    sure, right = _figures(chosen)
    target = (
        1.0 - (1.0 - float(right.mean())) * LIFT if target_accuracy is None else target_accuracy
    )
    threshold = lowest_threshold(sure, right, target)
    sure, right = _figures(judged)
    answered = sure >= threshold if threshold is not None else np.zeros(len(sure), dtype=bool)
    number, good = int(answered.sum()), int(right[answered].sum())
    low, high = wilson_interval(good, number, confidence) if number else (None, None)
    return Abstention(
        threshold=threshold,
        target_accuracy=target,
        validation_rows=len(chosen),
        rows=len(judged),
        without_confidence=len(holdout) - len(judged),
        answered=number,
        coverage=number / len(judged),
        accuracy=good / number if number else None,
        ci_low=low,
        ci_high=high,
        accuracy_of_all=float(right.mean()),
        area=area_under_risk(sure, right),
        curve=coverage_curve(sure, right),
        out_of_scope=_scope(judged, sure, answered, set(out_of_scope)),
    )


def lowest_threshold(sure: FloatArray, right: BoolArray, target: float) -> float | None:
    """The lowest confidence at which the rows at or above it are right often enough.

    Args:
        sure: [N] confidences.
        right: [N] whether the prediction is right.
        target: accuracy of the answered rows.

    Returns:
        A confidence that occurs; None where no threshold reaches the target.
    """
    order = np.argsort(-sure, kind="stable")
    ends = _ends_of_ties(sure[order])
    accuracy = np.cumsum(right[order])[ends] / (ends + 1)
    reached = np.flatnonzero(accuracy >= target - 1e-12)
    return float(sure[order][ends[reached[-1]]]) if len(reached) else None


def coverage_curve(sure: FloatArray, right: BoolArray) -> tuple[CurvePoint, ...]:
    """Accuracy at growing coverage: rows of equal confidence are answered together.

    Args:
        sure: [N] confidences, N > 0.
        right: [N] whether the prediction is right.

    Returns:
        At most ``POINTS`` points, from the surest rows to all of them.
    """
    order = np.argsort(-sure, kind="stable")
    ends = _ends_of_ties(sure[order])
    if len(ends) > POINTS:
        ends = ends[np.unique(np.linspace(0, len(ends) - 1, POINTS).round().astype(int))]
    hits = np.cumsum(right[order])
    return tuple(
        CurvePoint(
            float(sure[order][end]),
            float((end + 1) / len(sure)),
            float(hits[end] / (end + 1)),
        )
        for end in ends
    )


def area_under_risk(sure: FloatArray, right: BoolArray) -> float:
    """Mean error of the k surest rows over all k; among ties every order counts alike.

    Args:
        sure: [N] confidences, N > 0.
        right: [N] whether the prediction is right.
    """
    order = np.argsort(-sure, kind="stable")
    wrong = (~right[order]).astype(np.float64)
    ends = _ends_of_ties(sure[order])
    starts = np.concatenate([[0], ends[:-1] + 1])
    sizes = ends - starts + 1
    means = np.add.reduceat(wrong, starts) / sizes
    risk = np.cumsum(np.repeat(means, sizes)) / np.arange(1, len(sure) + 1)
    return float(risk.mean())


def _ends_of_ties(ordered: FloatArray) -> Any:
    """Index of the last row of each run of equal confidences."""
    return np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))


def _known(rows: Sequence[Prediction]) -> list[Prediction]:
    """Rows with a prediction and a confidence from 0 to 1."""
    return [row for row in rows if 0.0 <= _sure(row) <= 1.0]


def _sure(row: Prediction) -> float:
    found = None if row.prediction is None else confidence_of(row)
    return float("nan") if found is None else found


def _figures(rows: Sequence[Prediction]) -> tuple[FloatArray, BoolArray]:
    sure = np.array([_sure(row) for row in rows])
    return sure, np.array([is_right(row) for row in rows], dtype=bool)


def _scope(
    rows: Sequence[Prediction], sure: FloatArray, answered: BoolArray, labels: set[str]
) -> OutOfScope | None:
    outside = np.array([not labels.isdisjoint(references_of(row)) for row in rows])
    number = int(outside.sum())
    if not number:
        return None
    told = np.array([row.prediction in labels for row in rows])
    area = None
    if number < len(rows):
        # Confidence that a row is in scope: none where the model says that it is not.
        inside = np.where(told, -sure, sure)
        area = placements(inside, ~outside)[1]
    return OutOfScope(number, int((outside & (~answered | told)).sum()), area)
