"""Write text: token ids in, token ids out, with a key-value cache.

In: a causal language model and prompts. Out: the new tokens, without the one that ended them. Must
not know: tokenizers, templates, files.

Prompts of a batch are padded on the left, so that all rows grow at the same end; explicit positions
and the mask make each row come out as it does alone.
"""

from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor
from transformers import DynamicCache

from fettle.errors import DataError
from fettle.inference.mode import inference
from fettle.inference.sampling import next_tokens, row_generators
from fettle.models.forward import device_of, next_token_logits, unwrapped
from fettle.models.inspect_base import context_length

BATCH_TOKENS = 8192
"""Prompt and new tokens of a batch together, padding counted."""


def generate(
    model: torch.nn.Module,
    prompt_ids: Sequence[Sequence[int]],
    max_new_tokens: int,
    eos_ids: Collection[int],
    pad_id: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    batch_tokens: int = BATCH_TOKENS,
) -> list[list[int]]:
    """Continue every prompt.

    Args:
        model: a causal language model, with or without adapters.
        prompt_ids: prompts as token ids, none empty.
        max_new_tokens: at most this many for each; fewer where the model's context ends.
        eos_ids: tokens that end an answer; they are not part of it.
        pad_id: fills up short prompts.
        temperature: 0 = greedy.
        top_p: nucleus, see ``sampling``.
        seed: with a temperature above 0, prompt i draws from the stream (seed, i).
        batch_tokens: most tokens in a batch.

    Returns:
        New tokens for each prompt, in the order given. Shorter than max_new_tokens = it ended.

    Raises:
        DataError: E0520, a prompt is empty or fills the whole context.
    """
    limits = _limits(model, prompt_ids, max_new_tokens)
    generators = row_generators(seed, len(prompt_ids))
    answers: list[list[int]] = [[] for _ in prompt_ids]
    with inference(model):
        for active in _like_lengths(prompt_ids, max_new_tokens, batch_tokens):
            decoding = _Decoding(model, [prompt_ids[row] for row in active], pad_id)
            while active:
                choice = next_tokens(
                    decoding.logits_BV, temperature, top_p, [generators[row] for row in active]
                ).tolist()
                going = []
                for place, (row, token) in enumerate(zip(active, choice, strict=True)):
                    if token in eos_ids:
                        continue
                    answers[row].append(token)
                    if len(answers[row]) < limits[row]:
                        going.append(place)
                active = [active[place] for place in going]
                if active:
                    decoding.advance(going, [choice[place] for place in going])
    return answers


def stream(
    model: torch.nn.Module,
    prompt_ids: Sequence[int],
    max_new_tokens: int,
    eos_ids: Collection[int],
    pad_id: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
) -> Iterator[int]:
    """Continue one prompt, token by token; the same tokens as ``generate`` gives for it alone.

    Args:
        model: a causal language model, with or without adapters.
        prompt_ids: one prompt.
        max_new_tokens: at most this many; fewer where the model's context ends.
        eos_ids: tokens that end the answer; not part of it.
        pad_id: see ``generate``.
        temperature: 0 = greedy.
        top_p: nucleus.
        seed: of the random stream.

    Yields:
        Token ids.

    Raises:
        DataError: E0520.
    """
    limit = _limits(model, [prompt_ids], max_new_tokens)[0]
    generators = row_generators(seed, 1)
    # Each step sets and leaves inference mode by itself: the caller's code runs between the steps.
    with inference(model):
        decoding = _Decoding(model, [prompt_ids], pad_id)
    for number in range(1, limit + 1):
        with inference(model):
            token = int(next_tokens(decoding.logits_BV, temperature, top_p, generators))
        if token in eos_ids:
            return
        yield token
        if number < limit:
            with inference(model):
                decoding.advance([0], [token])


class _Decoding:
    """A batch on its way: cache, mask, positions, and the logits of the next token."""

    def __init__(
        self, model: torch.nn.Module, prompts: Sequence[Sequence[int]], pad_id: int
    ) -> None:
        self._model = model
        device = device_of(model)
        length = max(len(prompt) for prompt in prompts)
        rows = [[pad_id] * (length - len(prompt)) + list(prompt) for prompt in prompts]
        real = [[0] * (length - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        self._mask_BT = torch.tensor(real, device=device)
        position_BT = (self._mask_BT.cumsum(dim=1) - 1).clamp_min(0)
        self._next_position_B = position_BT[:, -1] + 1
        self._cache = DynamicCache(config=unwrapped(model).config)
        self.logits_BV = self._forward(torch.tensor(rows, device=device), position_BT)

    def advance(self, rows: list[int], tokens: list[int]) -> None:
        """Go on with these rows of the batch, each one token longer."""
        if len(rows) < len(self._mask_BT):
            kept = torch.tensor(rows, device=self._mask_BT.device)
            self._cache.batch_select_indices(kept)
            self._mask_BT = self._mask_BT[kept]
            self._next_position_B = self._next_position_B[kept]
        self._mask_BT = torch.nn.functional.pad(self._mask_BT, (0, 1), value=1)
        token_B1 = torch.tensor(tokens, device=self._mask_BT.device).unsqueeze(1)
        self.logits_BV = self._forward(token_B1, self._next_position_B.unsqueeze(1))
        self._next_position_B = self._next_position_B + 1

    def _forward(self, input_ids: Tensor, position_ids: Tensor) -> Tensor:
        logits_BV, self._cache = next_token_logits(
            self._model,
            input_ids=input_ids,
            attention_mask=self._mask_BT,
            position_ids=position_ids,
            past_key_values=self._cache,
        )
        return logits_BV


def _limits(
    model: torch.nn.Module, prompts: Sequence[Sequence[int]], max_new_tokens: int
) -> list[int]:
    """How many tokens each prompt may grow by."""
    context = context_length(unwrapped(model).config)
    for index, prompt in enumerate(prompts):
        if not 0 < len(prompt) < context:
            raise DataError(
                "E0520",
                f"prompt {index + 1} has {len(prompt)} tokens; the model takes 1 to {context - 1}",
                hint="shorten the conversation, or choose a base with a longer context",
            )
    return [min(max_new_tokens, context - len(prompt)) for prompt in prompts]


def _like_lengths(
    prompts: Sequence[Sequence[int]], max_new_tokens: int, batch_tokens: int
) -> Iterator[list[int]]:
    """Indices of the prompts in batches of like length, longest first."""
    batch: list[int] = []
    for index in sorted(range(len(prompts)), key=lambda row: -len(prompts[row])):
        longest = len(prompts[batch[0]]) if batch else len(prompts[index])
        if batch and (longest + max_new_tokens) * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
