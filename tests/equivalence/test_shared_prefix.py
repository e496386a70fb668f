"""A beginning that all rows share, computed once = computed with each row; outputs, gradients."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.equivalence.test_padding_free import (
    CASES,
    PAD,
    VOCAB,
    Result,
    assert_same,
    compute,
    toy,
)

from fettle.data.batches import StepIterator, micro_batches, num_shared_tokens
from fettle.models.catalog import ARCHITECTURES
from fettle.models.forward import pooled, unwrapped
from fettle.models.inspect_base import inspect_base
from fettle.models.packed import (
    PADDING_FREE,
    SHARED_PREFIX,
    has_dropout,
    pack_rows,
    shares_prefix,
    use_padding_free,
)
from fettle.models.quiet import quiet
from fettle.records.tokens import Batch, TokenizedExample

OWN = (4, 1, 9, 4, 2)
SHARED = 8
NO_DROPOUT = {
    "gpt2": {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0},
    "starcoder2": {"attention_dropout": 0.0, "embedding_dropout": 0.0, "residual_dropout": 0.0},
}
DECODERS = [case for case in CASES if ARCHITECTURES[case[0]].kind == "decoder"]


def rows(trained_prefix: bool = False) -> tuple[TokenizedExample, ...]:
    """Rows with eight tokens in common, longer than the window of those that have one."""
    generator = torch.Generator().manual_seed(2)

    def ids(number: int) -> list[int]:
        return torch.randint(5, VOCAB, (number,), generator=generator).tolist()

    prefix = ids(SHARED)
    made = []
    for index, length in enumerate(OWN):
        own = [10 + index, *ids(length - 1)]
        first = (0.5,) * SHARED if trained_prefix else (0.0,) * SHARED
        mask = (*first, *(float((place + index) % 2) for place in range(length)))
        made.append(TokenizedExample(str(index), (*prefix, *own), mask))
    return tuple(made)


def alone(model: torch.nn.Module, task: str, batch: Batch) -> Result:
    return compute(model, task, [Batch((row,)) for row in batch.rows])


@pytest.mark.parametrize("trained_prefix", [False, True])
@pytest.mark.parametrize(("model_type", "task"), DECODERS)
def test_once_is_the_same_as_with_each_row(
    tmp_path: Path, model_type: str, task: str, trained_prefix: bool
) -> None:
    model = toy(tmp_path, model_type, task, **NO_DROPOUT.get(model_type, {}))
    batch = Batch(rows(trained_prefix))
    expected = alone(model, task, batch)
    pooled_before = pooled(model, batch, PAD)
    assert use_padding_free(model, share_prefix=True)
    assert not has_dropout(model)
    assert shares_prefix(model)
    assert_same(compute(model, task, [batch]), expected)
    torch.testing.assert_close(pooled(model, batch, PAD), pooled_before)


def test_with_adapters(tmp_path: Path) -> None:
    model = toy(tmp_path, "llama", "chat")
    config = LoraConfig(
        r=4, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False
    )
    with quiet():
        adapted = get_peft_model(model, config)
    batch = Batch(rows())
    expected = alone(adapted, "chat", batch)
    use_padding_free(unwrapped(adapted), share_prefix=True)
    assert_same(compute(adapted, "chat", [batch]), expected)


def test_the_beginning_is_really_computed_once(tmp_path: Path) -> None:
    model = toy(tmp_path, "llama", "chat")
    seen: list[int] = []
    model.base_model.layers[0].mlp.register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0].shape[1])
    )
    use_padding_free(model)
    compute(model, "chat", [Batch(rows())])
    use_padding_free(model, share_prefix=True)
    compute(model, "chat", [Batch(rows())])
    assert seen == [SHARED * len(OWN) + sum(OWN), SHARED + sum(OWN)]


def test_a_beginning_that_forgets_the_rows_before_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: the comparison fails when a row does not see the shared tokens."""
    model = toy(tmp_path, "llama", "chat")
    batch = Batch(rows())
    expected = alone(model, "chat", batch)
    use_padding_free(model, share_prefix=True)
    real = torch.cat

    def without_prefix(tensors: list[torch.Tensor], dim: int = 0) -> torch.Tensor:
        if dim == 2:
            return real([torch.zeros_like(tensors[0]), tensors[1]], dim=2)
        return real(tensors, dim=dim)

    monkeypatch.setattr("fettle.models.packed.torch.cat", without_prefix)
    with pytest.raises(AssertionError):
        assert_same(compute(model, "chat", [batch]), expected)


