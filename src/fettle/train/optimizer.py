"""AdamW with decay on matrices only, and LoRA+'s faster B matrices.

In: a model. Out: a torch optimizer over its trainable parameters, in a stable order. Must not know:
schedules, the loop. Each group carries a ``rate_factor``, by which the loop multiplies the rate of
the schedule.
"""

from typing import Any

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
    model: nn.Module, learning_rate: float, weight_decay: float, plus_ratio: float = 1.0
) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019); weight decay acts on matrices, not on biases and norms.

    Args:
        model: with at least one trainable parameter.
        learning_rate: peak rate.
        weight_decay: factor of the decoupled decay.
        plus_ratio: LoRA's B matrices learn at this many times the rate (LoRA+, Hayou et al. 2024,
            arXiv 2402.12354, whose lambda it is).
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in trainable_parameters(model).items():
        decay = 0.0 if _is_scale(name, parameter) else weight_decay
        factor = plus_ratio if ".lora_B." in name else 1.0
        groups.setdefault((factor, decay), []).append(parameter)
    listed: list[dict[str, Any]] = [
        {
            "params": groups[factor, decay],
            "weight_decay": decay,
            "rate_factor": factor,
            "lr": learning_rate * factor,
        }
        # Matrices first, as the norm of the gradient is summed in this order.
        for factor, decay in sorted(groups, key=lambda key: (key[0], -key[1]))
    ]
    return torch.optim.AdamW(listed, lr=learning_rate, fused=True)


def _is_scale(name: str, parameter: nn.Parameter) -> bool:
    """Biases and norms; (IA)^3 keeps its vectors around one in tensors of two dimensions."""
    return parameter.ndim < 2 or ".ia3_l." in name
