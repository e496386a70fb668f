"""Cross-entropy on the tokens that the loss mask marks; used for chat and for plain text."""

from torch import nn

from fettle.models.forward import token_loss_sum
from fettle.records.tokens import Batch
from fettle.train.objectives.loss_sum import LossSum


def next_token(model: nn.Module, batch: Batch, pad_id: int) -> LossSum:
    """Sum over marked tokens of weight times -log p(token | everything before it)."""
    return LossSum(token_loss_sum(model, batch, pad_id), batch.target_weight)
