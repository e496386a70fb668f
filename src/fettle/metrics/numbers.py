"""Metrics of predicted numbers: mean absolute error, root mean squared error, correlations.

In: predictions whose ``prediction`` and ``reference`` are numbers as text. Out: metrics. Must not
know: models, units.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from fettle.errors import DataError
from fettle.metrics.metric import Metric, Sums, ratio_score, row_metric, single_reference, text_of
from fettle.records.outcomes import Prediction
from fettle.statistics.resampling import FloatArray, Score


def mae() -> Metric:
    """Mean absolute error, in the unit of the data."""
    return row_metric(
        "mae",
        lambda row: abs(predicted(row) - referred(row)),
        higher_is_better=False,
        needs="number",
        unit="number",
        span=None,
    )


def rmse() -> Metric:
    """Square root of the mean squared error, in the unit of the data: large errors weigh more."""

    def sums(arms: Sequence[Sequence[Prediction]]) -> list[FloatArray]:
        return [
            np.array([[(predicted(row) - referred(row)) ** 2, 1.0] for row in arm]).reshape(-1, 2)
            for arm in arms
        ]

    def score(total: FloatArray) -> FloatArray:
        value: FloatArray = np.sqrt(ratio_score(total))
        return value

    return _corpus("rmse", False, None, "", sums, score)


def pearson() -> Metric:
    """Pearson's correlation of predictions and references; 0 where one of them never varies."""

    def sums(arms: Sequence[Sequence[Prediction]]) -> list[FloatArray]:
        return _products(
            [np.array([predicted(row) for row in arm]) for arm in arms],
            [np.array([referred(row) for row in arm]) for arm in arms],
        )

    return _corpus("pearson", True, 2.0, "", sums, _correlation)


def spearman() -> Metric:
    """Spearman's rank correlation: Pearson's of the ranks, ties at their mean rank.

    Ranks are those among all rows of an arm, in every resample as well: what a resample would rank
    anew, keeps its place.
    """

    def sums(arms: Sequence[Sequence[Prediction]]) -> list[FloatArray]:
        return _products(
            [rankdata([predicted(row) for row in arm]) for arm in arms],
            [rankdata([referred(row) for row in arm]) for arm in arms],
        )

    return _corpus("spearman", True, 2.0, "ranks:among all rows", sums, _correlation)


def predicted(row: Prediction) -> float:
    """The number in a prediction.

    Raises:
        DataError: E1008, it is none.
    """
    return _number(text_of(row), "prediction", row)


def referred(row: Prediction) -> float:
    """The number in a reference.

    Raises:
        DataError: E1006 several references, E1008 it is no number.
    """
    return _number(single_reference(row, "a metric of numbers"), "reference", row)


def _number(text: str, what: str, row: Prediction) -> float:
    try:
        return float(text)
    except ValueError:
        raise DataError(
            "E1008",
            f"the {what} of row {row.row_id} is {text[:40]!r}, which is no number",
            hint="use a metric of labels or texts, such as --metric exact_match",
        ) from None


def _corpus(
    name: str,
    higher_is_better: bool,
    span: float | None,
    settings: str,
    sums: Sums,
    score: Score,
) -> Metric:
    return Metric(
        name=name,
        higher_is_better=higher_is_better,
        kind="corpus",
        needs="number",
        unit="number",
        span=span,
        source="fettle",
        settings=settings,
        sums=sums,
        score=score,
    )


def _products(
    predictions: Sequence[FloatArray], references: Sequence[FloatArray]
) -> list[FloatArray]:
    """Per arm [N, 6]: what a correlation is made of, in columns that add up.

    All arms are standardised together first: squares of large numbers with a small spread would
    lose it, and rows that a randomization test swaps must count in one unit.
    """
    scaled = zip(_standardised(predictions), _standardised(references), strict=True)
    return [
        np.column_stack([x, y, x * x, y * y, x * y, np.ones(len(x))]).reshape(-1, 6)
        for x, y in scaled
    ]


def _standardised(arms: Sequence[FloatArray]) -> list[FloatArray]:
    together = np.concatenate([np.asarray(arm, dtype=np.float64) for arm in arms])
    if not len(together):
        return [np.zeros(0) for _ in arms]
    mean, spread = float(np.mean(together)), float(np.std(together))
    return [(np.asarray(arm) - mean) / (spread if spread > 0 else 1.0) for arm in arms]


def _correlation(sums: FloatArray) -> FloatArray:
    x, y, xx, yy, xy, n = np.moveaxis(sums, -1, 0)
    vary_x, vary_y = n * xx - x * x, n * yy - y * y
    # What rounding leaves of a constant is no variation.
    flat = (vary_x <= 1e-9 * n * xx) | (vary_y <= 1e-9 * n * yy)
    size = np.sqrt(np.where(flat, 1.0, vary_x) * np.where(flat, 1.0, vary_y))
    value: FloatArray = np.where(flat, 0.0, (n * xy - x * y) / size)
    return np.clip(value, -1.0, 1.0)