def test_rows_that_are_read_at_one_shared_token(tmp_path: Path) -> None:
    """Behind what they share two rows have pad tokens only: both are read at the same place."""
    model = toy(tmp_path, "llama", "classify")
    ids = [(1, 5, 6, 7, PAD), (1, 5, 6, 7, PAD), (1, 5, 6, 7, 9, 11)]
    batch = Batch(tuple(TokenizedExample(str(i), row, label=i) for i, row in enumerate(ids)))
    expected = alone(model, "classify", batch)
    assert use_padding_free(model, share_prefix=True)
    assert pack_rows(batch, share=True).num_shared == 4
    assert_same(compute(model, "classify", [batch]), expected)


@pytest.mark.parametrize("where", ["layer", "adapter", "attention", "function", "encoder"])
def test_where_it_would_not_be_exact_it_is_not_done(tmp_path: Path, where: str) -> None:
    changes = {"attention_dropout": 0.1} if where == "attention" else {}
    if where == "function":
        changes = {"residual_dropout": 0.1, "attention_dropout": 0.0, "embedding_dropout": 0.0}
    kind = {"layer": "gpt2", "encoder": "bert", "function": "starcoder2"}.get(where, "llama")
    model = toy(tmp_path, kind, "classify", **changes)
    if where == "adapter":
        config = LoraConfig(r=2, target_modules=["q_proj"], lora_dropout=0.1)
        with quiet():
            model = get_peft_model(model, config).get_base_model()
    assert use_padding_free(model, share_prefix=True)
    assert model.config._attn_implementation == PADDING_FREE != SHARED_PREFIX


DROPS = {
    "gpt2": ({}, "attn_pdrop 0.1, embd_pdrop 0.1, resid_pdrop 0.1"),
    "starcoder2": (
        {**NO_DROPOUT["starcoder2"], "residual_dropout": 0.2},
        "residual_dropout 0.2",
    ),
    "llama": ({"attention_dropout": 0.1}, "attention_dropout 0.1"),
}


@pytest.mark.parametrize(
    "model_type",
    [name for name, item in ARCHITECTURES.items() if item.packing and item.kind == "decoder"],
)
def test_the_facts_say_whether_a_base_drops(tmp_path: Path, model_type: str) -> None:
    """So that the resolved recipe and the engine agree on what is shared."""
    model = toy(tmp_path / "plain", model_type, "chat", **NO_DROPOUT.get(model_type, {}))
    assert inspect_base(tmp_path / "plain", "toy").dropout == ""
    assert not has_dropout(model)
    if model_type in DROPS:
        changes, expected = DROPS[model_type]
        model = toy(tmp_path / "drops", model_type, "chat", **changes)
        assert inspect_base(tmp_path / "drops", "toy").dropout == expected
        assert has_dropout(model)


def test_what_rows_have_in_common() -> None:
    found = rows()
    assert num_shared_tokens(found) == SHARED
    assert num_shared_tokens(found[:1]) == 0
    same = TokenizedExample("x", (7, 8, 9), (1, 1, 1))
    # Each row keeps a token of its own.
    assert num_shared_tokens((same, same)) == 2
    assert num_shared_tokens((same, TokenizedExample("y", (7,), (1,)))) == 0
    line = pack_rows(Batch((same, same)), share=True)
    assert (line.num_shared, line.runs, line.starts) == (2, ((2, 1),), [2, 3])
    assert pack_rows(Batch(found)).num_shared == 0


def test_shared_tokens_count_once_in_a_micro_batch() -> None:
    found = rows()
    budget = SHARED + sum(OWN)
    assert len(micro_batches(found, budget, padded=False)) > 1
    (one,) = micro_batches(found, budget, padded=False, shared=SHARED)
    assert {row.row_id for row in one.rows} == {row.row_id for row in found}
    tight = micro_batches(found, SHARED + 9, padded=False, shared=SHARED)
    assert all(sum(r.num_tokens - SHARED for r in batch.rows) <= 9 for batch in tight)
    assert sum(len(batch.rows) for batch in tight) == len(found)
    # The rows of a step do not depend on it.
    plain, sharing = (StepIterator(found, 2, 20, 0, False, shared) for shared in (0, SHARED))
    for _ in range(4):
        ids = [{row.row_id for b in next(steps) for row in b.rows} for steps in (plain, sharing)]
        assert ids[0] == ids[1]
