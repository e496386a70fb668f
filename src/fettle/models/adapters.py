"""LoRA adapters, in peft's format.

In: a model of ``load`` and the adapter's shape. Out: the same model with adapters, only they and
the task's head trainable. Must not know: data, optimizers.
"""

import re
from collections.abc import Sequence

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from fettle.errors import RecipeError
from fettle.models.load import Task
from fettle.models.quiet import quiet
from fettle.records.facts import BaseFacts

_UP_TO_LAST_BLOCK = re.compile(r".*\.\d+\.")


def apply_lora(
    model: PreTrainedModel,
    task: Task,
    rank: int,
    alpha: float,
    dropout: float,
    target_modules: Sequence[str] | None,
    base: BaseFacts,
) -> PeftModel:
    """Put LoRA adapters on a model (Hu et al. 2021, arXiv 2106.09685).

    A classifier's head is trained in full beside them. A pooler counts as part of the head: many
    checkpoints have none, or one that was trained for another aim.

    Args:
        model: from ``load_for_task``; changed in place.
        task: decides what peft calls the task, and whether there is a head to train.
        rank: r.
        alpha: the update is scaled by alpha / r.
        dropout: on the adapter's input.
        target_modules: names as peft takes them; None = every linear layer of the body's blocks.
        base: written into the adapter, so that stock peft finds the base again: hub id and commit,
            else the absolute directory.

    Returns:
        The model; new A matrices are drawn from torch's global generator.

    Raises:
        RecipeError: E0516, the model has no such modules.
    """
    linears = body_linears(model)
    config = LoraConfig(
        task_type="SEQ_CLS" if task == "classify" else "CAUSAL_LM",
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=list(target_modules or linears),
        modules_to_save=head_modules(model) if task == "classify" else None,
        # peft must be told that GPT-2's Conv1D keeps its weight transposed.
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
    )
    try:
        with quiet():
            adapted = get_peft_model(model, config)
    except ValueError as error:
        raise RecipeError(
            "E0516",
            f"method.target_modules = {config.target_modules} does not fit the base {base.id}",
            why=str(error).splitlines()[0][:200],
            hint="leave it out (every linear layer), or choose among: " + ", ".join(linears),
        ) from error
    config.base_model_name_or_path = base.id if base.revision else base.path
    config.revision = base.revision
    return adapted


def body_linears(model: PreTrainedModel) -> list[str]:
    """Names of the linear layers inside the numbered blocks of the body, as peft matches them.

    Embeddings, pooler and head are left out. Each name is what follows the last block number, so
    that ``output.dense`` can't catch a pooler's ``dense``.
    """
    names = {
        _UP_TO_LAST_BLOCK.sub("", name)
        for name, module in model.base_model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and _UP_TO_LAST_BLOCK.match(f".{name}")
    }
    return sorted(names)


def head_modules(model: PreTrainedModel) -> list[str]:
    """Names of what lies between the last hidden state and the logits of a classifier."""
    body = model.base_model_prefix
    names = [
        name
        for name, module in model.named_children()
        if name != body and any(True for _ in module.parameters())
    ]
    inside = [name for name, _ in model.base_model.named_children() if name == "pooler"]
    return inside + names


def count_parameters(model: torch.nn.Module) -> tuple[int, int]:
    """How many parameters are trained, and how many there are; a shared one counts once."""
    parameters = list(model.parameters())
    trainable = sum(item.numel() for item in parameters if item.requires_grad)
    return trainable, sum(item.numel() for item in parameters)
