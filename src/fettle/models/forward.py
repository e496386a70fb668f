"""From token ids to class logits, token losses and pooled states.

In: a model of ``load``, plain or with adapters; a ``Batch``. Out: tensors. Must not know:
optimizers, metrics, text.

A model that ``packed.use_padding_free`` switched over is computed with all rows in one line, any
other on a rectangle. Rows are padded on the right: a causal model never looks there, an encoder is
told by the mask.

Shapes: B rows, T tokens of the longest row (packed: of all rows), H hidden size, K labels, V
vocabulary, N selected tokens.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import Cache, PreTrainedModel

from fettle.models.catalog import ARCHITECTURES
from fettle.models.head_losses import fits, summed_loss
from fettle.models.heads import (
    Finish,
    finish_of,
    in_batch_order,
    packed_class_logits,
    row_means,
)
from fettle.models.packed import (
    is_padding_free,
    pack_rows,
    packed_states,
    plain_attention,
    shares_prefix,
)
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
    if is_padding_free(plain):
        return packed_class_logits(plain, pack_rows(batch, shares_prefix(plain))).float()
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
        Sum of losses [B] in nats, each times its target's weight, and sum of the weights [B]; both
        float32.
    """
    scored = _scored(unwrapped(model), batch, pad_id)
    loss_N = scored.losses()
    empty_B = loss_N.new_zeros(len(batch.rows))
    sums_B = empty_B.index_add(0, scored.row_N, loss_N * scored.weight_N)
    return sums_B, empty_B.index_add(0, scored.row_N, scored.weight_N)


def token_loss_sum(model: torch.nn.Module, batch: Batch, pad_id: int) -> Tensor:
    """The losses of ``token_losses``, each times its row's weight, in one sum to be trained on.

    Where the head is a plain matrix, its gradient is taken chunk by chunk, without keeping logits.

    Args:
        model: a causal language model.
        batch: B rows with loss masks.
        pad_id: see ``pad``.

    Returns:
        Scalar, float32; it can be differentiated once.
    """
    scored = _scored(unwrapped(model), batch, pad_id)
    rows_B = scored.weight_N.new_tensor([row.weight for row in batch.rows])
    weight_N = scored.weight_N * rows_B[scored.row_N]
    if scored.finish is None and fits(scored.head):
        return summed_loss(scored.head, scored.states_NH, scored.target_N, weight_N)
    return (scored.losses() * weight_N).sum()


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
        if is_padding_free(plain):
            packed = pack_rows(batch)
            means_BH = row_means(packed_states(plain, packed).float(), packed)
            return in_batch_order(means_BH, packed)
        inputs = pad(batch, pad_id, device_of(plain))
        hidden_BTH = plain.base_model(**inputs).last_hidden_state.float()
    weight_BT1 = inputs["attention_mask"].unsqueeze(-1).float()
    return (hidden_BTH * weight_BT1).sum(dim=1) / weight_BT1.sum(dim=1)


def next_token_logits(
    model: torch.nn.Module, **inputs: Tensor | Cache | None
) -> tuple[Tensor, Cache]:
    """Scores of the token after the last one of each row, with the key-value cache.

    Always with stock attention: rows that grow token by token are a rectangle.

    Args:
        model: a causal language model.
        inputs: ``input_ids`` [B, T], ``attention_mask``, ``position_ids``, ``past_key_values``.

    Returns:
        Logits [B, V] in float32 and the cache, now longer by T.
    """
    plain = unwrapped(model)
    with plain_attention(plain):
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


class _Scored(NamedTuple):
    """The tokens of a batch that are trained on, N of them, and what predicts them."""

    head: torch.nn.Module
    finish: Finish | None
    """What the model does to the head's products."""
    states_NH: Tensor
    target_N: Tensor
    row_N: Tensor
    """Place in the batch."""
    weight_N: Tensor

    def losses(self) -> Tensor:
        """Losses [N]."""
        return _head_losses(self.head, self.finish, self.states_NH, self.target_N)


