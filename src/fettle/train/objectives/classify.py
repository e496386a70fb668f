"""One label a row by cross-entropy, or any number of labels a row by one yes or no for each.

Shapes: B rows, K labels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from fettle.models.forward import class_logits
from fettle.records.tokens import Batch
from fettle.train.objectives.loss_sum import LossSum


def classify(model: nn.Module, batch: Batch, pad_id: int) -> LossSum:
    """Sum over rows of weight times loss.

    One label: -log p(label) under the softmax. Several: the mean over all labels of the binary
    cross-entropy of each label's own logit, as transformers has it for the problem type
    multi_label_classification; the term of a label that applies is multiplied by its weight
    (torch's ``pos_weight``).
    """
    logits_BK = class_logits(model, batch, pad_id).float()
    several = batch.rows[0].labels is not None
    loss_B = _any_labels(logits_BK, batch) if several else _one_label(logits_BK, batch)
    weights_B = torch.tensor([row.weight for row in batch.rows], device=loss_B.device)
    return LossSum((loss_B * weights_B).sum(), batch.target_weight)


def _one_label(logits_BK: Tensor, batch: Batch) -> Tensor:
    labels_B = torch.tensor([row.label for row in batch.rows], device=logits_BK.device)
    return functional.cross_entropy(logits_BK, labels_B, reduction="none")


def _any_labels(logits_BK: Tensor, batch: Batch) -> Tensor:
    targets_BK = torch.zeros(logits_BK.shape)
    weights_BK = torch.ones(logits_BK.shape)
    for index, row in enumerate(batch.rows):
        found = list(row.labels or ())
        targets_BK[index, found] = 1.0
        if row.label_weights:
            weights_BK[index, found] = torch.tensor(row.label_weights)
    loss_BK = functional.binary_cross_entropy_with_logits(
        logits_BK,
        targets_BK.to(logits_BK.device),
        weight=weights_BK.to(logits_BK.device),
        reduction="none",
    )
    return loss_BK.mean(dim=1)
