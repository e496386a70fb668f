"""The value that every objective returns."""

from typing import NamedTuple, Protocol

import torch
from torch import nn

from fettle.records.tokens import Batch


class LossSum(NamedTuple):
    """A weighted loss summed over the targets of a micro-batch; never an average."""

    sum: torch.Tensor
    """Scalar, float32: each target's loss times its weight."""
    count: float
    """Sum of those weights (``Batch.target_weight``); the number of targets when all are 1."""


class Objective(Protocol):
    """The signature of an objective."""

    def __call__(self, model: nn.Module, batch: Batch, pad_id: int) -> LossSum:
        """Sum the loss of one micro-batch."""
        ...
