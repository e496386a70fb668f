"""Padded = rows alone = packed, in outputs and in the gradient of every parameter.

Rows alone are the reference: nothing there can leak from one row into another. A window shorter
than some rows is set wherever an architecture has one.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.tiny_models import write_tiny_base
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from fettle.inference.generate import generate
from fettle.inference.predict import label_likelihoods
from fettle.models import packed
from fettle.models.adapters import body_linears, head_modules
from fettle.models.catalog import ARCHITECTURES
from fettle.models.forward import autocast, class_logits, pooled, token_losses, unwrapped
from fettle.models.inspect_base import inspect_base
from fettle.models.load import load_for_task
from fettle.models.machine import seed_everything
from fettle.models.packed import (
    PADDING_FREE,
    is_padding_free,
    pack_rows,
    plain_attention,
    use_padding_free,
)
from fettle.models.quiet import quiet
from fettle.records.tokens import Batch, TokenizedExample

VOCAB, PAD = 60, 0
LENGTHS = (5, 17, 11, 3, 11, 1)
LABELS = ("a", "b", "c")
WINDOW = {"sliding_window": 6}
CHANGES: dict[str, dict[str, Any]] = {
    "gemma3_text": {**WINDOW, "layer_types": ["sliding_attention", "full_attention"]},
    "mistral": WINDOW,
    "olmo3": {**WINDOW, "layer_types": ["sliding_attention", "full_attention"]},
    "phi3": WINDOW,
    "qwen2": {
        **WINDOW,
        "use_sliding_window": True,
        "layer_types": ["full_attention", "sliding_attention"],
    },
    "starcoder2": {**WINDOW, "bos_token_id": 1, "eos_token_id": 2},
}
WITH_WINDOW = sorted({*CHANGES, "modernbert"})
PACKING = [name for name, item in ARCHITECTURES.items() if item.packing is not None]
CASES = [(name, "classify") for name in PACKING if ARCHITECTURES[name].classifies]
CASES += [(name, "chat") for name in PACKING if ARCHITECTURES[name].kind == "decoder"]


class Result(NamedTuple):
    """What a computation gave."""

    values: Tensor
    gradients: dict[str, Tensor]


def rows() -> tuple[TokenizedExample, ...]:
    """Unequal lengths, two of them alike; some tokens are the pad token, also at the end."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for index, length in enumerate(LENGTHS):
        ids = torch.randint(5, VOCAB, (length,), generator=generator).tolist()
        if length == 17:
            ids[4] = ids[-1] = PAD
        mask = tuple(float((7 * place + index) % 3 == 0) for place in range(length))
        made.append(TokenizedExample(str(index), tuple(ids), mask))
    return tuple(made)


def toy(directory: Path, model_type: str, task: str, **changes: Any) -> torch.nn.Module:
    write_tiny_base(directory, model_type, VOCAB, **{**CHANGES.get(model_type, {}), **changes})
    (directory / "tokenizer.json").write_text("{}")
    seed_everything(0)
    return load_for_task(inspect_base(directory, "toy"), task, LABELS, PAD)


def compute(model: torch.nn.Module, task: str, batches: Sequence[Batch]) -> Result:
    """Outputs of all rows, and the gradients of a fixed weighting of them."""
    model.zero_grad(set_to_none=True)
    of_batch: Callable[[Batch], Tensor] = (
        (lambda batch: class_logits(model, batch, PAD))
        if task == "classify"
        else (lambda batch: token_losses(model, batch, PAD)[0])
    )
    values = torch.cat([of_batch(batch) for batch in batches])
    weights = torch.randn(values.shape, generator=torch.Generator().manual_seed(3))
    (values * weights).sum().backward()
    gradients = {
        name: item.grad.clone() for name, item in model.named_parameters() if item.grad is not None
    }
    return Result(values.detach(), gradients)


def alone(model: torch.nn.Module, task: str) -> Result:
    return compute(model, task, [Batch((row,)) for row in rows()])


