"""The real kernel on a real GPU = the loop over rows in float32, in outputs and in gradients."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from fettle.models import varlen
from fettle.models.packed import PackedRows, packed_attention
from fettle.records.tokens import TokenizedExample

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

LENGTHS = (3, 70, 70, 129, 300)
# bfloat16 has 8 bits: a product of two such numbers is off by up to 2^-8 of its size.
TOLERANCE = 1e-2


@dataclass(frozen=True)
class Case:
    heads: int = 8
    groups: int = 8
    size: int = 64
    causal: bool = True
    window: int | None = None
    shared: int = 0
    scaling: float | None = None


CASES = {
    "plain": Case(),
    "not causal": Case(causal=False),
    "grouped": Case(groups=2, size=128),
    "window": Case(window=64),
    "window both ways": Case(causal=False, window=64),
    "scaled": Case(scaling=0.05),
    "shared beginning": Case(shared=37, groups=2),
    "shared beginning and window": Case(shared=90, window=64),
    "large head": Case(heads=2, groups=1, size=256),
}


def attention(case: Case, states: tuple[Tensor, ...], dtype: torch.dtype) -> list[Tensor]:
    """Output and gradients, in float32, of a fixed weighting of the output."""
    made = [x.to("cuda", dtype).requires_grad_() for x in states]
    rows = tuple(
        TokenizedExample(str(i), (1,) * (case.shared + length)) for i, length in enumerate(LENGTHS)
    )
    runs = ((1, 3), (2, 70), (1, 129), (1, 300))
    line = PackedRows(rows, tuple(range(len(rows))), runs, case.shared)
    layer = nn.Module()
    layer.is_causal = case.causal
    output, _ = packed_attention(
        layer,
        *made,
        None,
        scaling=case.scaling,
        sliding_window=case.window,
        packed_rows=line,
    )
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    (output.float() * weights.to(output.device)).sum().backward()
    return [x.detach().float() for x in (output, *(item.grad for item in made))]


def states_of(case: Case) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    tokens = case.shared + sum(LENGTHS)
    shapes = [(1, heads, tokens, case.size) for heads in (case.heads, case.groups, case.groups)]
    # Rounded first, so that both sides start from the same numbers.
    return tuple(torch.randn(shape, generator=generator).bfloat16().float() for shape in shapes)


@pytest.mark.parametrize("name", CASES)
def test_the_kernel_gives_what_the_loop_gives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    states = states_of(case)
    calls = []
    real = varlen.attend_line
    monkeypatch.setattr(varlen, "attend_line", lambda *a: calls.append(1) or real(*a))
    exact = attention(case, states, torch.float32)  # has no kernel: the loop
    assert not calls
    found = attention(case, states, torch.bfloat16)
    assert calls == [1]
    for mine, expected in zip(found, exact, strict=True):
        error = (mine - expected).norm() / expected.norm()
        assert mine.isfinite().all()
        assert error < TOLERANCE, f"{name}: {error:.2e}"


def test_autocast_reaches_the_kernel() -> None:
    case = CASES["grouped"]
    states = tuple(x.cuda() for x in states_of(case))
    with torch.autocast("cuda", dtype=torch.bfloat16):
        assert varlen.kernel_for(states[0], states[2], 0.0) is not None
    assert varlen.kernel_for(states[0], states[2], 0.0) is None
    half = states[0].bfloat16()
    assert varlen.kernel_for(half, half, 0.1) is None
