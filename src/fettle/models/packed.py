"""Rows without padding: a micro-batch's tokens in one line, each row attending to itself alone.

In: a transformers model that ``use_padding_free`` switched over; a ``Batch``. Out: hidden states
of the tokens that are asked for. Must not know: losses, heads, optimizers, adapters.

Everything but attention works token by token, so a line of T real tokens needs no rectangle. The
attention function is registered with transformers under the name ``PADDING_FREE``. Which tokens are
a row reaches it as the keyword argument ``packed_rows``: the models hand it down as they do for
flash attention. transformers builds no mask for a name without a mask function of its own, so this
one has none, and a model switched over must only be called through here, or inside
``plain_attention``.

Shapes: B rows, T tokens of all rows together, L tokens of a row, W rows of one length, A heads,
G key-value heads, D head size, H hidden size, N tokens that are asked for.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel

from fettle.data.batches import num_shared_tokens
from fettle.models import varlen
from fettle.models.catalog import ARCHITECTURES, DROPOUTS
from fettle.records.tokens import Batch, TokenizedExample

PADDING_FREE = "fettle_padding_free"
SHARED_PREFIX = "fettle_shared_prefix"
"""As above, and what all rows begin with is computed once."""


@dataclass(frozen=True, slots=True)
class PackedRows:
    """The rows of a batch in one line, short ones first, so that equal lengths stand together."""

    rows: tuple[TokenizedExample, ...]
    """In the order of the line."""
    order: tuple[int, ...]
    """order[i] is the place in the batch of the i-th row of the line."""
    runs: tuple[tuple[int, int], ...]
    """(number of rows, own length) of each stretch of rows of one length; these go through
    attention together."""
    num_shared: int = 0
    """Tokens that all rows begin with: they stand at the head of the line, once, and a row's own
    tokens are those behind them."""

    @property
    def starts(self) -> list[int]:
        """Where the own tokens of each row begin."""
        starts, place = [], self.num_shared
        for row in self.rows:
            starts.append(place)
            place += row.num_tokens - self.num_shared
        return starts

    def place(self, start: int, token: int) -> int:
        """Where a row's token is, counted from 0 with the shared ones; ``start`` is the row's."""
        return token if token < self.num_shared else start + token - self.num_shared


def pack_rows(batch: Batch, share: bool = False) -> PackedRows:
    """Put the rows of a batch in line, by length; rows of one length keep their order.

    Args:
        batch: B rows.
        share: whether what all of them begin with is put there once. Each row keeps a token of its
            own at least.
    """
    order = sorted(range(len(batch.rows)), key=lambda index: batch.rows[index].num_tokens)
    rows = tuple(batch.rows[index] for index in order)
    num_shared = num_shared_tokens(rows) if share else 0
    lengths = groupby(row.num_tokens - num_shared for row in rows)
    runs = tuple((sum(1 for _ in same), length) for length, same in lengths)
    return PackedRows(rows, tuple(order), runs, num_shared)


def use_padding_free(model: PreTrainedModel, share_prefix: bool = False) -> bool:
    """Switch a model over to computing without padding, where its architecture can be.

    Args:
        model: a transformers model (for one with adapters, the model inside).
        share_prefix: compute what all rows of a batch begin with only once. Only decoders can, and
            only without dropout, which would have to draw for each row anew.

    Returns:
        Whether it was switched; False leaves it as it was.
    """
    architecture = ARCHITECTURES[model.config.model_type]
    if architecture.packing is None:
        return False
    shares = share_prefix and architecture.kind == "decoder" and not has_dropout(model)
    model.set_attn_implementation(SHARED_PREFIX if shares else PADDING_FREE)
    return True


def is_padding_free(model: PreTrainedModel) -> bool:
    """Whether a model was switched over."""
    return model.config._attn_implementation in (PADDING_FREE, SHARED_PREFIX)


def shares_prefix(model: PreTrainedModel) -> bool:
    """Whether a model that was switched over computes a common beginning once."""
    return model.config._attn_implementation == SHARED_PREFIX


def shared_by_all(model: torch.nn.Module, rows: Sequence[TokenizedExample]) -> int:
    """Tokens that all these rows begin with, where the model computes them once; else 0."""
    parts = (part for part in model.modules() if isinstance(part, PreTrainedModel))
    return num_shared_tokens(rows) if any(map(shares_prefix, parts)) else 0


def has_dropout(model: torch.nn.Module) -> bool:
    """Whether anything is dropped at random in training: in a layer, an adapter or attention."""
    layers = any(isinstance(part, torch.nn.Dropout) and part.p > 0 for part in model.modules())
    return layers or any(getattr(model.config, name, 0) for name in DROPOUTS)


@contextmanager
def plain_attention(model: PreTrainedModel) -> Iterator[None]:
    """Compute as stock transformers does: rectangles, masks and a key-value cache work inside.

    Args:
        model: a transformers model; one that was not switched over stays as it is.
    """
    if not is_padding_free(model):
        yield
        return
    own = model.config._attn_implementation
    model.set_attn_implementation(ARCHITECTURES[model.config.model_type].attention)
    try:
        yield
    finally:
        model.set_attn_implementation(own)


def packed_inputs(model: PreTrainedModel, packed: PackedRows) -> dict[str, Any]:
    """What the model's forward pass takes: ``input_ids`` [1, T], ``position_ids`` [1, T] and the
    rows."""
    device = next(model.parameters()).device
    packing = ARCHITECTURES[model.config.model_type].packing
    assert packing is not None, "the model can't have been switched over"
    shared = packed.num_shared
    ids = [*packed.rows[0].input_ids[:shared]]
    ids += [token for row in packed.rows for token in row.input_ids[shared:]]
    if packing.positions_after_pad:
        places = _places_after_pad(packed.rows, model.config.pad_token_id)
    else:
        places = [*range(shared)]
        places += [place for row in packed.rows for place in range(shared, row.num_tokens)]
    inputs = {
        "input_ids": torch.tensor([ids], dtype=torch.int64, device=device),
        "position_ids": torch.tensor([places], dtype=torch.int64, device=device),
        "packed_rows": packed,
    }
    if ARCHITECTURES[model.config.model_type].kind == "decoder":
        inputs["use_cache"] = False
    return inputs


def packed_states(
    model: PreTrainedModel, packed: PackedRows, wanted_N: Tensor | None = None
) -> Tensor:
    """Last hidden states of the tokens that are asked for.

    What of the last block works token by token is computed for these tokens only.

    Args:
        model: switched over.
        packed: the rows.
        wanted_N: places in the line; None = all of them.

    Returns:
        [N, H].
    """
    inputs = packed_inputs(model, packed)
    if wanted_N is None:
        return model.base_model(**inputs).last_hidden_state[0]
    # Rows may be read at one and the same shared token: computed once, else its gradient would be
    # counted once too often for each.
    wanted_U, back_N = wanted_N.to(inputs["input_ids"].device).unique(return_inverse=True)
    with last_block_for(model, wanted_U) as narrowed:
        hidden_XH = model.base_model(**inputs).last_hidden_state[0]
    hidden_UH = hidden_XH if narrowed else hidden_XH.index_select(0, wanted_U)
    return hidden_UH.index_select(0, back_N)


@contextmanager
def last_block_for(model: PreTrainedModel, wanted_N: Tensor) -> Iterator[bool]:
    """Spare the last block the tokens that nobody reads; exact for those that are asked for.

    Forward hooks on the parts that follow its attention cut their input to N tokens. A part that
    adds what came before to its own result (``narrow``) takes both in, and everything behind it has
    N tokens; any other (``scatter``) hands back a line of T, zero where nobody reads.

    Args:
        model: switched over.
        wanted_N: places in the line.

    Yields:
        Whether the hidden states have N tokens now instead of T.
    """
    packing = ARCHITECTURES[model.config.model_type].packing
    assert packing is not None, "the model can't have been switched over"
    if packing.blocks is None:
        yield False
        return
    block = model.base_model.get_submodule(packing.blocks)[-1]
    num_tokens: list[int] = []

    def cut(module: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        num_tokens[:] = [inputs[0].shape[1]]
        return tuple(
            item.index_select(1, wanted_N) if isinstance(item, Tensor) else item for item in inputs
        )

    def put_back(module: torch.nn.Module, inputs: tuple[Any, ...], output_1NH: Tensor) -> Tensor:
        line_1TH = output_1NH.new_zeros(1, num_tokens[0], output_1NH.shape[-1])
        return line_1TH.index_copy(1, wanted_N, output_1NH)

    with ExitStack() as hooks:
        for name in packing.narrow:
            hooks.enter_context(_removed(block.get_submodule(name).register_forward_pre_hook(cut)))
        for name in packing.scatter:
            part = block.get_submodule(name)
            hooks.enter_context(_removed(part.register_forward_pre_hook(cut)))
            hooks.enter_context(_removed(part.register_forward_hook(put_back)))
        yield bool(packing.narrow)


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    packed_rows: PackedRows | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention of each row to itself; transformers calls it. All rows at once where the device
    has a kernel for that, else those of one length together.

    Args:
        module: the attention layer; ``is_causal`` is read from it unless it is given.
        query: [1, A, T, D].
        key: [1, G, T, D].
        value: [1, G, T, D].
        attention_mask: None.
        dropout: on the attention weights.
        scaling: of the products; None = 1 / sqrt(D).
        is_causal: whether a token sees only what stands before it.
        sliding_window: a token sees only tokens less than this far away.
        packed_rows: the rows.

    Returns:
        [1, T, A, D], and None for the weights.

    Raises:
        ValueError: the model was called without the rows, or asks for a kind of attention that
            this function does not know.
    """
    if packed_rows is None or attention_mask is not None:
        raise ValueError(
            f"a model set to {PADDING_FREE} was called on padded rows: use fettle.models.forward,"
            " or plain_attention around the call"
        )
    unknown = [name for name in _UNKNOWN if others.get(name) is not None]
    if unknown:
        raise ValueError(f"padding-free attention has no {', '.join(unknown)}")
    causal = module.is_causal if is_causal is None else is_causal
    kernel = varlen.kernel_for(query, value, dropout)
    if kernel is not None:
        line_TAD = varlen.attend_line(
            kernel,
            *(query, key, value),
            packed_rows.runs,
            packed_rows.num_shared,
            scaling,
            causal,
            sliding_window,
        )
    else:
        attend = partial(
            _attend, dropout=dropout, scaling=scaling, causal=causal, window=sliding_window
        )
        line_TAD = _by_runs(query, key, value, packed_rows, attend)
    return line_TAD.unsqueeze(0), None