def together(model: torch.nn.Module, task: str) -> Result:
    return compute(model, task, [Batch(rows())])


def assert_same(found: Result, expected: Result) -> None:
    torch.testing.assert_close(found.values, expected.values, atol=1e-5, rtol=1e-5)
    assert found.gradients.keys() == expected.gradients.keys()
    # Some gradients are zero but for rounding, such as that of BERT's key bias: softmax ignores it.
    largest = max(float(item.abs().max()) for item in expected.gradients.values())
    for name, gradient in expected.gradients.items():
        torch.testing.assert_close(
            found.gradients[name], gradient, atol=5e-6 * largest, rtol=1e-4, msg=name
        )


@pytest.mark.parametrize(("model_type", "task"), CASES)
def test_padded_alone_and_packed_are_the_same(tmp_path: Path, model_type: str, task: str) -> None:
    model = toy(tmp_path, model_type, task)
    expected = alone(model, task)
    assert_same(together(model, task), expected)
    pooled_before = pooled(model, Batch(rows()), PAD)
    counts = token_losses(model, Batch(rows()), PAD)[1] if task == "chat" else None
    assert use_padding_free(model)
    assert_same(together(model, task), expected)
    assert_same(alone(model, task), expected)
    torch.testing.assert_close(pooled(model, Batch(rows()), PAD), pooled_before)
    if counts is not None:
        assert torch.equal(token_losses(model, Batch(rows()), PAD)[1], counts)


@pytest.mark.parametrize(("model_type", "task"), [("llama", "chat"), ("bert", "classify")])
def test_a_line_that_forgets_its_rows_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_type: str, task: str
) -> None:
    """Control: the comparison above fails when rows attend to one another."""
    model = toy(tmp_path, model_type, task)
    expected = alone(model, task)
    use_padding_free(model)

    def as_one(batch: Batch, share: bool) -> packed.PackedRows:
        line = pack_rows(batch)
        total = sum(number * length for number, length in line.runs)
        return packed.PackedRows(line.rows, line.order, ((1, total),))

    monkeypatch.setattr("fettle.models.forward.pack_rows", as_one)
    broken = together(model, task)
    assert (broken.values - expected.values).abs().max() > 1e-2
    with pytest.raises(AssertionError):
        assert_same(broken, expected)


@pytest.mark.parametrize("model_type", WITH_WINDOW)
def test_a_window_that_is_left_out_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_type: str
) -> None:
    """Control: the windows of these toys are shorter than their rows, and matter."""
    model = toy(tmp_path, model_type, "classify")
    expected = alone(model, "classify")
    use_padding_free(model)

    real = packed._mask

    def without_window(
        length: int, seen: int, window: int | None, causal: bool, device: torch.device
    ) -> Tensor:
        return real(length, seen, None, causal, device)

    monkeypatch.setattr(packed, "_mask", without_window)
    broken = together(model, "classify")
    assert (broken.values - expected.values).abs().max() > 1e-3
    with pytest.raises(AssertionError):
        assert_same(broken, expected)


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama", "modernbert", "gemma3_text"])
def test_the_last_block_computes_only_what_is_read(tmp_path: Path, model_type: str) -> None:
    model = toy(
        tmp_path,
        model_type,
        "classify",
        **{"classifier_pooling": "cls"} if model_type == "modernbert" else {},
    )
    packing = ARCHITECTURES[model_type].packing
    block = model.base_model.get_submodule(packing.blocks)[-1]
    before = model.base_model.get_submodule(packing.blocks)[0]
    seen: dict[str, int] = {}
    for place, where in (("last", block), ("first", before)):
        for name in (*packing.narrow, *packing.scatter):
            # The first linear layer inside gets what the part was left with.
            linear = next(
                item
                for item in where.get_submodule(name).modules()
                if not list(item.children()) and list(item.parameters())
            )
            linear.register_forward_hook(
                lambda *a, key=f"{place} {name}": seen.update({key: a[-1].shape[1]})
            )
    use_padding_free(model)
    class_logits(model, Batch(rows()), PAD)
    assert {count for key, count in seen.items() if key.startswith("last")} == {len(LENGTHS)}
    assert {count for key, count in seen.items() if key.startswith("first")} == {sum(LENGTHS)}
    assert not any(item._forward_pre_hooks for item in block.modules() if item.children())


