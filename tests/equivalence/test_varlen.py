"""The branch of CUDA, with a stand-in for its kernel = rows alone, in outputs and gradients.

Checked are the arguments that the kernel is given: where rows begin, the longest ones, grouped
heads, windows, scale. That the kernel does what it says is checked in tests/gpu.
"""

from pathlib import Path

import pytest
import torch
from tests.equivalence.test_padding_free import (
    CASES,
    LENGTHS,
    WITH_WINDOW,
    alone,
    assert_same,
    compute,
    rows,
    together,
    toy,
)
from tests.equivalence.test_shared_prefix import DECODERS, NO_DROPOUT
from tests.equivalence.test_shared_prefix import rows as rows_with_prefix
from tests.varlen_stand_in import use_stand_in, varlen_stand_in

from fettle.models import varlen
from fettle.models.packed import use_padding_free
from fettle.records.tokens import Batch

CPU = torch.device("cpu")


@pytest.mark.parametrize(("model_type", "task"), CASES)
def test_one_call_for_all_rows_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_type: str, task: str
) -> None:
    model = toy(tmp_path, model_type, task)
    expected = alone(model, task)
    assert use_padding_free(model)
    calls = use_stand_in(monkeypatch)
    assert_same(together(model, task), expected)
    assert calls == [len(LENGTHS)] * 2  # once in each of the two layers


@pytest.mark.parametrize(("model_type", "task"), DECODERS)
def test_one_call_with_a_shared_beginning_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_type: str, task: str
) -> None:
    model = toy(tmp_path, model_type, task, **NO_DROPOUT.get(model_type, {}))
    batch = Batch(rows_with_prefix(trained_prefix=True))
    expected = compute(model, task, [Batch((row,)) for row in batch.rows])
    assert use_padding_free(model, share_prefix=True)
    calls = use_stand_in(monkeypatch)
    assert_same(compute(model, task, [batch]), expected)
    assert calls == [1 + len(batch.rows)] * 2


@pytest.mark.parametrize("model_type", WITH_WINDOW)
def test_a_window_that_is_one_too_wide_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_type: str
) -> None:
    """Control: a token that is exactly as far away as the window is wide is not seen."""
    model = toy(tmp_path, model_type, "classify")
    expected = alone(model, "classify")
    use_padding_free(model)
    use_stand_in(monkeypatch)
    real = varlen.attend_line

    def wider(*arguments: object) -> torch.Tensor:
        *others, window = arguments
        return real(*others, None if window is None else window + 1)  # type: ignore[operator]

    monkeypatch.setattr("fettle.models.varlen.attend_line", wider)
    with pytest.raises(AssertionError):
        assert_same(together(model, "classify"), expected)


def test_segments_of_a_line_and_of_one_with_a_shared_beginning() -> None:
    runs = ((2, 3), (1, 5))
    found = varlen.segments(runs, 0, CPU)
    assert found.queries_S1.tolist() == found.keys_S1.tolist() == [0, 3, 6, 11]
    assert (found.longest_query, found.longest_key, found.key_places_K) == (5, 5, None)
    shared = varlen.segments(runs, 4, CPU)
    assert shared.queries_S1.tolist() == [0, 4, 7, 10, 15]
    assert shared.keys_S1.tolist() == [0, 4, 11, 18, 27]
    assert (shared.longest_query, shared.longest_key) == (5, 9)
    # Four copies of the shared keys are places 0 to 15; the own keys begin at 16.
    assert shared.key_places_K is not None
    own = [16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26]
    expected = [0, 1, 2, 3, 4, 5, 6, 7, *own[:3], 8, 9, 10, 11, *own[3:6], 12, 13, 14, 15, *own[6:]]
    assert shared.key_places_K.tolist() == expected


def test_scale_and_grouped_heads_reach_the_kernel() -> None:
    """Against SDPA on one row, which knows neither segments nor windows."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, heads, 7, 8, generator=generator) for heads in (4, 2, 2))
    found = varlen.attend_line(
        varlen_stand_in, query, key, value, ((1, 7),), 0, scaling=0.3, causal=True, window=None
    )
    expected = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=0.3, enable_gqa=True
    )
    torch.testing.assert_close(found, expected[0].transpose(0, 1))


def test_products_run_in_the_dtype_of_autocast() -> None:
    seen = []

    def kernel(*tensors: torch.Tensor, **settings: object) -> torch.Tensor:
        seen.extend(states.dtype for states in tensors[:3])
        return tensors[0]

    # As the layers hand them over: rotated queries and keys in float32, values in bfloat16.
    query, key = torch.ones(1, 2, 3, 8), torch.ones(1, 2, 3, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        varlen.attend_line(kernel, query, key, key.bfloat16(), ((1, 3),), 0, None, True, None)
    assert seen == [torch.bfloat16] * 3


def test_a_cpu_has_no_such_kernel() -> None:
    states = torch.ones(1, 2, 3, 8, dtype=torch.bfloat16)
    assert varlen.kernel_for(states, states, 0.0) is None


def test_a_cpu_still_goes_row_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = toy(tmp_path, "llama", "chat")
    use_padding_free(model)
    monkeypatch.setattr("fettle.models.varlen.attend_line", lambda *_: pytest.fail("was called"))
    assert together(model, "chat").values.shape == (len(rows()),)
