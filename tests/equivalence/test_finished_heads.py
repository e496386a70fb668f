"""Decoders that scale or cap their logits: tokens in chunks = the model's own forward pass."""

from pathlib import Path

import pytest
import torch
from tests.equivalence.test_padding_free import PAD, rows, toy
from torch.nn import functional
from transformers import PreTrainedModel

from fettle.models import heads
from fettle.models.catalog import ARCHITECTURES
from fettle.models.forward import pad, token_loss_sum, token_losses
from fettle.models.packed import use_padding_free
from fettle.records.tokens import Batch

FINISHED = sorted(name for name, item in ARCHITECTURES.items() if not item.plain_head)
CASES = [(name, {}) for name in FINISHED]
CASES += [("gemma3_text", {"final_logit_softcapping": 3.0})]


def stock_losses(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """Sum of losses of each row from the logits that the model's own forward pass gives."""
    inputs = pad(batch, PAD)
    logits_BTV = model(**inputs, use_cache=False).logits.float()
    sums = []
    for index, row in enumerate(batch.rows):
        mask = torch.tensor(row.loss_mask)[1:]
        losses = functional.cross_entropy(
            logits_BTV[index, : row.num_tokens - 1],
            torch.tensor(row.input_ids[1:], dtype=torch.int64),
            reduction="none",
        )
        sums.append((losses * mask).sum())
    return torch.stack(sums)


def gradients(model: PreTrainedModel, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad(set_to_none=True)
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("packs", [False, True])
@pytest.mark.parametrize(("model_type", "changes"), CASES)
def test_chunks_are_the_models_own_logits(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model_type: str,
    changes: dict[str, float],
    packs: bool,
) -> None:
    model = toy(tmp_path, model_type, "chat", **changes)
    batch = Batch(rows())
    expected_B = stock_losses(model, batch)
    expected = gradients(model, expected_B.sum())
    if packs and not use_padding_free(model):
        pytest.skip("its rows can't stand in one line")
    seen: list[int] = []
    model.lm_head.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    monkeypatch.setattr("fettle.models.forward.HEAD_ROWS", 4)
    sums_B, _ = token_losses(model, batch, PAD)
    torch.testing.assert_close(sums_B, expected_B, atol=1e-6, rtol=1e-6)
    assert len(seen) > 2
    assert max(seen) == 4, "no more tokens' logits at a time than this"
    found = gradients(model, token_loss_sum(model, batch, PAD))
    assert found.keys() == expected.keys()
    largest = max(float(item.abs().max()) for item in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=5e-6 * largest, rtol=1e-4, msg=name)


@pytest.mark.parametrize(("model_type", "changes"), CASES)
def test_what_is_done_to_the_logits_matters_in_these_toys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_type: str, changes: dict[str, float]
) -> None:
    """Control: without it the comparison above fails; Gemma 3 caps only where it is told to."""
    if model_type == "gemma3_text" and not changes:
        pytest.skip("caps nothing by default")
    model = toy(tmp_path, model_type, "chat", **changes)
    expected_B = stock_losses(model, Batch(rows()))
    monkeypatch.setitem(heads._FINISH, model_type, lambda config, logits: logits)
    sums_B, _ = token_losses(model, Batch(rows()), PAD)
    assert (sums_B - expected_B).abs().max() > 1e-2


def test_every_such_architecture_is_known() -> None:
    assert sorted(heads._FINISH) == FINISHED
