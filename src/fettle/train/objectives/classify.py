"""Cross-entropy on one label a row. Shapes: B rows, K labels."""

import torch
from torch import nn
from torch.nn import functional

from fettle.models.forward import class_logits
from fettle.records.tokens import Batch
from fettle.train.objectives.loss_sum import LossSum


def classify(model: nn.Module, batch: Batch, pad_id: int) -> LossSum:
    """Sum over rows of -log p(label)."""
    logits_BK = class_logits(model, batch, pad_id)
    labels_B = torch.tensor([row.label for row in batch.rows], device=logits_BK.device)
    total = functional.cross_entropy(logits_BK.float(), labels_B, reduction="sum")
    return LossSum(total, len(batch.rows))
