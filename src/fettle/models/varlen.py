"""Attention of a whole line of rows in one call, on accelerators that have a kernel for it.

In: queries, keys and values of a line, and how long its rows are. Out: what the loop over the rows
in ``packed`` gives, but for rounding. Must not know: models, batches, losses.

A loop costs a GPU one launch for every length in every layer, and a mask where a window or a shared
beginning is involved; the kernel takes all rows at once and knows windows itself.

Shapes: T tokens of all rows together, K keys of all rows together, A heads, G key-value heads, D
head size, S segments.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module

import torch
from torch import Tensor

Kernel = Callable[..., Tensor]
"""``torch.nn.attention.varlen.varlen_attn``, or what takes the same arguments."""

HALVES = (torch.bfloat16, torch.float16)
LARGEST_HEAD = 256
"""FlashAttention 2, which torch brings along, has no kernel for a larger head."""

# A build without CUDA has no use for it, and importing it takes a third of a second.
_TORCHS: Kernel | None = None
if torch.backends.cuda.is_built():
    _TORCHS = import_module("torch.nn.attention.varlen").varlen_attn


@dataclass(frozen=True, slots=True)
class Segments:
    """Where rows begin and end, as the kernel wants it."""

    queries_S1: Tensor
    """First query of each segment, and the end of the last; int32 on the device."""
    keys_S1: Tensor
    longest_query: int
    longest_key: int
    key_places_K: Tensor | None
    """Which of (copies of the shared keys, then the own ones) each key is; None = the own ones."""


def kernel_for(query: Tensor, value: Tensor, dropout: float) -> Kernel | None:
    """The kernel that computes these inputs; None where there is none.

    Args:
        query: [1, A, T, D].
        value: [1, G, T, D].
        dropout: on the attention weights; the kernel has none.
    """
    if query.device.type != "cuda" or dropout or _compute_dtype(query) not in HALVES:
        return None
    size = query.shape[-1]
    if size % 8 or size > LARGEST_HEAD or value.shape[-1] != size:
        return None
    return _TORCHS if _is_new_enough(query.device) else None


def attend_line(
    kernel: Kernel,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    runs: tuple[tuple[int, int], ...],
    num_shared: int,
    scaling: float | None,
    causal: bool,
    window: int | None,
) -> Tensor:
    """Attention of each row to itself and to what all rows begin with.

    Args:
        kernel: see ``kernel_for``.
        query: [1, A, T, D].
        key: [1, G, T, D].
        value: [1, G, T, D].
        runs: (number of rows, own length) of each stretch of rows of one length.
        num_shared: tokens at the head of the line that every row begins with.
        scaling: of the products; None = 1 / sqrt(D).
        causal: whether a token sees only what stands before it.
        window: a token sees only tokens less than this far away.

    Returns:
        [T, A, D].
    """
    # Autocast knows torch's other attention functions, but not this one.
    dtype = _compute_dtype(query)
    query_TAD, key_TGD, value_TGD = (
        states[0].transpose(0, 1).to(dtype) for states in (query, key, value)
    )
    found = segments(runs, num_shared, query.device)
    if found.key_places_K is not None:
        key_TGD, value_TGD = (
            _with_shared(states, num_shared, found.key_places_K) for states in (key_TGD, value_TGD)
        )
    near = -1 if window is None else window - 1
    grouped = {"enable_gqa": True} if query.shape[1] != key.shape[1] else {}
    return kernel(
        query_TAD,
        key_TGD,
        value_TGD,
        found.queries_S1,
        found.keys_S1,
        found.longest_query,
        found.longest_key,
        scale=scaling,
        # Where a segment has more keys than queries, the last query sees the last key.
        window_size=(near, 0 if causal else near),
        # Before torch 2.12 the kernel took grouped heads without being told.
        **(grouped if "enable_gqa" in _keywords(kernel) else {}),
    )


@lru_cache(maxsize=16)
def segments(runs: tuple[tuple[int, int], ...], num_shared: int, device: torch.device) -> Segments:
    """Segments of a line; kept for all its layers, because copying to the device makes it wait.

    A shared beginning is a segment of its own, and each row's keys begin with a copy of it.
    """
    own = [length for number, length in runs for _ in range(number)]
    queries = [num_shared, *own] if num_shared else own
    keys = [num_shared, *(num_shared + length for length in own)] if num_shared else own
    places = None
    if num_shared:
        # One copy of the shared keys for each segment stands before the own ones.
        beginning = torch.arange(num_shared)
        parts, place = [beginning], num_shared * len(queries)
        for row, length in enumerate(own, start=1):
            parts += [beginning + row * num_shared, torch.arange(place, place + length)]
            place += length
        places = torch.cat(parts).to(device)
    return Segments(_ends(queries, device), _ends(keys, device), max(queries), max(keys), places)


def _with_shared(states_TGD: Tensor, num_shared: int, places_K: Tensor) -> Tensor:
    """Keys (or values) of all segments, one after the other: [K, G, D].

    The copies are one expanded tensor, whose gradient is a sum in float32; no place is taken twice
    from them, so that the gradient does not depend on the order of atomic additions.
    """
    shared, own = states_TGD.split([num_shared, len(states_TGD) - num_shared])
    copies = (len(places_K) - len(own)) // num_shared
    expanded = shared.expand(copies, *shared.shape).flatten(0, 1)
    return torch.cat([expanded, own]).index_select(0, places_K)


def _ends(lengths: Sequence[int], device: torch.device) -> Tensor:
    ends = torch.tensor([0, *lengths]).cumsum(0)
    return ends.to(device, torch.int32)


def _compute_dtype(query: Tensor) -> torch.dtype:
    """What attention runs in: the dtype of autocast, where it is on."""
    kind = query.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else query.dtype


@lru_cache(maxsize=16)
def _is_new_enough(device: torch.device) -> bool:
    """FlashAttention 2 needs Ampere (compute capability 8.0) or newer."""
    return torch.cuda.get_device_capability(device) >= (8, 0)


@lru_cache(maxsize=16)
def _keywords(kernel: Kernel) -> frozenset[str]:
    return frozenset(inspect.signature(kernel).parameters)
