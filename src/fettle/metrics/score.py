"""Scores that a prediction file brings along, one a row.

In: predictions with ``score``. Out: a metric. Must not know: where the score comes from.
"""

from fettle.metrics.metric import Metric, row_metric
from fettle.records.outcomes import Prediction


def score(higher_is_better: bool = True) -> Metric:
    """Mean of the rows' own scores.

    Args:
        higher_is_better: False for an error or a cost.
    """
    return row_metric(
        "score",
        _score,
        higher_is_better=higher_is_better,
        needs="score",
        unit="number",
        span=None,
        source="file",
        settings=f"higher_is_better:{'yes' if higher_is_better else 'no'}",
    )


def _score(row: Prediction) -> float:
    if row.score is None:
        raise ValueError(f"row {row.row_id} has no score")
    return row.score
