"""Values that something outside the metrics gave each row: a judge, a classifier of voices.

In: predictions with ``scores``. Out: metrics. Must not know: how the values came about.
"""

from fettle.metrics.metric import Metric, row_metric
from fettle.records.outcomes import Prediction


def judge() -> Metric:
    """Mean preference of a judge who saw both answers: 1 for the better, 0.5 each for a tie.

    ``fettle.evaluate.judge`` asks the judge; a row that it could not judge has no value.
    """
    return row_metric(
        "judge",
        lambda row: _score(row, "judge"),
        needs="grade",
        source="evaluate.judge",
        settings="blind pairs|both orders|inconsistent:tie",
    )


def brand_voice() -> Metric:
    """Mean probability that an answer is in the brand's voice, by a classifier that never saw it.

    ``fettle.evaluate.voice`` fits the classifier.
    """
    return row_metric(
        "brand_voice",
        lambda row: _score(row, "brand_voice"),
        needs="grade",
        source="evaluate.voice",
        settings="TF-IDF, logistic regression|out of fold",
    )


def _score(row: Prediction, name: str) -> float:
    scores = row.scores or {}
    if name not in scores:
        raise ValueError(f"row {row.row_id} has no grade {name}")
    return scores[name]
