"""A STAND-IN for ``torch.nn.attention.varlen.varlen_attn``, which runs on CUDA alone.

It computes what that function's documentation says, by plain SDPA for one segment at a time, and
refuses what the kernel would refuse or silently get wrong. What the kernel itself does is checked
in tests/gpu, on a machine that has one.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def varlen_stand_in(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
) -> Tensor:
    """Attention of every segment to itself: [T, A, D] in, [T, A, D] out.

    Where a segment has more keys than queries, the last query stands beside the last key. A window
    of -1 is no window; (left, right) are the tokens that are seen on each side.
    """
    for ends, states, longest in ((cu_seq_q, query, max_q), (cu_seq_k, key, max_k)):
        assert ends.dtype is torch.int32
        assert (ends[0], ends[-1]) == (0, len(states))
        assert int(ends.diff().max()) == longest
        assert type(longest) is int
    assert len(cu_seq_q) == len(cu_seq_k)
    assert {x.dtype for x in (query, key, value)} == {query.dtype}
    assert enable_gqa == (query.shape[1] != key.shape[1])
    left, right = (side if side >= 0 else len(key) for side in window_size)
    outputs = []
    for segment in range(len(cu_seq_q) - 1):
        q, k, v = (
            x[ends[segment] : ends[segment + 1]].transpose(0, 1).unsqueeze(0)
            for x, ends in ((query, cu_seq_q), (key, cu_seq_k), (value, cu_seq_k))
        )
        length, seen = q.shape[2], k.shape[2]
        away = torch.arange(seen) - (torch.arange(length)[:, None] + seen - length)
        mask = (away >= -left) & (away <= right)
        found = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, scale=scale, enable_gqa=enable_gqa
        )
        outputs.append(found[0].transpose(0, 1))
    return torch.cat(outputs)


def use_stand_in(monkeypatch: Any) -> list[int]:
    """Take the branch of CUDA on a CPU; the list gets the number of segments of each call."""
    calls: list[int] = []

    def counted(*tensors: Any, scale: Any, window_size: Any, enable_gqa: bool = False) -> Tensor:
        calls.append(len(tensors[3]) - 1)
        return varlen_stand_in(
            *tensors, scale=scale, window_size=window_size, enable_gqa=enable_gqa
        )

    monkeypatch.setattr("fettle.models.varlen.kernel_for", lambda query, value, dropout: counted)
    return calls