def _by_runs(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    packed_rows: PackedRows,
    attend: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> Tensor:
    """One call of ``attend`` for the rows of each length; [T, A, D]. What a CPU is fastest with."""
    shared = packed_rows.num_shared
    sizes = [shared, *(number * length for number, length in packed_rows.runs)]
    with _precise(query) as exact:
        # split, not slices: the gradients of slices would each be as long as the whole line.
        queries, keys, values = (exact(x)[0].split(sizes, dim=1) for x in (query, key, value))
        outputs_TAD = []
        if shared:
            outputs_TAD.append(attend(*(x[0].unsqueeze(0) for x in (queries, keys, values))))
        for index, (number, length) in enumerate(packed_rows.runs, start=1):
            query_WALD, key_WGLD, value_WGLD = (
                x[index].unflatten(1, (number, length)).transpose(0, 1)
                for x in (queries, keys, values)
            )
            if shared:
                key_WGLD, value_WGLD = (
                    torch.cat([x[0].expand(number, -1, -1, -1), own], dim=2)
                    for x, own in ((keys, key_WGLD), (values, value_WGLD))
                )
            outputs_TAD.append(attend(query_WALD, key_WGLD, value_WGLD))
    return torch.cat(outputs_TAD)


def _attend(
    query_WALD: Tensor,
    key_WGKD: Tensor,
    value_WGKD: Tensor,
    dropout: float,
    scaling: float | None,
    causal: bool,
    window: int | None,
) -> Tensor:
    """Attention of W rows to themselves and to the K - L tokens before them; [W * L, A, D]."""
    length, seen = query_WALD.shape[2], key_WGKD.shape[2]
    mask_LK = None
    if (window is not None and seen > window) or (causal and seen > length):
        mask_LK = _mask(length, seen, window, causal, query_WALD.device)
    output_WALD = functional.scaled_dot_product_attention(
        query_WALD,
        key_WGKD,
        value_WGKD,
        attn_mask=mask_LK,
        dropout_p=dropout,
        is_causal=causal and mask_LK is None and length > 1,
        scale=scaling,
        enable_gqa=query_WALD.shape[1] != key_WGKD.shape[1],
    )
    return output_WALD.transpose(1, 2).flatten(0, 1)


@contextmanager
def _precise(query: Tensor) -> Iterator[Callable[[Tensor], Tensor]]:
    """Float32 for attention on a CPU, whatever the other products run in.

    There the backward pass of bfloat16 attention takes up to ten times as long on short rows
    (docs/concepts/tried.md), and it is less exact.
    """
    if query.device.type != "cpu":
        yield lambda states: states
        return
    with torch.autocast("cpu", enabled=False):
        yield Tensor.float


_UNKNOWN = ("softcap", "s_aux", "position_bias")


def _mask(length: int, seen: int, window: int | None, causal: bool, device: torch.device) -> Tensor:
    """[L, K], True where the token of the row sees that of the column; the last L of the K tokens
    are those of the rows."""
    place_K = torch.arange(seen, device=device)
    distance_LK = place_K[seen - length :, None] - place_K
    near_LK = distance_LK < (seen if window is None else window)
    return near_LK & (distance_LK >= 0) if causal else near_LK & (distance_LK > -(window or seen))


def _places_after_pad(rows: Sequence[TokenizedExample], pad_id: int) -> list[int]:
    """RoBERTa's positions: they begin behind the pad token's id, and pad tokens take none."""
    places = []
    for row in rows:
        place = pad_id
        for token in row.input_ids:
            place += token != pad_id
            places.append(place if token != pad_id else pad_id)
    return places


@contextmanager
def _removed(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


# A loop over the rows: torch.compile would compile anew for each set of lengths.
for _name in (PADDING_FREE, SHARED_PREFIX):
    AttentionInterface.register(_name, torch.compiler.disable(packed_attention))
