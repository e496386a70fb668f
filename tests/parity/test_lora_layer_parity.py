"""fettle's LoRA layer in whole models: trained, stopped, saved and merged as with peft's own."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from peft.tuners import lora
from tests.tiny_models import tiny_tokenizer, write_tiny_base
from tests.train_fixture import PAD, Events, chat_rows, same, scripted, settings, weights

from fettle.chat.tokenizer import Tokenizer
from fettle.errors import Interrupted
from fettle.models import adapters
from fettle.models.adapters import apply_lora
from fettle.models.forward import autocast, token_loss_sum, token_losses
from fettle.models.inspect_base import inspect_base
from fettle.models.load import load_for_task
from fettle.models.lora_layer import FusedLoraLinear
from fettle.models.merge import merge_adapter
from fettle.models.packed import use_padding_free
from fettle.models.quiet import quiet
from fettle.models.save import save_model
from fettle.records.facts import BaseFacts
from fettle.records.tokens import Batch
from fettle.train.loop import training_steps
from fettle.train.objectives import OBJECTIVES
from fettle.train.optimizer import make_optimizer
from fettle.train.train import train

IDS = torch.tensor([[5, 41, 7, 200, 9, 11, 33], [8, 8, 100, 3, 250, 6, 12]])
# alpha / rank is no power of two: multiplying by it rounds
RANK, ALPHA = 4, 7.0


def left_to_peft(*args: Any) -> bool:
    return False


def adapted(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    family: str = "llama",
    stock: bool = False,
) -> tuple[PeftModel, BaseFacts]:
    """A toy with adapters that have an effect; the same weights with either layer."""
    base = write_tiny_base(tiny_tokenizer(directory / "base"), family, 260, initializer_range=0.1)
    facts = inspect_base(base, str(base))
    with monkeypatch.context() as patch:
        if stock:
            patch.setattr(adapters, "use_fused_layers", left_to_peft)
        torch.manual_seed(7)
        model = apply_lora(
            load_for_task(facts, "chat", (), PAD), "chat", RANK, ALPHA, 0.0, None, facts
        )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    kinds = {type(item) for item in model.modules() if isinstance(item, lora.Linear)}
    assert kinds == {lora.Linear if stock or family == "gpt2" else FusedLoraLinear}
    return model.train(), facts


def gradients(model: PeftModel, dtype: str, packed: bool) -> dict[str, torch.Tensor]:
    """Of one micro-batch with rows of unequal lengths, and its losses."""
    if packed:
        assert use_padding_free(model.get_base_model())
    batch = Batch(tuple(chat_rows(6)))
    with autocast(dtype):
        with torch.no_grad():
            sums_B, _ = token_losses(model, batch, PAD)
        loss = token_loss_sum(model, batch, PAD)
    loss.backward()
    found = {"losses": sums_B.detach()}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            found[name] = parameter.grad
    return found


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("family", ["llama", "qwen3", "qwen2"])
def test_gradients_of_a_model_are_those_with_pefts_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, packed: bool
) -> None:
    ours, theirs = (
        gradients(adapted(tmp_path / str(stock), monkeypatch, family, stock)[0], "float32", packed)
        for stock in (False, True)
    )
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        # one layer is within 1e-6; a whole model adds up the roundings of 14 of them
        distance = (tensor - theirs[name]).norm() / theirs[name].norm()
        assert distance < 5e-6, name


def test_bfloat16_gradients_are_no_worse_than_pefts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact, ours, theirs = (
        gradients(adapted(tmp_path / f"{stock}{dtype}", monkeypatch, stock=stock)[0], dtype, True)
        for stock, dtype in ((True, "float32"), (False, "bfloat16"), (True, "bfloat16"))
    )

    def error(found: dict[str, torch.Tensor]) -> float:
        pairs = ((found[name], exact[name]) for name in exact if name != "losses")
        return float(torch.stack([(a - b).norm() / b.norm() for a, b in pairs]).mean())

    assert {name: tensor.dtype for name, tensor in ours.items()} == {
        name: tensor.dtype for name, tensor in theirs.items()
    }
    assert 0 < error(ours) < 1.1 * error(theirs)


def test_transposed_layers_stay_pefts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapted(tmp_path, monkeypatch, "gpt2")


def trained(model: PeftModel) -> None:
    """Three steps; ready to answer then."""
    for _ in training_steps(
        model,
        OBJECTIVES["chat"],
        make_optimizer(model, 1e-2, 0.0, 1.0),
        iter([[Batch(tuple(chat_rows(8)))]] * 3),
        pad_id=PAD,
        learning_rate=1e-2,
        schedule="constant",
        warmup_steps=0,
        num_steps=3,
        steps_per_epoch=1.0,
        max_gradient_norm=1.0,
        autocast=nullcontext,
    ):
        pass
    model.eval()


def test_stock_peft_answers_bit_by_bit_from_the_saved_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, facts = adapted(tmp_path, monkeypatch)
    with torch.inference_mode():
        before = model(input_ids=IDS).logits
    trained(model)
    with torch.inference_mode():
        expected = model(input_ids=IDS).logits
    assert (expected - before).abs().max() > 1e-2
    meta = {"task": "chat", "labels": [], "base": {"sha256": facts.sha256}}
    save_model(model, tmp_path / "model", Tokenizer.load(Path(facts.path)), None, meta)
    text = (tmp_path / "model" / "adapter_config.json").read_text(encoding="utf-8")
    assert "fettle.models" not in text
    assert not [key for key in json.loads(text) if "custom" in key]
    with quiet():
        stock = AutoPeftModelForCausalLM.from_pretrained(str(tmp_path / "model")).eval()
    kinds = {type(item) for item in stock.modules() if isinstance(item, lora.Linear)}
    assert kinds == {lora.Linear}
    with torch.inference_mode():
        assert torch.equal(stock(input_ids=IDS).logits, expected)
    merged = merge_adapter(model, "the toy")
    with torch.inference_mode():
        torch.testing.assert_close(merged(input_ids=IDS).logits, expected, atol=1e-5, rtol=1e-5)


def test_a_stopped_training_goes_on_bit_by_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(
        "chat", batch_size=8, max_steps=6, evaluate_every=3, learning_rate=1e-3, patience=100
    )

    def drive(name: str, looks: list[float], stops_at: int = 100) -> PeftModel:
        model, _ = adapted(tmp_path / name, monkeypatch)
        told = Events()
        torch.manual_seed(5)
        train(
            model,
            chat_rows(),
            chosen,
            device="cpu",
            pad_id=PAD,
            checkpoints=tmp_path / ("whole" if name == "whole" else "parts"),
            validate=scripted(looks),
            emit=told,
            stop_requested=lambda: len(told.of("step")) == stops_at,
        )
        return model

    whole = drive("whole", [4.0, 3.0])
    with pytest.raises(Interrupted):
        drive("first", [4.0], stops_at=4)
    assert same(weights(drive("second", [3.0])), weights(whole))
