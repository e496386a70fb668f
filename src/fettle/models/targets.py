"""Which layers of a model a method of training means: by name, by kind, by place.

In: a model of ``load`` (weights on the meta device are enough) and what the recipe asks for. Out:
names of modules, as peft matches them. Must not know: peft, data, optimizers.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from fettle.errors import RecipeError
from fettle.models.load import ON_TOP
from fettle.recipe.methods import TARGET_WORDS

Linear = torch.nn.Linear | Conv1D

_UP_TO_LAST_BLOCK = re.compile(r".*\.\d+\.")
_FINAL_NORMS = ("norm", "final_norm", "final_layernorm", "final_layer_norm", "ln_f")


def body_linears(model: PreTrainedModel) -> list[str]:
    """Names of the linear layers inside the numbered blocks of the body, as peft matches them.

    Embeddings, pooler and head are left out. Each name is what follows the last block number, so
    that ``output.dense`` can't catch a pooler's ``dense``.
    """
    names = {
        _UP_TO_LAST_BLOCK.sub("", name)
        for name, module in model.base_model.named_modules()
        if isinstance(module, Linear) and _UP_TO_LAST_BLOCK.match(f".{name}")
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


def is_attention(name: str) -> bool:
    """Whether a name of ``body_linears`` lies in the attention; all others make up the MLP."""
    return "attn" in name.split(".")[0] or "attention" in name.split(".")[0]


def sides(layer: torch.nn.Module) -> tuple[int, int]:
    """Input and output width of a linear layer; GPT-2's Conv1D stores them the other way round."""
    first, second = layer.weight.shape
    return (first, second) if isinstance(layer, Conv1D) else (second, first)


def find_targets(
    model: PreTrainedModel, task: str, asked: Sequence[str] | None, base_id: str
) -> list[str]:
    """Names of the layers that get an adapter, each of which exists.

    Args:
        model: the base.
        task: a new head is trained in full and takes no adapter.
        asked: names, and the words "attention" and "mlp"; None = every linear layer of the blocks.
        base_id: for the message.

    Raises:
        RecipeError: E0516, a name that no layer has, or an output head that shares its weight with
            the embedding.
    """
    linears = body_linears(model)
    targets: list[str] = []
    for name in asked or linears:
        if name in TARGET_WORDS:
            targets += layers_of(model, name)
            continue
        found = dict(matched(model, task, [name]))
        if not found:
            raise RecipeError(
                "E0516",
                f"method.target_modules: {name!r} is no linear layer of the base {base_id}",
                hint="leave it out (every linear layer), or choose among: "
                + ", ".join([*TARGET_WORDS, *linears]),
            )
        head = model.get_output_embeddings()
        if model.config.tie_word_embeddings and any(module is head for module in found.values()):
            raise RecipeError(
                "E0516",
                f"method.target_modules: {name!r} shares its weight with the embedding of the base"
                f" {base_id}",
                why="An adapter of one of the two would be lost or doubled when it is merged",
                hint="choose among: " + ", ".join([*TARGET_WORDS, *linears]),
            )
        targets.append(name)
    return list(dict.fromkeys(targets))


def layers_of(model: PreTrainedModel, word: str) -> list[str]:
    """Names of all linear layers of one kind, "attention" or "mlp", that catch no other.

    BERT's ``output.dense`` would catch ``attention.output.dense`` as well: such a name stands once
    for each block, with its number.
    """
    linears = body_linears(model)
    names: list[str] = []
    for name in linears:
        if is_attention(name) != (word == "attention"):
            continue
        if any(other.endswith(f".{name}") for other in linears):
            names += [f"{number}.{name}" for number in range(model.config.num_hidden_layers)]
        else:
            names.append(name)
    return names


def matched(
    model: PreTrainedModel, task: str, targets: Sequence[str]
) -> Iterator[tuple[str, torch.nn.Module]]:
    """Linear layers whose full name is a target or ends with one, as peft reads target_modules."""
    heads = head_modules(model) if task in ON_TOP else []
    for name, module in model.named_modules():
        if not isinstance(module, Linear) or any(part in heads for part in name.split(".")):
            continue
        if any(name == target or name.endswith(f".{target}") for target in targets):
            yield name, module


def check_ranks(
    model: PreTrainedModel,
    task: str,
    targets: Sequence[str],
    rank: int,
    rank_pattern: Mapping[str, int],
    alpha_pattern: Mapping[str, float],
) -> None:
    """Every adapter is narrower than its layer, and every pattern names one.

    Args:
        model: the base.
        task: see ``find_targets``.
        targets: from ``find_targets``.
        rank: of every layer that no pattern names.
        rank_pattern: peft's: the key is a regular expression for the end of a layer's name.
        alpha_pattern: alike.

    Raises:
        RecipeError: E0530 a rank above the smaller side of a layer, E0531 a pattern that names no
            layer.
    """
    layers = dict(matched(model, task, targets))
    for field, patterns in (("rank_pattern", rank_pattern), ("alpha_pattern", alpha_pattern)):
        for key in patterns:
            if not any(_fits(key, name, field) for name in layers):
                raise RecipeError(
                    "E0531",
                    f"method.{field}: {key!r} is the name of no layer with an adapter",
                    hint="layers with an adapter: " + ", ".join(sorted(set(targets))),
                )
    for name, layer in layers.items():
        key = next((key for key in rank_pattern if _fits(key, name, "rank_pattern")), None)
        wanted = rank if key is None else rank_pattern[key]
        limit = min(sides(layer))
        if wanted > limit:
            which = "method.rank" if key is None else f"method.rank_pattern of {key!r}"
            raise RecipeError(
                "E0530",
                f"{which} = {wanted} is more than {limit}, the smaller side of the layer {name}",
                why=f"It maps {sides(layer)[0]} numbers to {sides(layer)[1]}; beyond rank {limit}"
                " an adapter only costs more",
                hint=f"choose at most {limit}, another rank for this layer with"
                " method.rank_pattern, or leave it out of method.target_modules",
            )


def final_norm(model: PreTrainedModel) -> torch.nn.Module | None:
    """The norm behind the last block; encoders that norm inside their blocks have none."""
    for name, module in model.base_model.named_children():
        if name in _FINAL_NORMS:
            return module
    return None


def norm_layers(model: PreTrainedModel) -> list[str]:
    """Full names of all norms with weights in the body."""
    body = model.base_model_prefix
    return [
        name
        for name, module in model.named_modules()
        if "norm" in type(module).__name__.lower()
        and any(True for _ in module.parameters())
        and name.split(".")[0] in (body, *dict(model.base_model.named_children()))
    ]


def _fits(pattern: str, name: str, field: str) -> bool:
    """How peft matches a key of rank_pattern (``peft.utils.get_pattern_key``)."""
    try:
        return re.match(rf"(.*\.)?({pattern})$", name) is not None
    except re.error as error:
        raise RecipeError(
            "E0531",
            f"method.{field}: {pattern!r} is not a regular expression: {error}",
            hint="a plain name such as q_proj does",
        ) from error