@pytest.mark.parametrize(
    ("model_type", "task"), [("llama", "classify"), ("llama", "chat"), ("bert", "classify")]
)
def test_with_adapters(tmp_path: Path, model_type: str, task: str) -> None:
    model = toy(tmp_path, model_type, task)
    head = head_modules(model) if task == "classify" else None
    config = LoraConfig(r=4, target_modules=body_linears(model), modules_to_save=head)
    with quiet():
        adapted = get_peft_model(model, config).eval()
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:  # starts at zero, where A has no gradient
            torch.nn.init.normal_(parameter, std=0.2)
    expected = alone(adapted, task)
    assert any("lora_A" in name for name in expected.gradients)
    assert all("lora" in name or "modules_to_save" in name for name in expected.gradients)
    base_before = pooled(adapted, Batch(rows()), PAD)
    use_padding_free(unwrapped(adapted))
    assert_same(together(adapted, task), expected)
    torch.testing.assert_close(pooled(adapted, Batch(rows()), PAD), base_before)


@pytest.mark.parametrize("model_type", ["bert", "roberta", "distilbert", "albert", "modernbert"])
def test_class_logits_are_those_of_stock_transformers(tmp_path: Path, model_type: str) -> None:
    model = toy(tmp_path, model_type, "classify")
    with quiet():
        stock = AutoModelForSequenceClassification.from_pretrained(
            tmp_path, num_labels=len(LABELS), attn_implementation="eager"
        ).eval()
    stock.load_state_dict(model.state_dict())
    use_padding_free(model)
    with torch.inference_mode():
        found = class_logits(model, Batch(rows()), PAD)
        for row, logits_K in zip(rows(), found, strict=True):
            expected_1K = stock(input_ids=torch.tensor([row.input_ids])).logits
            torch.testing.assert_close(logits_K, expected_1K[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("model_type", "task"), [("llama", "chat"), ("bert", "classify")])
def test_dropout_works_and_is_drawn_for_each_token(
    tmp_path: Path, model_type: str, task: str
) -> None:
    names = ("attention_dropout",) if task == "chat" else ("attention_probs_dropout_prob",)
    model = toy(tmp_path, model_type, task, **dict.fromkeys(names, 0.3))
    use_padding_free(model)
    exact = together(model, task).values
    model.train()
    seed_everything(1)
    first = together(model, task).values
    second = together(model, task).values
    seed_everything(1)
    assert torch.equal(first, together(model, task).values)
    assert not torch.equal(first, second)
    assert not torch.equal(first, exact)
    assert first.isfinite().all()


@pytest.mark.parametrize(("model_type", "task"), [("llama", "chat"), ("bert", "classify")])
def test_in_bfloat16_products_stay_near(tmp_path: Path, model_type: str, task: str) -> None:
    model = toy(tmp_path, model_type, task, initializer_range=0.05)
    exact = together(model, task).values
    use_padding_free(model)
    with autocast("bfloat16"):
        found = together(model, task)
    assert found.values.dtype is torch.float32
    assert not torch.equal(found.values, exact)
    torch.testing.assert_close(found.values, exact, rtol=0.02, atol=0.02)
    assert {item.dtype for item in found.gradients.values()} == {torch.float32}


@pytest.mark.parametrize("model_type", ["llama", "mistral", "gpt2"])
def test_a_model_that_was_switched_still_generates(tmp_path: Path, model_type: str) -> None:
    model = toy(tmp_path, model_type, "chat")
    prompts = [list(row.input_ids) for row in rows()]
    labels = {"a": [5, 6, 7], "b": [8], "c": [9, 10]}
    answers = generate(model, prompts, 8, {2, 9}, PAD)
    scores = label_likelihoods(model, prompts, labels, 64)
    use_padding_free(model)
    assert generate(model, prompts, 8, {2, 9}, PAD) == answers
    assert label_likelihoods(model, prompts, labels, 64) == scores
    assert is_padding_free(model)


def test_switching_reaches_every_part_and_is_not_saved(tmp_path: Path) -> None:
    model = toy(tmp_path, "llama", "classify")
    assert not is_padding_free(model)
    use_padding_free(model)
    configs = {item.config._attn_implementation for item in (model, model.base_model)}
    assert configs == {PADDING_FREE}
    with plain_attention(model):
        assert not is_padding_free(model)
        with plain_attention(model):
            stock = model(input_ids=torch.tensor([rows()[0].input_ids])).logits
    assert is_padding_free(model)
    torch.testing.assert_close(class_logits(model, Batch(rows()[:1]), PAD), stock)
    model.save_pretrained(tmp_path / "saved")
    assert PADDING_FREE not in (tmp_path / "saved" / "config.json").read_text()


def test_a_switched_model_refuses_to_be_called_on_padded_rows(tmp_path: Path) -> None:
    model = toy(tmp_path, "llama", "chat")
    use_padding_free(model)
    ids = torch.tensor([[5, 6, 7]])
    with pytest.raises(ValueError, match="padded rows"):
        model(input_ids=ids)
    line = pack_rows(Batch((TokenizedExample("a", (5, 6, 7)),)))
    with pytest.raises(ValueError, match="no softcap"):
        model(input_ids=ids, packed_rows=line, softcap=3.0)


@pytest.mark.parametrize(
    "model_type", [name for name, item in ARCHITECTURES.items() if item.packing is None]
)
def test_what_can_not_be_packed_stays_padded(tmp_path: Path, model_type: str) -> None:
    task = "chat" if ARCHITECTURES[model_type].kind == "decoder" else "classify"
    model = toy(tmp_path, model_type, task)
    before = together(model, task)
    assert not inspect_base(tmp_path, "toy").packs
    assert not use_padding_free(model)
    assert torch.equal(together(model, task).values, before.values)


def test_a_batch_without_targets_has_zero_loss(tmp_path: Path) -> None:
    model = toy(tmp_path, "llama", "chat")
    use_padding_free(model)
    batch = Batch((TokenizedExample("a", (5, 6, 7), (1, 0, 0)), TokenizedExample("b", (8,), (1,))))
    sums, counts = token_losses(model, batch, PAD)
    assert (sums.tolist(), counts.tolist()) == ([0.0, 0.0], [0.0, 0.0])
    sums.sum().backward()


def test_weights_of_tokens_count_as_they_do_on_padded_rows(tmp_path: Path) -> None:
    model = toy(tmp_path, "llama", "chat")
    weighted = Batch(
        tuple(
            TokenizedExample(row.row_id, row.input_ids, tuple(0.25 * (i % 4) for i in range(n)))
            for row in rows()
            for n in (row.num_tokens,)
        )
    )
    expected = token_losses(model, weighted, PAD)
    use_padding_free(model)
    found = token_losses(model, weighted, PAD)
    torch.testing.assert_close(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


def test_rows_stand_by_length_and_keep_their_order() -> None:
    line = pack_rows(Batch(rows()))
    assert [row.num_tokens for row in line.rows] == [1, 3, 5, 11, 11, 17]
    assert line.order == (5, 3, 0, 2, 4, 1)
    assert line.runs == ((1, 1), (1, 3), (1, 5), (2, 11), (1, 17))
    assert line.starts == [0, 1, 4, 9, 20, 31]
