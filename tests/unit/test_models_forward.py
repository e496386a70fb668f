"""Losses through the output head: chunks, gradients, precision."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.tiny_models import write_tiny_base
from torch.nn import functional

from fettle.models import forward
from fettle.models.forward import autocast, pad, token_losses
from fettle.models.inspect_base import inspect_base
from fettle.models.load import load_for_task
from fettle.models.machine import probe_machine, seed_everything
from fettle.records.tokens import Batch, TokenizedExample

VOCAB = 60


def batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    made = []
    for length in (9, 4, 13):
        ids = tuple(torch.randint(5, VOCAB, (length,), generator=generator).tolist())
        made.append(TokenizedExample(str(length), ids, (1, 0, *[1] * (length - 2))))
    return Batch(tuple(made))


def toy(directory: Path, **changes: object) -> torch.nn.Module:
    write_tiny_base(directory, "llama", VOCAB, **changes)
    (directory / "tokenizer.json").write_text("{}")
    return load_for_task(inspect_base(directory, "toy"), "chat", (), 0)


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: item.grad.clone() for name, item in model.named_parameters()}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("rows_at_once", [4, 1024])
def test_gradients_equal_those_of_the_full_logits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tied: bool, rows_at_once: int
) -> None:
    monkeypatch.setattr(forward, "HEAD_ROWS", rows_at_once)
    model = toy(tmp_path, tie_word_embeddings=tied)
    inputs = pad(batch(), 0)
    labels = torch.full_like(inputs["input_ids"], -100)
    for index, row in enumerate(batch().rows):
        for place in range(1, row.num_tokens):
            if row.loss_mask[place]:
                labels[index, place] = row.input_ids[place]
    logits = model(**inputs).logits[:, :-1].flatten(0, 1)
    expected = functional.cross_entropy(logits, labels[:, 1:].flatten(), reduction="sum")
    expected.backward()
    wanted = gradients(model)
    model.zero_grad()
    sums, counts = token_losses(model, batch(), 0)
    assert counts.tolist() == [row.num_targets for row in batch().rows] == [7, 2, 11]
    torch.testing.assert_close(sums.sum(), expected)
    sums.sum().backward()
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, wanted[name], atol=2e-4, rtol=1e-3, msg=name)


def test_a_batch_without_targets_has_zero_loss(tmp_path: Path) -> None:
    rows = (TokenizedExample("a", (5, 6, 7), (1, 0, 0)), TokenizedExample("b", (8,), (1,)))
    sums, counts = token_losses(toy(tmp_path), Batch(rows), 0)
    assert (sums.tolist(), counts.tolist()) == ([0.0, 0.0], [0, 0])


def test_padding_is_on_the_right_and_masked() -> None:
    rows = (TokenizedExample("a", (5, 6, 7)), TokenizedExample("b", (8,)))
    inputs = pad(Batch(rows), 3)
    assert inputs["input_ids"].tolist() == [[5, 6, 7], [8, 3, 3]]
    assert inputs["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


def test_autocast_changes_products_but_not_losses_or_weights(tmp_path: Path) -> None:
    model = toy(tmp_path, initializer_range=0.05)
    exact, _ = token_losses(model, batch(), 0)
    with autocast("float32"):
        assert torch.equal(token_losses(model, batch(), 0)[0], exact)
    with autocast("bfloat16"):
        close, _ = token_losses(model, batch(), 0)
        assert model.model.layers[0].mlp.up_proj(torch.zeros(1, 32)).dtype is torch.bfloat16
    assert close.dtype is torch.float32
    assert not torch.equal(close, exact)
    torch.testing.assert_close(close, exact, rtol=0.02, atol=0.0)
    close.sum().backward()
    assert {item.grad.dtype for item in model.parameters()} == {torch.float32}


def test_seed_everything_repeats_all_streams() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.random()), float(torch.rand(()))

    seed_everything(7)
    first = draw()
    assert first != draw()
    seed_everything(7)
    assert first == draw()


def test_the_probe_measures_this_machine(tmp_path: Path) -> None:
    facts = probe_machine(tmp_path / "not" / "there" / "yet")
    assert facts.device in {"cpu", "cuda", "mps"}
    assert facts.device_name
    assert facts.num_threads >= 1
    assert facts.memory_bytes > 10**8
    assert facts.disk_free_bytes > 0
    assert set(facts.gflops) == {"float32", "bfloat16"}
    assert all(1 < speed < 10**6 for speed in facts.gflops.values())
