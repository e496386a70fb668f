"""The value that every objective returns."""

from typing import NamedTuple, Protocol

import torch
from torch import nn

from fettle.records.tokens import Batch


class LossSum(NamedTuple):
    """A loss summed over ``count`` targets; never an average."""

    sum: torch.Tensor
    """Scalar, float32, nats."""
    count: int


class Objective(Protocol):
    """The signature of an objective."""

    def __call__(self, model: nn.Module, batch: Batch, pad_id: int) -> LossSum:
        """Sum the loss of one micro-batch."""
        ...
