"""What a row's own data adds to its prediction: the input, where a metric looks at it.

In: predictions and the examples that they belong to. Out: predictions. Must not know: metrics'
formulas, models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fettle.evaluate.baselines import input_text
from fettle.metrics.metric import Metric
from fettle.metrics.python_grader import FAMILY
from fettle.records.outcomes import Prediction
from fettle.records.rows import Example


def with_inputs(
    rows: Sequence[Prediction], examples: Mapping[str, Example], metrics: Sequence[Metric]
) -> list[Prediction]:
    """Give predictions the input of their rows where a metric needs it: files grow by it.

    Args:
        rows: predictions of one arm.
        examples: by row_id; a row that is not there stays as it is.
        metrics: all that will be measured; nobody knows what a user's grader looks at, so that it
            gets the input too.

    Returns:
        Predictions in the same order, the same objects where nothing is to be added.
    """
    if not any("input" in m.also or m.name.partition(":")[0] == FAMILY for m in metrics):
        return list(rows)
    return [
        replace(row, input=input_text(examples[row.row_id])) if row.row_id in examples else row
        for row in rows
    ]
