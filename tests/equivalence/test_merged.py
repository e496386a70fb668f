"""Merged = unmerged: base and adapter as one model answer as the two together did."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from tests.tiny_models import tiny_tokenizer, write_tiny_base

from fettle.chat.tokenizer import Tokenizer
from fettle.models import load as load_module
from fettle.models.adapters import apply_lora, apply_peft
from fettle.models.inspect_base import inspect_base
from fettle.models.load import find_base, load_for_task
from fettle.models.machine import seed_everything
from fettle.models.merge import merge_adapter
from fettle.models.save import load_saved, save_model
from fettle.recipe.recipe import BaseSection
from fettle.records.facts import BaseFacts

VOCAB = 260
LABELS = ("a", "b", "c")
FAMILIES = ("llama", "qwen3", "gpt2", "bert", "gemma", "modernbert")
METHODS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"rslora": True},
    "dora": {"dora": True},
    "pissa": {"init": "pissa"},
    "olora": {"init": "olora"},
    "olora and dora": {"init": "olora", "dora": True},
    "ranks of their own": {"rank_pattern": {".*proj": 2}, "alpha_pattern": {".*proj": 3.0}},
    "ia3": {},
}
IDS = torch.tensor([[5, 41, 7, 200, 9, 11, 33], [8, 8, 100, 3, 250, 6, 12]])


def silent(line: str) -> None:
    pass


def adapted(directory: Path, family: str, method: str) -> tuple[PeftModel, BaseFacts, str]:
    """A toy model with adapters of which every trained weight was moved."""
    base = write_tiny_base(tiny_tokenizer(directory), family, VOCAB, initializer_range=0.1)
    facts = inspect_base(base, str(base))
    task = "classify" if facts.kind == "encoder" else "chat"
    seed_everything(0)
    model = load_for_task(facts, task, LABELS if task == "classify" else (), 0)
    if method == "ia3":
        changed = apply_peft(model, task, "ia3", None, {}, facts)
    else:
        options = dict(METHODS[method])
        if "rank_pattern" in options and family not in ("llama", "qwen3", "gemma"):
            options = {key: {".*": value[".*proj"]} for key, value in options.items()}
        changed = apply_lora(model, task, 4, 8.0, 0.0, None, facts, **options)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in changed.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return changed.eval(), facts, task


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=IDS).logits


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_merged_equals_unmerged(tmp_path: Path, family: str, method: str) -> None:
    model, facts, task = adapted(tmp_path, family, method)
    expected = logits(model)
    plain = logits(load_for_task(facts, task, LABELS if task == "classify" else (), 0))
    assert (expected - plain).abs().max() > 1e-3, "the adapter does nothing"
    merged = merge_adapter(copy.deepcopy(model), "the toy")
    assert not isinstance(merged, PeftModel)
    torch.testing.assert_close(logits(merged), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", ["lora", "dora", "pissa", "ia3"])
def test_a_merged_run_answers_as_the_run_did(tmp_path: Path, method: str) -> None:
    model, facts, task = adapted(tmp_path / "base", "llama", method)
    expected = logits(model)
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text("schema: 1\n", encoding="utf-8")
    meta = {"task": task, "labels": [], "base": {"sha256": facts.sha256}, "method": method}
    save_model(model, run / "model", Tokenizer.load(tmp_path / "base"), None, meta)
    served = load_saved(run / "model").model
    torch.testing.assert_close(logits(served), expected, atol=1e-5, rtol=1e-5)

    merged = find_base(BaseSection(id=str(run)), silent)
    assert merged.path == str(run / load_module.MERGED)
    again = logits(load_for_task(merged, task, (), 0))
    torch.testing.assert_close(again, expected, atol=1e-5, rtol=1e-5)
    with safe_open(run / "merged" / "model.safetensors", framework="pt") as handle:
        assert not [name for name in handle.keys() if "lora" in name or "ia3" in name]  # noqa: SIM118
