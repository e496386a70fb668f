"""What is minimised. An objective maps (model, batch, pad id) to a ``LossSum``; the loop divides.

In: a model and one micro-batch. Out: the summed loss and the sum of the weights in it.
Must not know: optimizers, steps, averaging. An objective may not add a flag to the loop.
"""

from fettle.train.objectives.classify import classify
from fettle.train.objectives.loss_sum import LossSum, Objective
from fettle.train.objectives.next_token import next_token
from fettle.train.objectives.regress import regress

OBJECTIVES: dict[str, Objective] = {
    "chat": next_token,
    "classify": classify,
    "regress": regress,
    "text": next_token,
}

__all__ = ["OBJECTIVES", "LossSum", "Objective"]
