"""Heads: which tokens a classifier reads and how those become class logits; what some decoders do
to the products of their output head.

In: hidden states of one line of rows (``packed``), or products of an output head. Out: logits. Must
not know: attention, padding, losses.

Stock transformers computes a head inside the same forward pass as the body, on a rectangle of rows.
Each function here calls the same modules in the same order on the tokens that the head reads; that
they agree is checked for every architecture in tests/equivalence.

Shapes: B rows, N tokens that are read, H hidden size, K labels, V vocabulary.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedConfig, PreTrainedModel

from fettle.models.catalog import ARCHITECTURES
from fettle.models.packed import PackedRows, packed_states

Finish = Callable[[Tensor], Tensor]


def packed_class_logits(model: PreTrainedModel, packed: PackedRows) -> Tensor:
    """Scores of the labels, in the order of the batch.

    Args:
        model: a sequence-classification model that was switched over to ``PADDING_FREE``.
        packed: the rows.

    Returns:
        Logits [B, K] in the dtype of the head.
    """
    architecture = ARCHITECTURES[model.config.model_type]
    assert architecture.packing is not None, "the model can't have been switched over"
    if architecture.kind == "decoder":
        wanted = last_tokens(packed, model.config.get_text_config().pad_token_id)
        logits_BK = model.score(packed_states(model, packed, torch.tensor(wanted)))
    elif architecture.packing.head == "modernbert" and model.config.classifier_pooling == "mean":
        logits_BK = _modernbert(model, row_means(packed_states(model, packed), packed))
    else:
        states_BH = packed_states(model, packed, torch.tensor(packed.starts))
        logits_BK = _OF_FIRST_TOKEN[architecture.packing.head](model, states_BH)
    return in_batch_order(logits_BK, packed)


def finish_of(model: PreTrainedModel) -> Finish | None:
    """What a causal language model makes of ``lm_head(hidden state)``; None = these are its logits.

    Known apart from the model's own forward pass, it can be done for a few tokens at a time: the
    logits of all of them never stand in memory together.
    """
    if ARCHITECTURES[model.config.model_type].plain_head:
        return None
    return partial(_FINISH[model.config.model_type], model.config)


def _scaled(config: PreTrainedConfig, logits_NV: Tensor) -> Tensor:
    return logits_NV * config.logit_scale


def _divided(config: PreTrainedConfig, logits_NV: Tensor) -> Tensor:
    return logits_NV / config.logits_scaling


def _capped(config: PreTrainedConfig, logits_NV: Tensor) -> Tensor:
    cap = config.final_logit_softcapping
    return logits_NV if cap is None else torch.tanh(logits_NV / cap) * cap


_FINISH: dict[str, Callable[[PreTrainedConfig, Tensor], Tensor]] = {
    "cohere": _scaled,
    "gemma2": _capped,
    "gemma3_text": _capped,
    "granite": _divided,
}


def last_tokens(packed: PackedRows, pad_id: int | None) -> list[int]:
    """Place in the line of each row's last token that is no pad token; of its first if all are."""
    places = []
    for start, row in zip(packed.starts, packed.rows, strict=True):
        real = (i for i in reversed(range(row.num_tokens)) if row.input_ids[i] != pad_id)
        places.append(packed.place(start, next(real, 0)))
    return places


def row_means(states_TH: Tensor, packed: PackedRows) -> Tensor:
    """Mean over the tokens of each row: [T, H] -> [B, H], in the order of the line."""
    means = [
        part_XH.unflatten(0, (number, length)).mean(dim=1)
        for part_XH, (number, length) in zip(
            states_TH.split([number * length for number, length in packed.runs]),
            packed.runs,
            strict=True,
        )
    ]
    return torch.cat(means)


def in_batch_order(values_BX: Tensor, packed: PackedRows) -> Tensor:
    """Values of the rows, from the order of the line into that of the batch."""
    if packed.order == tuple(range(len(packed.order))):
        return values_BX
    back = sorted(range(len(packed.order)), key=packed.order.__getitem__)
    return values_BX[torch.tensor(back, device=values_BX.device)]


def _pooler(model: PreTrainedModel, states_BH: Tensor) -> Tensor:
    pooled_BH = model.base_model.pooler(states_BH.unsqueeze(1))
    return model.classifier(model.dropout(pooled_BH))


def _albert(model: PreTrainedModel, states_BH: Tensor) -> Tensor:
    pooled_BH = model.base_model.pooler_activation(model.base_model.pooler(states_BH))
    return model.classifier(model.dropout(pooled_BH))


def _classifier(model: PreTrainedModel, states_BH: Tensor) -> Tensor:
    return model.classifier(states_BH.unsqueeze(1))


def _distilbert(model: PreTrainedModel, states_BH: Tensor) -> Tensor:
    pooled_BH = functional.relu(model.pre_classifier(states_BH))
    return model.classifier(model.dropout(pooled_BH))


def _modernbert(model: PreTrainedModel, states_BH: Tensor) -> Tensor:
    return model.classifier(model.drop(model.head(states_BH)))


_OF_FIRST_TOKEN: dict[str, Callable[[PreTrainedModel, Tensor], Tensor]] = {
    "albert": _albert,
    "classifier": _classifier,
    "distilbert": _distilbert,
    "modernbert": _modernbert,
    "pooler": _pooler,
}
