"""Metrics of labels: accuracy, macro F1, macro recall, and the tables behind them.

In: predictions whose ``prediction`` and ``reference`` are labels, or sets of labels as
``records.outcomes.labels_as_text`` writes them. Out: metrics and counts.
Must not know: models, arms' meaning.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fettle.metrics.metric import Metric, references_of, row_metric, single_reference, text_of
from fettle.records.outcomes import Prediction, labels_from_text
from fettle.statistics.resampling import BoolArray, FloatArray, IntArray, Score


def accuracy() -> Metric:
    """Share of rows whose label is right (is among the references, when there are several)."""
    return row_metric("accuracy", _is_right, binary=True)


def subset_accuracy() -> Metric:
    """Share of rows whose set of labels is right, none missing and none too many."""
    return row_metric("subset_accuracy", _is_right_set, needs="label set", binary=True)


def micro_f1() -> Metric:
    """F1 over all labels of all rows counted together; sklearn's ``average="micro"``.

    1 where no label is referred to and none predicted.
    """
    return replace(_class_metric("micro_f1", _micro_f1, "average:micro"), needs="label set")


def macro_f1() -> Metric:
    """Mean F1 over the classes that are referred to or predicted; sklearn's ``average="macro"``.

    Where a row has several labels (a JSON list of them), each label is a class. A class that never
    occurs and is never predicted (in a resample, say) is left out of the mean.
    """
    return _class_metric("macro_f1", _macro_f1, "average:macro|classes:referred or predicted")


def macro_recall() -> Metric:
    """Mean recall over the classes that occur; sklearn's ``balanced_accuracy_score``."""
    return _class_metric("macro_recall", _macro_recall, "average:macro|classes:referred")


def labels_of(arms: Sequence[Sequence[Prediction]], metric: str) -> list[str]:
    """All labels that are referred to or predicted in any arm, sorted; those of a set each."""
    found: set[str] = set()
    for row in (row for arm in arms for row in arm):
        found |= labels_from_text(text_of(row))
        found |= labels_from_text(single_reference(row, metric))
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


def per_label(rows: Sequence[Prediction], labels: Sequence[str]) -> dict[str, FloatArray]:
    """Precision, recall and F1 of each label where a row has any number of them.

    Args:
        rows: predictions whose texts are sets of labels.
        labels: all of them, in order.

    Returns:
        "precision", "recall", "f1", "support": [K] each; 0 where undefined.
    """
    index = {label: number for number, label in enumerate(labels)}
    hits, predicted, support = (np.zeros(len(labels)) for _ in range(3))
    for row in rows:
        referred = labels_from_text(single_reference(row, "the table of labels"))
        found = labels_from_text(text_of(row))
        support[[index[label] for label in referred]] += 1.0
        predicted[[index[label] for label in found]] += 1.0
        hits[[index[label] for label in referred & found]] += 1.0
    return {
        "precision": _divide(hits, predicted),
        "recall": _divide(hits, support),
        "f1": _divide(2.0 * hits, predicted + support),
        "support": support,
    }


def _is_right_set(row: Prediction) -> float:
    wanted = labels_from_text(single_reference(row, "subset_accuracy"))
    return float(labels_from_text(text_of(row)) == wanted)


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
                referred = labels_from_text(single_reference(row, name))
                predicted = labels_from_text(text_of(row))
                table[number, [index[label] for label in referred], 2] = 1.0
                table[number, [index[label] for label in predicted], 1] = 1.0
                table[number, [index[label] for label in referred & predicted], 0] = 1.0
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


def _micro_f1(sums: FloatArray) -> FloatArray:
    hits, predicted, support = (part.sum(axis=-1) for part in _by_class(sums))
    total = predicted + support
    value: FloatArray = np.where(total > 0, 2.0 * hits / np.where(total > 0, total, 1.0), 1.0)
    return value


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
