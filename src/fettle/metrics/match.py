"""Exact match of answers.

In: predictions with text. Out: a metric. Must not know: labels, models.
"""

from fettle.metrics.metric import Metric, references_of, row_metric, text_of
from fettle.records.outcomes import Prediction


def exact_match() -> Metric:
    """Share of answers that equal a reference, apart from whitespace at both ends."""
    return row_metric("exact_match", _is_match, settings="strip:ends|case:mixed")


def _is_match(row: Prediction) -> float:
    answer = text_of(row).strip()
    return float(any(answer == reference.strip() for reference in references_of(row)))
