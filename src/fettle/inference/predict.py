"""What a model says about rows: label probabilities, losses, representations.

In: a model and tokenized rows. Out: plain Python values or numpy arrays in row order. Must not
know: metrics, files, text.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache

from fettle.data.batches import evaluation_batches
from fettle.inference.mode import inference
from fettle.models.forward import (
    class_logits,
    device_of,
    next_token_logits,
    pooled,
    token_losses,
    unwrapped,
)
from fettle.models.machine import out_of_memory
from fettle.models.packed import plain_attention
from fettle.records.tokens import Batch, TokenizedExample

T = TypeVar("T")


def predict_labels(
    model: torch.nn.Module,
    rows: Sequence[TokenizedExample],
    labels: Sequence[str],
    pad_id: int,
    micro_batch_tokens: int,
    multi_label: bool = False,
) -> list[dict[str, float]]:
    """Probabilities of the labels.

    Args:
        model: a sequence-classification model.
        rows: to classify.
        labels: names in the order of the class indices.
        pad_id: fills up short rows.
        micro_batch_tokens: most padded tokens in a forward pass.
        multi_label: each label has its own yes or no.

    Returns:
        For each row label → probability in float64; they sum to 1 (softmax), for ``multi_label``
        each is by itself (sigmoid).
    """

    def of_batch(batch: Batch) -> list[dict[str, float]]:
        logits_BK = class_logits(model, batch, pad_id).double()
        probabilities_BK = logits_BK.sigmoid() if multi_label else logits_BK.softmax(dim=-1)
        return [dict(zip(labels, row, strict=True)) for row in probabilities_BK.tolist()]

    return _for_rows(model, rows, micro_batch_tokens, of_batch)


def predict_numbers(
    model: torch.nn.Module,
    rows: Sequence[TokenizedExample],
    pad_id: int,
    micro_batch_tokens: int,
    mean: float,
    spread: float,
) -> list[float]:
    """The number that a regression model says for each row.

    Args:
        model: a sequence-classification model with one output.
        rows: to predict.
        pad_id: fills up short rows.
        micro_batch_tokens: most padded tokens in a forward pass.
        mean: of the training rows' numbers.
        spread: their standard deviation; the model's output counts in it.

    Returns:
        Numbers in the unit of the data.
    """

    def of_batch(batch: Batch) -> list[float]:
        found: list[float] = class_logits(model, batch, pad_id)[:, 0].double().tolist()
        return [mean + spread * value for value in found]

    return _for_rows(model, rows, micro_batch_tokens, of_batch)


def row_losses(
    model: torch.nn.Module,
    rows: Sequence[TokenizedExample],
    pad_id: int,
    micro_batch_tokens: int,
) -> list[tuple[float, int]]:
    """Loss of every row's trained tokens.

    Every trained token counts as one here: weights shape the training, not the judgement.

    Args:
        model: a causal language model.
        rows: with loss masks.
        pad_id: fills up short rows.
        micro_batch_tokens: most padded tokens in a forward pass.

    Returns:
        For each row the sum in nats and the number of targets.
    """

    def of_batch(batch: Batch) -> list[tuple[float, int]]:
        plain = Batch(tuple(_unweighted(row) for row in batch.rows))
        sum_B, _ = token_losses(model, plain, pad_id)
        return list(zip(sum_B.tolist(), (row.num_targets for row in plain.rows), strict=True))

    return _for_rows(model, rows, micro_batch_tokens, of_batch)


def representations(
    model: torch.nn.Module,
    rows: Sequence[TokenizedExample],
    pad_id: int,
    micro_batch_tokens: int,
) -> NDArray[np.float32]:
    """Mean-pooled last hidden states of the untouched base (adapters are switched off).

    Args:
        model: any model of ``models.load``.
        rows: to represent.
        pad_id: fills up short rows.
        micro_batch_tokens: most padded tokens in a forward pass.

    Returns:
        [N, H] in row order.
    """

    def of_batch(batch: Batch) -> list[NDArray[np.float32]]:
        return list(pooled(model, batch, pad_id).cpu().numpy())

    vectors = _for_rows(model, rows, micro_batch_tokens, of_batch)
    width = unwrapped(model).config.hidden_size
    return np.stack(vectors) if vectors else np.zeros((0, width), dtype=np.float32)


def label_likelihoods(
    model: torch.nn.Module,
    prompts: Sequence[Sequence[int]],
    labels: Mapping[str, Sequence[int]],
    micro_batch_tokens: int,
) -> list[dict[str, float]]:
    """Zero-shot scores: how likely a decoder finds each label as the continuation of a prompt.

    Each prompt is computed once and its cache shared by all labels.

    Args:
        model: a causal language model.
        prompts: token ids, none empty.
        labels: label → its token ids, none empty.
        micro_batch_tokens: most tokens (prompt and label) in a forward pass.

    Returns:
        For each prompt label → mean log-probability of the label's tokens, in nats.
    """
    device = device_of(model)
    longest = max(len(ids) for ids in labels.values())
    scores: list[dict[str, float]] = []
    with inference(model):
        for prompt in prompts:
            prompt_1T = torch.tensor([list(prompt)], device=device)
            first_1V, cache = next_token_logits(
                model,
                input_ids=prompt_1T,
                past_key_values=DynamicCache(config=unwrapped(model).config),
            )
            first_V = torch.log_softmax(first_1V[0], dim=-1)
            at_once = max(1, micro_batch_tokens // (len(prompt) + longest))
            names = list(labels)
            row: dict[str, float] = {}
            for start in range(0, len(names), at_once):
                part = names[start : start + at_once]
                row |= _score_labels(model, {n: labels[n] for n in part}, first_V, cache)
            scores.append(row)
    return scores


def _score_labels(
    model: torch.nn.Module,
    labels: Mapping[str, Sequence[int]],
    first_V: Tensor,
    prompt_cache: DynamicCache,
) -> dict[str, float]:
    """Mean log-probability of each label after the prompt in the cache."""
    totals = {name: float(first_V[ids[0]]) for name, ids in labels.items()}
    longer = [name for name, ids in labels.items() if len(ids) > 1]
    if longer:
        cache = copy.deepcopy(prompt_cache)  # the forward pass below writes into it
        cache.batch_repeat_interleave(len(longer))
        # The last token of a label predicts nothing. Padding stands behind, where no token looks.
        width = max(len(labels[name]) for name in longer) - 1
        inputs = [[*labels[name][:-1]] + [0] * (width + 1 - len(labels[name])) for name in longer]
        with plain_attention(unwrapped(model)):
            logits_KTV = unwrapped(model)(
                input_ids=torch.tensor(inputs, device=first_V.device),
                past_key_values=cache,
                use_cache=True,
            ).logits
        log_probs_KTV = torch.log_softmax(logits_KTV.float(), dim=-1)
        for index, name in enumerate(longer):
            rest = torch.tensor(list(labels[name][1:]), device=first_V.device)
            places = torch.arange(len(rest), device=first_V.device)
            totals[name] += float(log_probs_KTV[index, places, rest].sum())
    return {name: total / len(labels[name]) for name, total in totals.items()}


def _unweighted(row: TokenizedExample) -> TokenizedExample:
    if all(weight in (0, 1) for weight in row.loss_mask):
        return row
    return replace(row, loss_mask=tuple(float(weight > 0) for weight in row.loss_mask))


def _in_memory(batch: Batch, of_batch: Callable[[Batch], Sequence[T]]) -> list[T]:
    """The values of a batch, in two halves where the whole does not fit into memory."""
    try:
        return list(of_batch(batch))
    except (RuntimeError, MemoryError) as error:
        if len(batch.rows) == 1 or not out_of_memory(error):
            raise
    half = len(batch.rows) // 2
    first, second = Batch(batch.rows[:half]), Batch(batch.rows[half:])
    return [*_in_memory(first, of_batch), *_in_memory(second, of_batch)]


def _for_rows(
    model: torch.nn.Module,
    rows: Sequence[TokenizedExample],
    micro_batch_tokens: int,
    of_batch: Callable[[Batch], Sequence[T]],
) -> list[T]:
    """Apply a function batch by batch and give its values in the order of the rows."""
    values: dict[int, T] = {}
    with inference(model):
        for batch in evaluation_batches(rows, micro_batch_tokens):
            for row, value in zip(batch.rows, _in_memory(batch, of_batch), strict=True):
                values[id(row)] = value  # batches hold the very objects, whatever their ids say
    return [values[id(row)] for row in rows]
