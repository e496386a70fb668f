"""1 x 8 = 2 x 4 = 8 x 1 through the loop, per architecture, and compiled = eager."""

import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from tests.tiny_models import tiny_config
from tests.train_fixture import PAD, VOCABULARY, chat_rows, decoder, label_rows
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

from fettle.models.quiet import quiet
from fettle.records.tokens import Batch
from fettle.train.loop import training_steps
from fettle.train.objectives import OBJECTIVES

DECODERS = ("llama", "qwen3", "gemma", "mistral", "gpt2")
ENCODERS = ("bert", "modernbert")


def toy(model_type: str) -> PreTrainedModel:
    torch.manual_seed(0)
    changes = {"num_labels": 3} if model_type in ENCODERS else {}
    config = tiny_config(model_type, VOCABULARY, PAD, **changes)
    auto = AutoModelForCausalLM if model_type in DECODERS else AutoModelForSequenceClassification
    with quiet():
        model: PreTrainedModel = auto.from_config(config)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.config.attention_dropout = model.config.attention_probs_dropout_prob = 0.0
    return model


def one_step(model: torch.nn.Module, sizes: tuple[int, ...], task: str) -> tuple[float, list]:
    """Loss of a step, and the gradients of all weights."""
    rows = chat_rows(8, seed=3) if task == "chat" else label_rows(8)
    if task == "chat":
        targets = [row.num_targets for row in rows]
        assert max(targets) > 8 * min(targets), "the counts must be very unequal"
    batches, start = [], 0
    for size in sizes:
        batches.append(Batch(tuple(rows[start : start + size])))
        start += size
    (record,) = training_steps(
        model,
        OBJECTIVES[task],
        torch.optim.SGD(model.parameters()),
        iter([batches]),
        pad_id=PAD,
        learning_rate=0.0,  # the next cut must start from the same weights
        schedule="constant",
        warmup_steps=0,
        num_steps=1,
        steps_per_epoch=1.0,
        max_gradient_norm=1e9,
        autocast=nullcontext,
    )
    named = model.named_parameters()
    return record.loss, [(name, p.grad.clone()) for name, p in named if p.grad is not None]


@pytest.mark.parametrize("model_type", DECODERS + ENCODERS)
def test_the_division_of_a_step_does_not_change_its_gradient(model_type: str) -> None:
    task = "chat" if model_type in DECODERS else "classify"
    model = toy(model_type)
    loss, expected = one_step(model, (8,), task)
    largest = max(float(gradient.abs().max()) for _, gradient in expected)
    assert largest > 1e-3
    for sizes in ((4, 4), (1,) * 8, (1, 5, 2)):
        model.zero_grad(set_to_none=True)
        other_loss, found = one_step(model, sizes, task)
        assert other_loss == pytest.approx(loss, rel=2e-6)
        for (name, gradient), (_, want) in zip(found, expected, strict=True):
            apart = float((gradient - want).abs().max())
            assert apart < 5e-6 * max(1.0, largest), (name, sizes, apart)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # torch's compiler warns of itself
def test_compiled_equals_eager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler (g++)")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    eager, compiled = decoder(), decoder()
    compiled.model.compile(dynamic=True)
    loss, expected = one_step(eager, (4, 4), "chat")
    other_loss, found = one_step(compiled, (4, 4), "chat")
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert other_loss == pytest.approx(loss, rel=1e-5)
    for (name, gradient), (_, want) in zip(found, expected, strict=True):
        assert torch.allclose(gradient, want, atol=1e-5, rtol=1e-4), name
