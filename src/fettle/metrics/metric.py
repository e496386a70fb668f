"""What a metric is: sums over rows, and a value from the sums.

Every metric is written as sufficient statistics per row that add up over rows, and a score of the
sums. So one implementation serves the value on a holdout, each of 10,000 resamples of it, and the
swapped arms of a randomization test.

In: nothing. Out: the ``Metric`` type. Must not know: which metrics exist, how arms are compared.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fettle.errors import DataError
from fettle.records.outcomes import Prediction
from fettle.statistics.resampling import FloatArray, Score

Sums = Callable[[Sequence[Sequence[Prediction]]], list[FloatArray]]
"""Arms on the same rows -> per arm [N, K] statistics, with columns of one meaning for all arms."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric with its settings."""

    name: str
    """With parameters as the user gave them: "bleu:tokenize=none"."""
    higher_is_better: bool
    kind: Literal["row", "ratio", "corpus"]
    """row: mean of per_row. ratio: sum of a row's first column over sum of its second. corpus: no
    mean of rows gives it."""
    needs: Literal["prediction", "number", "label set", "loss", "score"]
    """What a row must bring: number and label set are predictions that hold such."""
    unit: Literal["share", "points", "nats", "number"]
    """share: 0 to 1, shown as per cent. points: 0 to 100."""
    span: float | None
    """Largest possible difference; None when there is no bound."""
    source: str
    """Library and version that computes it."""
    settings: str
    sums: Sums
    score: Score
    per_row: Callable[[Prediction], float] | None = None
    """The value of one row, where that means something."""

    def signature(self) -> str:
        """Name, origin and settings: all that is needed to compute it again."""
        return "|".join(part for part in (self.name, self.source, self.settings) if part)

    def covers(self, prediction: Prediction) -> bool:
        """Whether the row brings what the metric needs (a NaN counts as brought)."""
        if self.needs == "loss":
            return prediction.loss_sum is not None and prediction.num_targets is not None
        if self.needs == "score":
            return prediction.score is not None
        return prediction.prediction is not None

    def is_finite(self, prediction: Prediction) -> bool:
        """Whether the number that the row brings is one."""
        value = prediction.loss_sum if self.needs == "loss" else None
        value = prediction.score if self.needs == "score" else value
        if self.needs == "number" and prediction.prediction is not None:
            return _is_finite(prediction.prediction)
        return value is None or math.isfinite(value)


def row_metric(
    name: str,
    per_row: Callable[[Prediction], float],
    *,
    higher_is_better: bool = True,
    needs: Literal["prediction", "number", "label set", "score"] = "prediction",
    unit: Literal["share", "points", "number"] = "share",
    span: float | None = 1.0,
    source: str = "fettle",
    settings: str = "",
) -> Metric:
    """A metric that is the mean of its rows' values.

    Args:
        name: as the user writes it, with parameters.
        per_row: the value of one row.
        higher_is_better: direction.
        needs: what a row must bring.
        unit: how values are shown.
        span: largest possible difference of two values.
        source: library and version.
        settings: for the signature.

    Returns:
        The metric; its columns are value and row count.
    """

    def sums(arms: Sequence[Sequence[Prediction]]) -> list[FloatArray]:
        return [np.array([[per_row(row), 1.0] for row in arm]).reshape(-1, 2) for arm in arms]

    return Metric(
        name=name,
        higher_is_better=higher_is_better,
        kind="row",
        needs=needs,
        unit=unit,
        span=span,
        source=source,
        settings=settings,
        sums=sums,
        score=ratio_score,
        per_row=per_row,
    )


def _is_finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def ratio_score(sums: FloatArray) -> FloatArray:
    """First column over second."""
    value: FloatArray = sums[..., 0] / sums[..., 1]
    return value


def text_of(prediction: Prediction) -> str:
    """The answer; rows without one must be left out before."""
    if prediction.prediction is None:
        raise ValueError(f"row {prediction.row_id} has no prediction")
    return prediction.prediction


def references_of(prediction: Prediction) -> tuple[str, ...]:
    """All accepted answers."""
    reference = prediction.reference
    return (reference,) if isinstance(reference, str) else reference


def single_reference(prediction: Prediction, metric: str) -> str:
    """The one accepted label.

    Raises:
        DataError: E1006, several references where the metric counts classes.
    """
    references = references_of(prediction)
    if len(references) != 1:
        raise DataError(
            "E1006",
            f"{metric} needs one reference per row, row {prediction.row_id} has {len(references)}",
            hint="give one reference per row, or use --metric accuracy",
        )
    return references[0]


def metric_value(metric: Metric, predictions: Sequence[Prediction]) -> float:
    """The metric of one arm over all its rows."""
    (sums,) = metric.sums([predictions])
    return float(metric.score(sums.sum(axis=0)))
