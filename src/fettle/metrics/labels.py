"""Metrics of labels: accuracy, macro F1, macro recall, and the tables behind them.

In: predictions whose ``prediction`` and ``reference`` are labels. Out: metrics and counts.
Must not know: models, arms' meaning.
"""

from collections.abc import Sequence

import numpy as np

from fettle.metrics.metric import Metric, references_of, row_metric, single_reference, text_of
from fettle.records.outcomes import Prediction
from fettle.statistics.resampling import BoolArray, FloatArray, IntArray, Score


def accuracy() -> Metric:
    """Share of rows whose label is right (is among the references, when there are several)."""
    return row_metric("accuracy", _is_right)


def macro_f1() -> Metric:
    """Mean F1 over the classes that are referred to or predicted; sklearn's ``average="macro"``.

    A class that never occurs and is never predicted (in a resample, say) is left out of the mean.
    """
    return _class_metric("macro_f1", _macro_f1, "average:macro|classes:referred or predicted")


def macro_recall() -> Metric:
    """Mean recall over the classes that occur; sklearn's ``balanced_accuracy_score``."""
    return _class_metric("macro_recall", _macro_recall, "average:macro|classes:referred")


def labels_of(arms: Sequence[Sequence[Prediction]], metric: str) -> list[str]:
    """All labels that are referred to or predicted in any arm, sorted."""
    found = {text_of(row) for arm in arms for row in arm}
    found.update(single_reference(row, metric) for arm in arms for row in arm)
    return sorted(found)


def confusion(rows: Sequence[Prediction], labels: Sequence[str]) -> IntArray:
    """Counts [K, K]: line = reference, column = prediction, in the order of ``labels``."""
    index = {label: number for number, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)), dtype=np.int64)
    for row in rows:
        counts[index[single_reference(row, "confusion")], index[text_of(row)]] += 1
    return counts


def per_class(counts: IntArray) -> dict[str, FloatArray]:
    """Precision, recall and F1 of every class from a confusion matrix; 0 where undefined.

    Args:
        counts: [K, K] line = reference, column = prediction.

    Returns:
        "precision", "recall", "f1", "support": [K] each.
    """
    hits = np.diag(counts).astype(np.float64)
    predicted, support = counts.sum(axis=0), counts.sum(axis=1)
    return {
        "precision": _divide(hits, predicted),
        "recall": _divide(hits, support),
        "f1": _divide(2.0 * hits, predicted + support),
        "support": support.astype(np.float64),
    }


def _is_right(row: Prediction) -> float:
    return float(text_of(row) in references_of(row))


def _class_metric(name: str, score: Score, settings: str) -> Metric:
    def sums(arms: Sequence[Sequence[Prediction]]) -> list[FloatArray]:
        labels = labels_of(arms, name)
        index = {label: number for number, label in enumerate(labels)}
        tables = []
        for arm in arms:
            # Per class three columns: hits, predicted, support.
            table = np.zeros((len(arm), len(labels), 3))
            for number, row in enumerate(arm):
                reference = index[single_reference(row, name)]
                predicted = index[text_of(row)]
                table[number, reference, 2] = 1.0
                table[number, predicted, 1] = 1.0
                table[number, predicted, 0] = float(predicted == reference)
            tables.append(table.reshape(len(arm), -1))
        return tables

    return Metric(
        name=name,
        higher_is_better=True,
        kind="corpus",
        needs="prediction",
        unit="share",
        span=1.0,
        source="fettle",
        settings=settings,
        sums=sums,
        score=score,
    )


def _macro_f1(sums: FloatArray) -> FloatArray:
    hits, predicted, support = _by_class(sums)
    occurs = (predicted + support) > 0
    return _mean(_divide(2.0 * hits, predicted + support), occurs)


def _macro_recall(sums: FloatArray) -> FloatArray:
    hits, _, support = _by_class(sums)
    return _mean(_divide(hits, support), support > 0)


def _by_class(sums: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    table = sums.reshape(*sums.shape[:-1], -1, 3)
    return table[..., 0], table[..., 1], table[..., 2]


def _mean(values: FloatArray, counted: BoolArray) -> FloatArray:
    number = np.maximum(counted.sum(axis=-1), 1)
    mean: FloatArray = np.where(counted, values, 0.0).sum(axis=-1) / number
    return mean


def _divide(numerator: FloatArray, denominator: FloatArray | IntArray) -> FloatArray:
    safe = np.where(denominator > 0, denominator, 1)
    value: FloatArray = np.where(denominator > 0, numerator / safe, 0.0)
    return value
