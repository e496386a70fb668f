"""Cross-entropy on the tokens that the loss mask marks; used for chat and for plain text."""

import torch
from torch import nn

from fettle.models.forward import token_losses
from fettle.records.tokens import Batch
from fettle.train.objectives.loss_sum import LossSum


def next_token(model: nn.Module, batch: Batch, pad_id: int) -> LossSum:
    """Sum over marked tokens of weight times -log p(token | everything before it)."""
    sums_B, _ = token_losses(model, batch, pad_id)
    weights_B = torch.tensor([row.weight for row in batch.rows], device=sums_B.device)
    return LossSum((sums_B * weights_B).sum(), batch.target_weight)
