"""Method last_n: train the last blocks, the final norm and the head; freeze everything below.

In: a model of ``load``. Out: the same model, with what is trained marked. Must not know: adapters,
optimizers. No gradient is computed below the first trained block, since nothing there asks for one.
"""

from torch import nn
from transformers import PreTrainedModel

from fettle.errors import RecipeError
from fettle.models.load import ON_TOP
from fettle.models.targets import final_norm, head_modules


def train_last_blocks(model: PreTrainedModel, task: str, layers: int, base_id: str) -> None:
    """Mark what is trained, in place.

    An output head that shares its weight with the embedding stays frozen with it: it can't be
    trained alone.

    Args:
        model: the base.
        task: decides which head there is.
        layers: how many blocks, counted from the last one.
        base_id: for the message.

    Raises:
        RecipeError: E0532, the base has fewer blocks; E0533, its blocks are one and the same.
    """
    blocks = find_blocks(model, base_id)
    check_layers(blocks, layers, base_id)
    model.requires_grad_(False)
    trained: list[nn.Module] = list(blocks[-layers:])
    norm = final_norm(model)
    if norm is not None:
        trained.append(norm)
    if task in ON_TOP:
        children = dict(model.base_model.named_children()) | dict(model.named_children())
        trained += [children[name] for name in head_modules(model)]
    elif not model.config.tie_word_embeddings:
        trained.append(model.get_output_embeddings())
    for module in trained:
        module.requires_grad_(True)


def find_blocks(model: PreTrainedModel, base_id: str) -> nn.ModuleList:
    """The list of the body's blocks.

    Raises:
        RecipeError: E0533, there is none with as many entries as the model has layers (ALBERT runs
            one block again and again).
    """
    number = model.config.num_hidden_layers
    for module in model.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == number:
            return module
    raise RecipeError(
        "E0533",
        f"method.type = last_n: the {number} layers of the base {base_id} share their weights",
        hint="use --set method.type=full or lora, or another base",
    )


def check_layers(blocks: nn.ModuleList, layers: int, base_id: str) -> None:
    """Refuse more blocks than there are: E0532."""
    if layers > len(blocks):
        raise RecipeError(
            "E0532",
            f"method.layers = {layers} is more than the {len(blocks)} blocks of the base {base_id}",
            hint=f"choose at most {len(blocks)}, or --set method.type=full",
        )