def _scored(plain: PreTrainedModel, batch: Batch, pad_id: int) -> _Scored:
    if is_padding_free(plain):
        return _scored_in_line(plain, batch)
    inputs = pad(batch, pad_id, device_of(plain))
    mask_BT = torch.zeros(inputs["input_ids"].shape)
    for index, row in enumerate(batch.rows):
        mask_BT[index, : row.num_tokens] = torch.tensor(row.loss_mask, dtype=torch.float32)
    mask_BT = mask_BT.to(inputs["input_ids"].device)
    # Row b, position t predicts the token at t + 1.
    row_N, position_N = mask_BT[:, 1:].nonzero(as_tuple=True)
    states_BTH = plain.base_model(**inputs, use_cache=False).last_hidden_state
    return _Scored(
        plain.get_output_embeddings(),
        finish_of(plain),
        states_BTH[row_N, position_N],
        inputs["input_ids"][row_N, position_N + 1],
        row_N,
        mask_BT[row_N, position_N + 1],
    )


def _scored_in_line(plain: PreTrainedModel, batch: Batch) -> _Scored:
    """The same of a model that was switched over."""
    packed = pack_rows(batch, shares_prefix(plain))
    # Every token of every row, the shared ones with each row: S of them.
    weight_S = torch.tensor(
        [weight for row in packed.rows for weight in row.loss_mask], dtype=torch.float32
    )
    lengths = torch.tensor([row.num_tokens for row in packed.rows])
    first_S = (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
    token_S = torch.arange(len(weight_S)) - first_S
    weight_S[token_S == 0] = 0.0  # nothing stands before a row's first token to predict it from
    place_N = weight_S.nonzero().squeeze(1)
    row_N = torch.tensor(packed.order).repeat_interleave(lengths)[place_N]
    id_S = torch.tensor([token for row in packed.rows for token in row.input_ids])
    device = device_of(plain)
    shared, before_N = packed.num_shared, token_S[place_N] - 1
    start_N = torch.tensor(packed.starts).repeat_interleave(lengths)[place_N]
    line_N = torch.where(before_N < shared, before_N, start_N + before_N - shared).to(device)
    # A shared token may stand before targets of several rows: it is computed once.
    line_U, use_N = line_N.unique(return_inverse=True) if shared else (line_N, None)
    states_UH = packed_states(plain, packed, line_U)
    return _Scored(
        plain.get_output_embeddings(),
        finish_of(plain),
        states_UH if use_N is None else states_UH.index_select(0, use_N),
        id_S[place_N].to(device),
        row_N.to(device),
        weight_S[place_N].to(device),
    )


def _head_losses(
    head: torch.nn.Module, finish: Finish | None, hidden_NH: Tensor, target_N: Tensor
) -> Tensor:
    """Losses [N], with at most HEAD_ROWS rows of logits in memory at a time."""

    def part(hidden: Tensor, target: Tensor) -> Tensor:
        logits = head(hidden)
        return _losses(logits if finish is None else finish(logits), target)

    if len(target_N) <= HEAD_ROWS:
        return part(hidden_NH, target_N)
    parts = zip(hidden_NH.split(HEAD_ROWS), target_N.split(HEAD_ROWS), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([part(hidden, target) for hidden, target in parts])
    # Without recomputing, backward would keep the logits of all parts. An adapter on the head may
    # drop: the second time the same.
    draws = any(isinstance(item, torch.nn.Dropout) for item in head.modules())
    return torch.cat(
        [
            checkpoint(part, hidden, target, use_reentrant=False, preserve_rng_state=draws)
            for hidden, target in parts
        ]
    )


def _losses(logits_NV: Tensor, target_N: Tensor) -> Tensor:
    return functional.cross_entropy(logits_NV.float(), target_N, reduction="none")
