"""Cheap alternatives on the same rows: is fine-tuning worth it?

Classifiers and neighbours come in as callables, so that this file needs neither their library nor
their settings.

In: training and holdout examples. Out: predictions, and a ``BaselineResult`` against the tuned
model. Must not know: how features are made, models.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from math import fsum
from typing import Protocol

from fettle.evaluate.contrast import contrast
from fettle.metrics.metric import Metric
from fettle.records.outcomes import BaselineResult, Prediction, labels_as_text
from fettle.records.rows import Example

MAJORITY = "majority class"
LINEAR = "TF-IDF + logistic regression"
NEAREST = "nearest training answer"
ZERO_SHOT = "zero-shot label likelihood"
FEW_SHOT = "base with examples in the prompt"
MAJORITY_SET = "most frequent set of labels"
LINEAR_SET = "TF-IDF + one-vs-rest logistic regression"
MEAN = "mean of the training rows"
RIDGE = "TF-IDF + ridge regression"


class Predictor(Protocol):
    """A fitted classifier."""

    def predict(self, texts: Sequence[str]) -> Sequence[str]:
        """One label a text."""
        ...


FitClassifier = Callable[[Sequence[str], Sequence[str]], Predictor]
"""Texts and labels -> a fitted classifier."""


class LabelSetPredictor(Protocol):
    """A fitted model of any number of labels a text."""

    def predict(self, texts: Sequence[str]) -> Sequence[Collection[str]]:
        """The labels of each text."""
        ...


class NumberPredictor(Protocol):
    """A fitted model of one number a text."""

    def predict(self, texts: Sequence[str]) -> Sequence[float]:
        """One number a text."""
        ...


FitLabelSets = Callable[[Sequence[str], Sequence[Collection[str]]], LabelSetPredictor]
"""Texts and their labels -> a fitted model."""

FitNumbers = Callable[[Sequence[str], Sequence[float]], NumberPredictor]
"""Texts and their numbers -> a fitted model."""

FindNearest = Callable[[Sequence[str], Sequence[str], Sequence[str]], Sequence[str]]
"""Training prompts, their answers, prompts -> for each prompt the nearest one's answer."""


def as_predictions(examples: Sequence[Example], answers: Sequence[str]) -> list[Prediction]:
    """Answers of any baseline as predictions on the holdout rows.

    Args:
        examples: holdout rows, each with a target.
        answers: one label or text a row, in the same order.

    Returns:
        Predictions in row order.
    """
    return [
        Prediction(example.row_id, answer, _target(example), group=example.group)
        for example, answer in zip(examples, answers, strict=True)
    ]


def majority_class(train: Sequence[Example], holdout: Sequence[Example]) -> list[Prediction]:
    """The most frequent training label for every row; the first in the alphabet when tied."""
    counts = Counter(_target(example) for example in train)
    label = min(counts, key=lambda name: (-counts[name], name))
    return as_predictions(holdout, [label] * len(holdout))


def training_mean(train: Sequence[Example], holdout: Sequence[Example]) -> list[Prediction]:
    """The mean of the training numbers for every row."""
    mean = fsum(row.number or 0.0 for row in train) / len(train)
    return as_predictions(holdout, [repr(mean)] * len(holdout))


def linear_label_sets(
    train: Sequence[Example], holdout: Sequence[Example], fit: FitLabelSets
) -> list[Prediction]:
    """A yes or no for each label from the text alone, fitted on the training rows.

    Args:
        train: training rows with text and labels.
        holdout: rows to predict.
        fit: texts and sets of labels to a fitted classifier.

    Returns:
        Predictions in holdout order.
    """
    fitted = fit([input_text(row) for row in train], [row.classes for row in train])
    found = fitted.predict([input_text(row) for row in holdout])
    return as_predictions(holdout, [labels_as_text(labels) for labels in found])


def linear_numbers(
    train: Sequence[Example], holdout: Sequence[Example], fit: FitNumbers
) -> list[Prediction]:
    """A number from the text alone, fitted on the training rows.

    Args:
        train: training rows with text and number.
        holdout: rows to predict.
        fit: texts and numbers to a fitted model.

    Returns:
        Predictions in holdout order.
    """
    fitted = fit([input_text(row) for row in train], [row.number or 0.0 for row in train])
    found = fitted.predict([input_text(row) for row in holdout])
    return as_predictions(holdout, [repr(float(value)) for value in found])


def linear_classifier(
    train: Sequence[Example], holdout: Sequence[Example], fit: FitClassifier
) -> list[Prediction]:
    """A classifier on the texts alone (TF-IDF + logistic regression), fitted on the training rows.

    Args:
        train: training rows with text and label.
        holdout: rows to predict.
        fit: texts and labels to a fitted classifier.

    Returns:
        Predictions in holdout order.
    """
    fitted = fit([input_text(row) for row in train], [_target(row) for row in train])
    return as_predictions(holdout, list(fitted.predict([input_text(row) for row in holdout])))


def nearest_answer(
    train: Sequence[Example], holdout: Sequence[Example], nearest: FindNearest
) -> list[Prediction]:
    """The answer of the training row whose prompt is nearest.

    Args:
        train: training rows.
        holdout: rows to answer.
        nearest: training prompts, their answers, and prompts, to one answer a prompt.

    Returns:
        Predictions in holdout order.
    """
    prompts = [input_text(row) for row in train]
    answers = [_target(row) for row in train]
    return as_predictions(holdout, nearest(prompts, answers, [input_text(row) for row in holdout]))


def baseline_result(
    name: str,
    baseline: Sequence[Prediction],
    tuned: Sequence[Prediction],
    metrics: Sequence[Metric],
    *,
    alpha: float = 0.05,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> BaselineResult | None:
    """Compare a baseline with the tuned model, paired, on the rows that both answered.

    Args:
        name: as it is shown.
        baseline: its predictions, of some or all holdout rows.
        tuned: the tuned model's predictions.
        metrics: the primary first; the first one that both arms bring values for is used.
        alpha: two-sided level.
        num_resamples: resamples and randomization draws.
        seed: of the random generators.

    Returns:
        Value, difference tuned - baseline, p-value and the number of rows; None when no metric
        fits both.
    """
    by_id = {row.row_id: row for row in baseline}
    for metric in metrics:
        rows = [
            row
            for row in tuned
            if row.row_id in by_id and metric.covers(row) and metric.is_finite(row)
        ]
        others = [by_id[row.row_id] for row in rows]
        if rows and all(metric.covers(row) and metric.is_finite(row) for row in others):
            found = contrast(
                metric, others, rows, alpha=alpha, num_resamples=num_resamples, seed=seed
            ).comparison
            return BaselineResult(
                name, found.base, found.difference, found.p_value, found.n, metric.name
            )
    return None


def input_text(example: Example) -> str:
    """What a baseline sees of a row: its text, or all turns before the answer."""
    if example.text is not None:
        return example.text
    return "\n".join(message.content for message in example.messages[:-1])


def _target(example: Example) -> str:
    if example.target is None:
        raise ValueError(f"row {example.row_id} has no target")
    return example.target
