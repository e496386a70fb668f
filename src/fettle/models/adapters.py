"""Methods of training: mark or add the weights that are trained.

In: a model of ``load`` and the resolved settings. Out: the same model, ready for an optimizer; with
adapters it is a ``PeftModel`` in peft's own format. Must not know: data, optimizers.
"""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from peft import PEFT_TYPE_TO_CONFIG_MAPPING, LoraConfig, PeftConfig, PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from fettle.errors import RecipeError
from fettle.models.initial import begin_at_base
from fettle.models.last_blocks import train_last_blocks
from fettle.models.load import ON_TOP, Task
from fettle.models.lora_layer import use_fused_layers
from fettle.models.quiet import quiet
from fettle.models.targets import (
    body_linears,
    check_ranks,
    find_targets,
    head_modules,
    is_attention,
    layers_of,
    norm_layers,
)
from fettle.recipe.methods import TARGET_WORDS, kind_of
from fettle.recipe.resolve import Settings
from fettle.records.facts import BaseFacts

# Fields of every config that are fettle's to fill in.
_OURS = {
    "task_type",
    "peft_type",
    "auto_mapping",
    "peft_version",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "target_modules",
    "modules_to_save",
    "fan_in_fan_out",
}
_QUIET_OPTIONS: dict[str, dict[str, Any]] = {"frod": {"progressbar": False}}
# What peft's methods raise when a value or a layer does not suit them.
_PEFT_ERRORS = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    IndexError,
    NotImplementedError,
    RuntimeError,
    ImportError,
)


def apply_method(
    model: PreTrainedModel, task: Task, settings: Settings, base: BaseFacts
) -> nn.Module:
    """Make a model trainable in the way that the settings say.

    Args:
        model: from ``load_for_task``; changed in place.
        task: decides which head is trained beside the rest.
        settings: method and its values.
        base: written into an adapter, so that stock peft finds the base again: hub id and commit,
            else the absolute directory.

    Returns:
        The model itself (full, last_n), or a PeftModel around it.

    Raises:
        RecipeError: E0516 a target that is no layer, E0530 to E0535 a value that does not fit the
            base.
    """
    kind = kind_of(settings.method)
    if kind == "full":
        return model
    if kind == "last_n":
        train_last_blocks(model, task, settings.layers, base.id)
        return model
    if kind == "peft":
        return apply_peft(
            model, task, settings.method, settings.target_modules, settings.options, base
        )
    return apply_lora(
        model,
        task,
        settings.rank,
        settings.alpha,
        settings.dropout,
        settings.target_modules,
        base,
        rslora=settings.rslora,
        dora=settings.dora,
        init=settings.init,
        rank_pattern=settings.rank_pattern,
        alpha_pattern=settings.alpha_pattern,
    )


