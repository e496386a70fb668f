"""Every architecture of the catalog, as a toy: padding, losses, pooling, LoRA, generation."""

from pathlib import Path

import pytest
import torch
from tests.tiny_models import tiny_config, write_tiny_base
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from fettle.inference.generate import generate
from fettle.models.adapters import apply_lora, body_linears, count_parameters, head_modules
from fettle.models.catalog import ARCHITECTURES
from fettle.models.forward import class_logits, pooled, token_losses
from fettle.models.inspect_base import inspect_base
from fettle.models.load import load_for_task
from fettle.models.machine import seed_everything
from fettle.models.quiet import quiet
from fettle.records.facts import BaseFacts
from fettle.records.tokens import Batch, TokenizedExample

VOCAB = 60
LENGTHS = (5, 17, 11, 3)
LABELS = ("a", "b", "c")
DECODERS = [name for name, item in ARCHITECTURES.items() if item.kind == "decoder"]
CLASSIFIERS = [name for name, item in ARCHITECTURES.items() if item.classifies]


def rows(num_masked: int = 0) -> tuple[TokenizedExample, ...]:
    generator = torch.Generator().manual_seed(1)
    return tuple(
        TokenizedExample(
            row_id=str(length),
            input_ids=tuple(torch.randint(5, VOCAB, (length,), generator=generator).tolist()),
            loss_mask=tuple(int(place >= num_masked) for place in range(length)),
        )
        for length in LENGTHS
    )


def base(directory: Path, model_type: str) -> BaseFacts:
    write_tiny_base(directory, model_type, VOCAB)
    (directory / "tokenizer.json").write_text("{}")
    return inspect_base(directory, "toy")


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_facts_are_those_of_the_model(tmp_path: Path, model_type: str) -> None:
    facts = base(tmp_path, model_type)
    config = tiny_config(model_type, VOCAB)
    assert facts.architecture == model_type
    assert facts.kind == ARCHITECTURES[model_type].kind
    assert (facts.num_layers, facts.hidden_size, facts.vocab_size) == (2, 32, VOCAB)
    assert 100 < facts.context_length <= config.max_position_embeddings
    if facts.kind == "decoder":
        model = load_for_task(facts, "chat", (), 0)
        # A tied output head is stored once, and counted once by torch as well.
        assert facts.num_parameters == count_parameters(model)[1]


@pytest.mark.parametrize("model_type", CLASSIFIERS)
def test_padded_class_logits_equal_unpadded_and_stock(tmp_path: Path, model_type: str) -> None:
    facts = base(tmp_path, model_type)
    seed_everything(0)
    model = load_for_task(facts, "classify", LABELS, 0)
    batch = Batch(rows())
    with torch.inference_mode():
        together = class_logits(model, batch, 0)
        alone = torch.cat([class_logits(model, Batch((row,)), 0) for row in batch.rows])
    torch.testing.assert_close(together, alone, atol=2e-5, rtol=1e-4)
    assert together.std() > 1e-3
    with quiet():
        stock = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=3)
    stock.load_state_dict(model.state_dict())
    stock.config.pad_token_id = 0
    stock.eval()
    with torch.inference_mode():
        for row, logits in zip(batch.rows, together, strict=True):
            expected = stock(input_ids=torch.tensor([row.input_ids])).logits[0]
            torch.testing.assert_close(logits, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("model_type", DECODERS)
def test_token_losses_equal_the_loss_of_full_unpadded_logits(
    tmp_path: Path, model_type: str
) -> None:
    model = load_for_task(base(tmp_path, model_type), "chat", (), 0)
    batch = Batch(rows(num_masked=2))
    with quiet():
        stock = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager").eval()
    with torch.inference_mode():
        sums, counts = token_losses(model, batch, 0)
        for index, row in enumerate(batch.rows):
            ids = torch.tensor(row.input_ids)
            logits = stock(input_ids=ids.unsqueeze(0)).logits[0]
            expected = functional.cross_entropy(logits[1:-1], ids[2:], reduction="sum")
            torch.testing.assert_close(sums[index], expected, atol=1e-4, rtol=1e-4)
            assert counts[index] == row.num_targets == row.num_tokens - 2


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_pooled_is_the_mean_over_the_tokens_of_each_row_alone(
    tmp_path: Path, model_type: str
) -> None:
    facts = base(tmp_path, model_type)
    task = "classify" if ARCHITECTURES[model_type].classifies else "chat"
    model = load_for_task(facts, task, LABELS, 0)
    batch = Batch(rows())
    with torch.inference_mode():
        together = pooled(model, batch, 0)
        for row, vector in zip(batch.rows, together, strict=True):
            ids = torch.tensor([row.input_ids])
            expected = model.base_model(input_ids=ids).last_hidden_state[0].mean(dim=0)
            torch.testing.assert_close(vector, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_lora_trains_adapters_and_head_only(tmp_path: Path, model_type: str) -> None:
    facts = base(tmp_path, model_type)
    task = "classify" if ARCHITECTURES[model_type].classifies else "chat"
    model = load_for_task(facts, task, LABELS, 0)
    before, total = pooled(model, Batch(rows()), 0), count_parameters(model)[1]
    # Counted from shapes, before peft sees the model: r (in + out) for each adapted matrix.
    targets, heads = body_linears(model), head_modules(model)
    expected = 0
    for name, module in model.named_modules():
        weight = dict(module.named_parameters(recurse=False)).get("weight")
        if any(name.endswith(f".{target}") for target in targets) and weight is not None:
            expected += 4 * (weight.shape[0] + weight.shape[1])
    head = 0
    if task == "classify":
        head = sum(
            parameter.numel()
            for name, parameter in model.named_parameters()
            if not name.startswith(f"{model.base_model_prefix}.") or ".pooler." in name
        )
        assert heads
    adapted = apply_lora(model, task, 4, 8, 0.0, None, facts)
    assert count_parameters(adapted) == (expected + head, total + expected + head)
    assert not any("lm_head" in name and "lora" in name for name, _ in adapted.named_parameters())
    # Every adapter takes part in the loss; B starts at zero, so A's gradient is zero at first.
    if task == "classify":
        class_logits(adapted, Batch(rows()), 0).square().sum().backward()
    else:
        token_losses(adapted, Batch(rows()), 0)[0].sum().backward()
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            assert parameter.grad is not None
            assert parameter.grad.abs().max() > 0, name
    # The base arm never sees the adapters.
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.5)
    torch.testing.assert_close(pooled(adapted, Batch(rows()), 0), before)


@pytest.mark.parametrize("model_type", DECODERS)
def test_batched_generation_equals_single_and_stock(tmp_path: Path, model_type: str) -> None:
    model = load_for_task(base(tmp_path, model_type), "chat", (), 0)
    prompts = [list(row.input_ids) for row in rows()]
    together = generate(model, prompts, 12, {2, 9, 30}, 0)
    alone = [generate(model, [prompt], 12, {2, 9, 30}, 0)[0] for prompt in prompts]
    assert together == alone
    for prompt, answer in zip(prompts, together, strict=True):
        ids = torch.tensor([prompt])
        with quiet():
            out = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=12,
                do_sample=False,
                eos_token_id=[2, 9, 30],
                pad_token_id=0,
            )[0, len(prompt) :].tolist()
        assert answer == (out[:-1] if out[-1] in (2, 9, 30) else out)
