"""Loss per target token, and perplexity.

In: predictions with ``loss_sum`` (nats) and ``num_targets``. Out: metrics. Must not know: models.
"""

from collections.abc import Sequence

import numpy as np

from fettle.metrics.metric import Metric, ratio_score
from fettle.records.outcomes import Prediction
from fettle.statistics.resampling import FloatArray


def loss() -> Metric:
    """Nats per target token over all rows: long rows count for more, as they do in training."""
    return Metric(
        name="loss",
        higher_is_better=False,
        kind="ratio",
        needs="loss",
        unit="nats",
        span=None,
        source="fettle",
        settings="per:target token",
        sums=_sums,
        score=ratio_score,
        per_row=_per_row,
    )


def perplexity() -> Metric:
    """exp of the loss: the same comparison on a scale that people know, for display."""
    return Metric(
        name="perplexity",
        higher_is_better=False,
        kind="corpus",
        needs="loss",
        unit="number",
        span=None,
        source="fettle",
        settings="per:target token",
        sums=_sums,
        score=_perplexity,
        per_row=lambda row: float(np.exp(_per_row(row))),
    )


def _loss_and_targets(row: Prediction) -> tuple[float, int]:
    if row.loss_sum is None or row.num_targets is None:
        raise ValueError(f"row {row.row_id} has no loss")
    return row.loss_sum, row.num_targets


def _per_row(row: Prediction) -> float:
    loss_sum, num_targets = _loss_and_targets(row)
    return loss_sum / num_targets


def _sums(arms: Sequence[Sequence[Prediction]]) -> list[FloatArray]:
    return [
        np.array([_loss_and_targets(row) for row in arm], dtype=np.float64).reshape(-1, 2)
        for arm in arms
    ]


def _perplexity(sums: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):
        value: FloatArray = np.exp(ratio_score(sums))
    return value
