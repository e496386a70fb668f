"""Predictions come in row order, do not depend on batches, and leave the model as it was."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.tiny_models import write_tiny_base
from torch.nn import functional

from fettle.inference.predict import label_likelihoods, predict_labels, representations, row_losses
from fettle.models.forward import pooled
from fettle.models.inspect_base import inspect_base
from fettle.models.load import load_for_task
from fettle.records.tokens import Batch, TokenizedExample

VOCAB = 60
LABELS = ("a", "b", "c")


def base(directory: Path, model_type: str):
    write_tiny_base(directory, model_type, VOCAB)
    (directory / "tokenizer.json").write_text("{}")
    return inspect_base(directory, "toy")


def rows(count: int = 23) -> list[TokenizedExample]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for index in range(count):
        length = int(torch.randint(2, 30, (1,), generator=generator))
        ids = tuple(torch.randint(5, VOCAB, (length,), generator=generator).tolist())
        mask = tuple(torch.randint(0, 2, (length,), generator=generator).tolist())
        made.append(TokenizedExample(f"row {index}", ids, mask))
    return made


@pytest.mark.parametrize("model_type", ["bert", "llama"])
def test_label_probabilities(tmp_path: Path, model_type: str) -> None:
    torch.manual_seed(0)
    model = load_for_task(base(tmp_path, model_type), "classify", LABELS, 0)
    some, many = (predict_labels(model, rows(), LABELS, 0, budget) for budget in (30, 100_000))
    for row, one, other in zip(rows(), some, many, strict=True):
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([row.input_ids])).logits[0]
        expected = torch.softmax(logits.double(), dim=-1).tolist()
        assert list(one) == list(LABELS)
        assert sum(one.values()) == pytest.approx(1.0, abs=1e-12)
        assert list(one.values()) == pytest.approx(expected, abs=1e-5)
        assert list(other.values()) == pytest.approx(expected, abs=1e-5)


def test_row_losses(tmp_path: Path) -> None:
    model = load_for_task(base(tmp_path, "llama"), "chat", (), 0)
    for row, (loss, count) in zip(rows(), row_losses(model, rows(), 0, 64), strict=True):
        ids, mask = torch.tensor(row.input_ids), torch.tensor(row.loss_mask)[1:].bool()
        with torch.inference_mode():
            logits = model(input_ids=ids.unsqueeze(0)).logits[0, :-1]
        losses = functional.cross_entropy(logits, ids[1:], reduction="none")
        assert loss == pytest.approx(float(losses[mask].sum()), abs=1e-4)
        assert count == row.num_targets


def test_representations(tmp_path: Path) -> None:
    model = load_for_task(base(tmp_path, "bert"), "classify", LABELS, 0)
    vectors = representations(model, rows(), 0, 64)
    assert vectors.shape == (23, 32)
    assert vectors.dtype == np.float32
    with torch.inference_mode():
        for row, vector in zip(rows(), vectors, strict=True):
            np.testing.assert_allclose(vector, pooled(model, Batch((row,)), 0)[0], atol=2e-5)
    assert representations(model, [], 0, 64).shape == (0, 32)


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "gemma2", "mistral"])
@pytest.mark.parametrize("budget", [1, 70, 10_000])
def test_label_likelihoods(tmp_path: Path, model_type: str, budget: int) -> None:
    model = load_for_task(base(tmp_path, model_type), "chat", (), 0)
    labels = {"one": (7,), "three": (8, 9, 10), "two": (11, 12), "five": (5, 6, 7, 8, 9)}
    prompts = [row.input_ids for row in rows(5)]
    for prompt, scores in zip(
        prompts, label_likelihoods(model, prompts, labels, budget), strict=True
    ):
        assert list(scores) == list(labels)
        for name, ids in labels.items():
            whole = torch.tensor([[*prompt, *ids]])
            with torch.inference_mode():
                logits = model(input_ids=whole).logits[0, len(prompt) - 1 : -1]
            expected = torch.log_softmax(logits.float(), -1)[torch.arange(len(ids)), list(ids)]
            assert scores[name] == pytest.approx(float(expected.mean()), abs=1e-4)


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    model = load_for_task(base(tmp_path, "bert"), "classify", LABELS, 0)
    model.train()
    model.bert.eval()  # as when the body is frozen
    before = [module.training for module in model.modules()]
    assert model.config.hidden_dropout_prob > 0
    first = predict_labels(model, rows(), LABELS, 0, 64)
    assert first == predict_labels(model, rows(), LABELS, 0, 64)
    assert [module.training for module in model.modules()] == before
    assert torch.is_grad_enabled()
    with pytest.raises(ValueError, match="argument"):
        predict_labels(model, rows(), ("too", "few"), 0, 64)
    assert [module.training for module in model.modules()] == before
