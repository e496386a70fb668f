"""What a metric is: sums over rows, and a value from the sums.

Every metric is written as sufficient statistics per row that add up over rows, and a score of the
sums. So one implementation serves the value on a holdout, each of 10,000 resamples of it, and the
swapped arms of a randomization test.

In: nothing. Out: the ``Metric`` type. Must not know: which metrics exist, how arms are compared.
"""

import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from fettle.errors import DataError
from fettle.records.outcomes import Prediction, confidence_of
from fettle.statistics.resampling import FloatArray, Score

Needs = Literal[
    "prediction", "number", "label set", "loss", "score", "probabilities", "confidence", "grade"
]
Also = Literal["input", "constraints"]
Sums = Callable[[Sequence[Sequence[Prediction]]], list[FloatArray]]
"""Arms on the same rows -> per arm [N, K] statistics, with columns of one meaning for all arms."""


LEFT_OUT = 1e-3
"""Probability that rounding may lose; where more is missing, labels are."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric with its settings."""

    name: str
    """With parameters as the user gave them: "bleu:tokenize=none"."""
    higher_is_better: bool
    kind: Literal["row", "ratio", "corpus"]
    """row: mean of per_row. ratio: sum of a row's first column over sum of its second. corpus: no
    mean of rows gives it."""
    needs: Needs
    """What a row must bring: number and label set are predictions that hold such; a grade is what
    something outside the metrics put into ``scores``."""
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
    explain: Callable[[Prediction], str] | None = None
    """Why a row has its value; empty where there is nothing to say."""
    also: tuple[Also, ...] = ()
    """What a row must bring besides."""
    fault: Callable[[Prediction], str | None] | None = None
    """Of metrics that can fail on a row: why it has no value, or None."""
    binary: bool = False
    """Whether every row is right (1) or wrong (0)."""
    descriptive: bool = False
    """Shown, but no verdict may rest on it."""
    undefined: Callable[[Sequence[Prediction]], str | None] | None = None
    """Of metrics that some sets of rows have no value of (one class only): why, or None."""

    def signature(self) -> str:
        """Name, origin and settings: all that is needed to compute it again."""
        return "|".join(part for part in (self.name, self.source, self.settings) if part)

    def covers(self, prediction: Prediction) -> bool:
        """Whether the row brings what the metric needs (a NaN counts as brought)."""
        return self.lack(prediction) is None

    def lack(self, prediction: Prediction) -> str | None:
        """Why the row has no value, in words that follow "there is"; None when it has one."""
        if self.needs == "loss":
            brought = prediction.loss_sum is not None and prediction.num_targets is not None
        elif self.needs == "score":
            brought = prediction.score is not None
        elif self.needs == "probabilities":
            brought = prediction.probabilities is not None
        elif self.needs == "confidence":
            brought = prediction.prediction is not None and confidence_of(prediction) is not None
        elif self.needs == "grade":
            brought = self.name.partition(":")[0] in (prediction.scores or {})
        else:
            brought = prediction.prediction is not None
        if not brought:
            return f"no {self.needs}"
        if self.needs == "probabilities" and _leaves_out_labels(prediction):
            return "no probability of each label (they add up to less than 1)"
        if "input" in self.also and prediction.input is None:
            return "no input"
        if "constraints" in self.also and prediction.constraints is None:
            return "no list of constraints"
        return None if self.fault is None else self.fault(prediction)

    def is_finite(self, prediction: Prediction) -> bool:
        """Whether the numbers that the row brings are such."""
        if self.needs == "number" and prediction.prediction is not None:
            return _is_finite(prediction.prediction)
        if self.needs == "probabilities" and prediction.probabilities is not None:
            return all(0.0 <= chance <= 1.0 for chance in prediction.probabilities.values())
        value: float | None = None
        if self.needs == "loss":
            value = prediction.loss_sum
        elif self.needs == "score":
            value = prediction.score
        elif self.needs == "confidence":
            value = confidence_of(prediction)
            return value is None or 0.0 <= value <= 1.0
        elif self.needs == "grade":
            value = (prediction.scores or {}).get(self.name.partition(":")[0])
        elif self.fault is not None and self.per_row is not None and self.covers(prediction):
            value = self.per_row(prediction)
        return value is None or math.isfinite(value)

    def uncovered(self, rows: Sequence[Prediction]) -> list[Prediction]:
        """The rows that the metric does not cover; short ways for what most files hold."""
        if not self.also and self.fault is None and self.needs == "score":
            return [row for row in rows if row.score is None]
        if not self.also and self.fault is None and self.needs == "prediction":
            return [row for row in rows if row.prediction is None]
        return [row for row in rows if not self.covers(row)]

    def broken(self, rows: Sequence[Prediction]) -> list[Prediction]:
        """The rows that bring a number which is none; short ways for what most files hold."""
        if self.needs == "score":
            return [row for row in rows if row.score is not None and not math.isfinite(row.score)]
        if self.needs == "prediction" and self.fault is None:
            return []
        return [row for row in rows if not self.is_finite(row)]

    def reason(self, prediction: Prediction) -> str:
        """Why a row that the metric covers has its value; empty where there is nothing to say."""
        return "" if self.explain is None else self.explain(prediction)


