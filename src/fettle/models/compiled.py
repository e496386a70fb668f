"""Blocks compiled by torch.compile, each by itself.

In: a model of ``load``, with or without adapters. Out: the same model; its weights keep their
names. Must not know: training, batches.
"""

from torch import nn
from transformers import PreTrainedModel

from fettle.models.last_blocks import find_blocks


def compile_blocks(model: PreTrainedModel, base_id: str) -> int:
    """Compile all blocks but the last, which is computed for a few tokens alone.

    One block at a time: they are alike, so that one compilation serves all. The number of tokens is
    left open, so that another length does not compile again.

    Args:
        model: the transformers model (with adapters: the model inside); changed in place.
        base_id: for the message.

    Returns:
        How many blocks were compiled.

    Raises:
        RecipeError: E0533, the blocks share one set of weights.
    """
    blocks: list[nn.Module] = list(find_blocks(model, base_id))[:-1]
    for block in blocks:
        block.compile(dynamic=True)
    return len(blocks)
