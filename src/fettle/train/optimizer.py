"""AdamW with decay on matrices only.

In: a model. Out: a torch optimizer over its trainable parameters, in a stable order. Must not know:
schedules, the loop.
"""

import torch
from torch import nn

from fettle.errors import RecipeError


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Trainable parameters by name, in the model's own order.

    Raises:
        RecipeError: E0601, there is none.
    """
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not parameters:
        raise RecipeError(
            "E0601",
            "nothing is trainable: every weight of the model is frozen",
            hint="check method.target_modules, or use --set method.type=full",
        )
    return parameters


def make_optimizer(
    model: nn.Module, learning_rate: float, weight_decay: float
) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019); weight decay acts on matrices, not on biases and norms.

    Args:
        model: with at least one trainable parameter.
        learning_rate: peak rate.
        weight_decay: factor of the decoupled decay.
    """
    parameters = list(trainable_parameters(model).values())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=learning_rate, fused=True)