def apply_lora(
    model: PreTrainedModel,
    task: Task,
    rank: int,
    alpha: float,
    dropout: float,
    target_modules: Sequence[str] | None,
    base: BaseFacts,
    *,
    rslora: bool = False,
    dora: bool = False,
    init: str = "default",
    rank_pattern: Mapping[str, int] | None = None,
    alpha_pattern: Mapping[str, float] | None = None,
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
        target_modules: see ``find_targets``.
        base: see ``apply_method``.
        rslora: scale by alpha / sqrt(r) instead (Kalajdzievski 2023, arXiv 2312.03732).
        dora: train the norm of each output's weights apart from their direction (Liu et al. 2024,
            arXiv 2402.09353).
        init: default, gaussian, orthogonal, pissa or olora; see ``begin_at_base`` for the last two.
        rank_pattern: another rank for layers whose name ends with, or matches, the key.
        alpha_pattern: another alpha alike.

    Returns:
        The model; new matrices are drawn from torch's global generator.

    Raises:
        RecipeError: E0516, E0530, E0531, E0535.
    """
    targets = find_targets(model, task, target_modules, base.id)
    check_ranks(model, task, targets, rank, rank_pattern or {}, alpha_pattern or {})
    config = LoraConfig(
        task_type=_task_type(task),
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=targets,
        modules_to_save=head_modules(model) if task in ON_TOP else None,
        fan_in_fan_out=_is_transposed(model),
        use_rslora=rslora,
        use_dora=dora,
        init_lora_weights=init if init in ("gaussian", "orthogonal") else True,
        rank_pattern=dict(rank_pattern or {}),
        alpha_pattern=dict(alpha_pattern or {}),
    )
    use_fused_layers(config, model)
    adapted = _adapted(model, config, "lora", base)
    if init in ("pissa", "olora"):
        begin_at_base(adapted, init)
    return adapted


def apply_peft(
    model: PreTrainedModel,
    task: Task,
    name: str,
    target_modules: Sequence[str] | None,
    options: Mapping[str, Any],
    base: BaseFacts,
) -> PeftModel:
    """Put the adapters of another method of peft on a model.

    Args:
        model: from ``load_for_task``; changed in place.
        task: see ``apply_lora``.
        name: of ``recipe.methods.PASSED_THROUGH``.
        target_modules: see ``find_targets``; None = every linear layer of the blocks, for ln_tuning
            every norm.
        options: fields of the method's own config.
        base: see ``apply_method``.

    Raises:
        RecipeError: E0516, E0534 an option that the method does not have, E0535 a value or a base
            that the method can't do with.
    """
    config_class = check_options(name, task, options)
    fields = _fields(config_class)
    values: dict[str, Any] = {"task_type": _task_type(task)}
    targets = _targets_of(model, task, name, target_modules, base)
    if "target_modules" in fields:
        values["target_modules"] = targets
    if "modules_to_save" in fields and task in ON_TOP:
        values["modules_to_save"] = head_modules(model)
    if "fan_in_fan_out" in fields:
        values["fan_in_fan_out"] = _is_transposed(model)
    if "feedforward_modules" in fields:
        # (IA)^3 scales what goes into these, and what comes out of the others.
        mlp = {item for item in body_linears(model) if not is_attention(item)}
        mlp.update(layers_of(model, "mlp"))
        values["feedforward_modules"] = [item for item in targets or [] if item in mlp]
    try:
        config = config_class(**{**values, **_QUIET_OPTIONS.get(name, {}), **options})
    except _PEFT_ERRORS as error:
        raise _unsuited(name, base, error) from error
    return _adapted(model, config, name, base)


def check_options(name: str, task: str, options: Mapping[str, Any]) -> type[PeftConfig]:
    """The config class of a method of peft that has all these options.

    Raises:
        RecipeError: E0534 unknown option, E0535 the method can't train a head.
    """
    config_class: type[PeftConfig] = PEFT_TYPE_TO_CONFIG_MAPPING[name.upper()]
    fields = _fields(config_class)
    known = sorted(fields - _OURS)
    for option in options:
        if option in known:
            continue
        close = difflib.get_close_matches(str(option), known, n=1, cutoff=0.6)
        ours = " is set by fettle" if option in _OURS else f" is no option of {name}"
        raise RecipeError(
            "E0534",
            f"method.options: {option!r}{ours}" + (f"; did you mean {close[0]}" if close else ""),
            hint=f"options of {name}: {', '.join(known)}",
        )
    if task in ON_TOP and "modules_to_save" not in fields:
        raise RecipeError(
            "E0535",
            f"method.type = {name} can't train the new head that the task {task} needs",
            hint="use --set method.type=lora",
        )
    return config_class


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """How many parameters are trained, and how many there are; a shared one counts once."""
    parameters = list(model.parameters())
    trainable = sum(item.numel() for item in parameters if item.requires_grad)
    return trainable, sum(item.numel() for item in parameters)


def _adapted(model: PreTrainedModel, config: PeftConfig, name: str, base: BaseFacts) -> PeftModel:
    try:
        with quiet():
            adapted = get_peft_model(model, config)
    except _PEFT_ERRORS as error:
        raise _unsuited(name, base, error) from error
    config.base_model_name_or_path = base.id if base.revision else base.path
    config.revision = base.revision
    return adapted


def _targets_of(
    model: PreTrainedModel,
    task: str,
    name: str,
    target_modules: Sequence[str] | None,
    base: BaseFacts,
) -> list[str] | None:
    if name == "trainable_tokens":
        return None  # the embedding, which peft finds by itself
    if name == "ln_tuning" and target_modules is None:
        return norm_layers(model)
    if name == "ia3" and target_modules is None:
        target_modules = TARGET_WORDS
    return find_targets(model, task, target_modules, base.id)


def _fields(config_class: type[PeftConfig]) -> set[str]:
    return {field.name for field in dataclasses.fields(config_class)}


def _task_type(task: str) -> str:
    return "SEQ_CLS" if task in ON_TOP else "CAUSAL_LM"


def _is_transposed(model: PreTrainedModel) -> bool:
    """peft must be told that GPT-2's Conv1D keeps its weight transposed."""
    return any(isinstance(module, Conv1D) for module in model.modules())


def _unsuited(name: str, base: BaseFacts, error: Exception) -> RecipeError:
    reason = str(error).strip().splitlines()
    return RecipeError(
        "E0535",
        f"method.type = {name} can't be put on the base {base.id} with these values",
        why=f"peft says: {reason[0][:300] if reason else type(error).__name__}",
        hint="change method.options or method.target_modules, or use --set method.type=lora",
    )
