"""Squared error of one number a row. Shapes: B rows."""

import torch
from torch import nn

from fettle.models.forward import class_logits
from fettle.records.tokens import Batch
from fettle.train.objectives.loss_sum import LossSum


def regress(model: nn.Module, batch: Batch, pad_id: int) -> LossSum:
    """Sum over rows of weight times (logit - value) squared.

    Values are standardised by the training rows' mean and spread, so that the loss of a model that
    always says the mean is 1, whatever the user's unit.
    """
    logits_B = class_logits(model, batch, pad_id).float()[:, 0]
    values_B = torch.tensor([row.value for row in batch.rows], device=logits_B.device)
    weights_B = torch.tensor([row.weight for row in batch.rows], device=logits_B.device)
    return LossSum(((logits_B - values_B) ** 2 * weights_B).sum(), batch.target_weight)