def row_metric(
    name: str,
    per_row: Callable[[Prediction], float],
    *,
    higher_is_better: bool = True,
    needs: Needs = "prediction",
    unit: Literal["share", "points", "nats", "number"] = "share",
    span: float | None = 1.0,
    source: str = "fettle",
    settings: str = "",
    explain: Callable[[Prediction], str] | None = None,
    also: tuple[Also, ...] = (),
    binary: bool = False,
    descriptive: bool = False,
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
        explain: why a row has its value.
        also: what a row must bring besides.
        binary: every value is 0 or 1.
        descriptive: no verdict may rest on it.

    Returns:
        The metric; its columns are value and row count.
    """

    def sums(arms: Sequence[Sequence[Prediction]]) -> list[FloatArray]:
        found = []
        for arm in arms:
            columns = np.ones((len(arm), 2))
            columns[:, 0] = np.fromiter(map(per_row, arm), np.float64, len(arm))
            found.append(columns)
        return found

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
        explain=explain,
        also=also,
        binary=binary,
        descriptive=descriptive,
    )


@dataclass(frozen=True, slots=True)
class Graded:
    """What a grader says of one row."""

    value: float | None
    """None where it can say nothing: the row is missing then, which is not 0."""
    reason: str = ""


def graded_metric(
    name: str,
    grade: Callable[[Prediction], Graded],
    *,
    higher_is_better: bool = True,
    unit: Literal["share", "points", "nats", "number"] = "share",
    span: float | None = 1.0,
    source: str = "fettle",
    settings: str = "",
    also: tuple[Also, ...] = (),
    binary: bool = False,
    descriptive: bool = False,
) -> Metric:
    """A metric of texts whose grader gives value and reason at once, or says why it can't.

    Args:
        name: as the user writes it, with parameters.
        grade: value and reason of a row that has a prediction, and what ``also`` asks for.
        higher_is_better: direction.
        unit: how values are shown.
        span: largest possible difference of two values.
        source: library and version.
        settings: for the signature.
        also: what a row must bring besides.
        binary: every value is 0 or 1.
        descriptive: no verdict may rest on it.
    """
    # By identity, as long as the row lives: rows hold mappings, which have no hash.
    known: dict[int, tuple[Graded, weakref.ref[Prediction]]] = {}

    def look(row: Prediction) -> Graded:
        key = id(row)
        if key not in known:
            known[key] = (grade(row), weakref.ref(row, lambda _: known.pop(key, None)))
        return known[key][0]

    def per_row(row: Prediction) -> float:
        found = look(row)
        if found.value is None:
            raise ValueError(f"row {row.row_id} has no {name}: {found.reason}")
        return found.value

    def fault(row: Prediction) -> str | None:
        found = look(row)
        return found.reason if found.value is None else None

    return replace(
        row_metric(
            name,
            per_row,
            higher_is_better=higher_is_better,
            unit=unit,
            span=span,
            source=source,
            settings=settings,
            explain=lambda row: look(row).reason,
            also=also,
            binary=binary,
            descriptive=descriptive,
        ),
        fault=fault,
    )


def shown(text: str, most: int = 60) -> str:
    """A text in a reason: in quotes, cut where it is long."""
    return repr(text if len(text) <= most else text[: most - 1] + "…")


def _leaves_out_labels(row: Prediction) -> bool:
    """Whether only the likeliest labels have their probability; each by itself adds to anything."""
    if row.probabilities is None or references_of(row)[0].startswith("["):
        return False
    return math.fsum(row.probabilities.values()) < 1.0 - LEFT_OUT


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
