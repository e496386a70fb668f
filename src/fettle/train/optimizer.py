"""AdamW, or Muon for the blocks' matrices; decay on matrices only, and LoRA+'s faster B matrices.

In: a model. Out: a torch optimizer over its trainable parameters, in a stable order. Must not know:
schedules, the loop. Each group carries a ``rate_factor``, by which the loop multiplies the rate of
the schedule.
"""

import re
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from fettle.errors import RecipeError

# A numbered block of the body, such as ``layers.3.``
_BLOCK = re.compile(r"\.\d+\.")
_Key = tuple[float, float]
_Groups = dict[_Key, list[nn.Parameter]]


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
    model: nn.Module,
    learning_rate: float,
    weight_decay: float,
    plus_ratio: float = 1.0,
    kind: str = "adamw",
) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019), or Muon (Jordan et al. 2024) where it is meant for.

    Weight decay acts on matrices, not on biases and norms. Muon takes the matrices inside the
    blocks; embeddings, heads, biases and norms stay with AdamW. Its steps are scaled to the size of
    AdamW's (Liu et al. 2025, arXiv 2502.16982), so that one learning rate serves both.

    Args:
        model: with at least one trainable parameter.
        learning_rate: peak rate.
        weight_decay: factor of the decoupled decay.
        plus_ratio: LoRA's B matrices learn at this many times the rate (LoRA+, Hayou et al. 2024,
            arXiv 2402.12354, whose lambda it is).
        kind: adamw or muon.

    Raises:
        RecipeError: E0601, nothing is trainable; E0607, Muon without a matrix for it.
    """
    steep: _Groups = {}
    others: _Groups = {}
    for name, parameter in trainable_parameters(model).items():
        decay = 0.0 if _is_scale(name, parameter) else weight_decay
        factor = plus_ratio if ".lora_B." in name else 1.0
        chosen = steep if kind == "muon" and _is_block_matrix(name, parameter) else others
        chosen.setdefault((factor, decay), []).append(parameter)
    if kind != "muon":
        return _adamw(others, learning_rate)
    if not steep:
        raise RecipeError(
            "E0607",
            "train.optimizer is muon, and no matrix inside a block is trained",
            why="Muon is for the weight matrices of the blocks; all that is trained here would be"
            " left to AdamW",
            hint="--set train.optimizer=adamw",
        )
    matrices = torch.optim.Muon(
        _listed(steep, learning_rate), lr=learning_rate, adjust_lr_fn="match_rms_adamw"
    )
    return Together([matrices, *([_adamw(others, learning_rate)] if others else [])])


class Together(torch.optim.Optimizer):
    """Several optimizers, each over parameters of its own, seen as one: one state, all groups.

    Args:
        parts: at least one; they are stepped in this order.
    """

    def __init__(self, parts: list[torch.optim.Optimizer]) -> None:
        groups = [group for part in parts for group in part.param_groups]
        # A copy of each, as the base class fills in what it finds missing.
        super().__init__([dict(group) for group in groups], {})
        self.param_groups = groups
        self.state: Any = defaultdict(dict)
        self.parts = parts
        for part in parts:
            part.state = self.state

    def step(  # type: ignore[override]  # there is no closure, and so no loss to return
        self, closure: Callable[[], float] | None = None
    ) -> None:
        """One step of each; there is nothing to evaluate again in between."""
        if closure is not None:
            raise ValueError("a closure is not taken")
        for part in self.parts:
            part.step()


def _adamw(groups: _Groups, learning_rate: float) -> torch.optim.AdamW:
    return torch.optim.AdamW(_listed(groups, learning_rate), lr=learning_rate, fused=True)


def _listed(groups: _Groups, learning_rate: float) -> list[dict[str, Any]]:
    return [
        {
            "params": groups[factor, decay],
            "weight_decay": decay,
            "rate_factor": factor,
            "lr": learning_rate * factor,
        }
        # Matrices first, as the norm of the gradient is summed in this order.
        for factor, decay in sorted(groups, key=lambda key: (key[0], -key[1]))
    ]


def _is_scale(name: str, parameter: nn.Parameter) -> bool:
    """Biases and norms; (IA)^3 keeps its vectors around one in tensors of two dimensions."""
    return parameter.ndim < 2 or ".ia3_l." in name


def _is_block_matrix(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim == 2 and not _is_scale(name, parameter) and bool(_BLOCK.search(name))
