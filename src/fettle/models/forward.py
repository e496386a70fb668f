"""From token ids to class logits, token losses and pooled states.

In: a model of ``load``, plain or with adapters; a ``Batch``. Out: tensors. Must not know:
optimizers, metrics, text.

Shapes: B rows, T tokens of the longest row, H hidden size, K labels, V vocabulary, N selected
tokens. Rows are padded on the right: a causal model never looks there, an encoder is told by
the mask.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import Cache, PreTrainedModel

from fettle.models.catalog import ARCHITECTURES
from fettle.records.tokens import Batch

HEAD_ROWS = 1024
"""Tokens that go through the output head at a time; bounds the [N, V] logits in memory."""


def pad(batch: Batch, pad_id: int, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Put the rows of a batch into rectangles, filled up on the right.

    Args:
        batch: B rows of any length.
        pad_id: token id that fills up; the mask hides it.
        device: where the tensors go.

    Returns:
        ``input_ids`` [B, T] and ``attention_mask`` [B, T] (1 = a real token), both int64.
    """
    length = max(row.num_tokens for row in batch.rows)
    input_ids = torch.full((len(batch.rows), length), pad_id, dtype=torch.int64)
    mask = torch.zeros_like(input_ids)
    for index, row in enumerate(batch.rows):
        input_ids[index, : row.num_tokens] = torch.tensor(row.input_ids, dtype=torch.int64)
        mask[index, : row.num_tokens] = 1
    return {"input_ids": input_ids.to(device), "attention_mask": mask.to(device)}


def class_logits(model: torch.nn.Module, batch: Batch, pad_id: int) -> Tensor:
    """Scores of the labels, exactly as stock transformers computes them.

    A decoder is read at its last token that is not ``config.pad_token_id``.

    Args:
        model: a sequence-classification model.
        batch: B rows.
        pad_id: see ``pad``.

    Returns:
        Logits [B, K] in float32.
    """
    plain = unwrapped(model)
    return plain(**pad(batch, pad_id, device_of(plain))).logits.float()


def token_losses(model: torch.nn.Module, batch: Batch, pad_id: int) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the trained tokens of every row, each predicted from the tokens before it.

    Only positions whose next token is trained go through the output head: with a large vocabulary
    and short answers the head is a good part of the whole step.

    Args:
        model: a causal language model.
        batch: B rows with loss masks.
        pad_id: see ``pad``.

    Returns:
        Sum of losses [B] in nats, float32, and number of targets [B], int64.
    """
    plain = unwrapped(model)
    inputs = pad(batch, pad_id, device_of(plain))
    mask_BT = torch.zeros_like(inputs["input_ids"], dtype=torch.bool)
    for index, row in enumerate(batch.rows):
        mask_BT[index, : row.num_tokens] = torch.tensor(row.loss_mask, dtype=torch.bool)
    # Row b, position t predicts the token at t + 1.
    row_N, position_N = mask_BT[:, 1:].nonzero(as_tuple=True)
    target_N = inputs["input_ids"][row_N, position_N + 1]
    if ARCHITECTURES[plain.config.model_type].plain_head:
        hidden_BTH = plain.base_model(**inputs, use_cache=False).last_hidden_state
        hidden_NH = hidden_BTH[row_N, position_N]
        loss_N = _head_losses(plain.get_output_embeddings(), hidden_NH, target_N)
    else:
        logits_BTV = plain(**inputs, use_cache=False).logits
        loss_N = _losses(logits_BTV[row_N, position_N], target_N)
    sums_B = loss_N.new_zeros(len(batch.rows)).index_add(0, row_N, loss_N)
    return sums_B, mask_BT[:, 1:].sum(dim=1)


def pooled(model: torch.nn.Module, batch: Batch, pad_id: int) -> Tensor:
    """Mean of the last hidden states over the real tokens of each row, of the untouched base.

    Adapters are switched off; call it before full fine-tuning, which changes the base itself.

    Args:
        model: any model of ``load``, with or without adapters.
        batch: B rows.
        pad_id: see ``pad``.

    Returns:
        Representations [B, H] in float32.
    """
    with model.disable_adapter() if isinstance(model, PeftModel) else nullcontext():
        plain = unwrapped(model)
        inputs = pad(batch, pad_id, device_of(plain))
        hidden_BTH = plain.base_model(**inputs).last_hidden_state.float()
    weight_BT1 = inputs["attention_mask"].unsqueeze(-1).float()
    return (hidden_BTH * weight_BT1).sum(dim=1) / weight_BT1.sum(dim=1)


def next_token_logits(
    model: torch.nn.Module, **inputs: Tensor | Cache | None
) -> tuple[Tensor, Cache]:
    """Scores of the token after the last one of each row, with the key-value cache.

    Args:
        model: a causal language model.
        inputs: ``input_ids`` [B, T], ``attention_mask``, ``position_ids``, ``past_key_values``.

    Returns:
        Logits [B, V] in float32 and the cache, now longer by T.
    """
    plain = unwrapped(model)
    if ARCHITECTURES[plain.config.model_type].plain_head:
        output = plain.base_model(**inputs, use_cache=True)
        logits_BV = plain.get_output_embeddings()(output.last_hidden_state[:, -1])
    else:
        output = plain(**inputs, use_cache=True, logits_to_keep=1)
        logits_BV = output.logits[:, -1]
    return logits_BV.float(), output.past_key_values


def unwrapped(model: torch.nn.Module) -> PreTrainedModel:
    """The transformers model inside; its layers keep the adapters that peft put into them."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def device_of(model: torch.nn.Module) -> torch.device:
    """Where the model's parameters are."""
    return next(model.parameters()).device


@contextmanager
def autocast(dtype: str, device: str = "cpu") -> Iterator[None]:
    """Run matrix products in this dtype; weights and losses stay in float32.

    Args:
        dtype: float32 (changes nothing) or bfloat16.
        device: cpu, cuda or mps.
    """
    if dtype == "float32":
        yield
        return
    with torch.autocast(device, dtype=getattr(torch, dtype)):
        yield


def _head_losses(head: torch.nn.Module, hidden_NH: Tensor, target_N: Tensor) -> Tensor:
    """Losses [N], with at most HEAD_ROWS rows of logits in memory at a time."""
    if len(target_N) <= HEAD_ROWS:
        return _losses(head(hidden_NH), target_N)

    def part(hidden: Tensor, target: Tensor) -> Tensor:
        return _losses(head(hidden), target)

    parts = zip(hidden_NH.split(HEAD_ROWS), target_N.split(HEAD_ROWS), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([part(hidden, target) for hidden, target in parts])
    # Without recomputing, backward would keep the logits of all parts.
    return torch.cat(
        [
            checkpoint(part, hidden, target, use_reentrant=False, preserve_rng_state=False)
            for hidden, target in parts
        ]
    )


def _losses(logits_NV: Tensor, target_N: Tensor) -> Tensor:
    return functional.cross_entropy(logits_NV.float(), target_N, reduction="none")
