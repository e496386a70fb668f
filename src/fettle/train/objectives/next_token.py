"""Cross-entropy on the tokens that the loss mask marks; used for chat and for plain text."""

from torch import nn

from fettle.models.forward import token_losses
from fettle.records.tokens import Batch
from fettle.train.objectives.loss_sum import LossSum


def next_token(model: nn.Module, batch: Batch, pad_id: int) -> LossSum:
    """Sum over marked tokens of -log p(token | everything before it)."""
    sums_B, counts_B = token_losses(model, batch, pad_id)
    return LossSum(sums_B.sum(), int(counts_B.sum()))
