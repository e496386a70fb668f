"""Methods of peft that are passed through: they train, and stock peft loads what was saved."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PEFT_TYPE_TO_CONFIG_MAPPING, AutoPeftModelForCausalLM
from safetensors.torch import load_file
from tests.tiny_models import tiny_tokenizer, write_tiny_base

from fettle.chat.tokenizer import Tokenizer
from fettle.errors import BaseModelError, FettleError, IntegrityError, RecipeError
from fettle.models.adapters import apply_peft, count_parameters
from fettle.models.inspect_base import inspect_base
from fettle.models.load import load_for_task
from fettle.models.machine import seed_everything
from fettle.models.merge import merge_adapter
from fettle.models.quiet import quiet
from fettle.models.save import load_saved, save_model
from fettle.recipe.methods import PASSED_THROUGH, REFUSED
from fettle.records.facts import BaseFacts
from fettle.records.tokens import Batch, TokenizedExample
from fettle.train.checkpoint import load_checkpoint, save_checkpoint
from fettle.train.loop import training_steps
from fettle.train.objectives import OBJECTIVES
from fettle.train.optimizer import make_optimizer

VOCAB = 260
IDS = torch.tensor([[5, 41, 7, 200, 9, 11, 33], [8, 8, 100, 3, 250, 6, 12]])
# What a toy of 32 wide layers needs, or what the method can't do without.
OPTIONS: dict[str, dict[str, Any]] = {
    "boft": {"boft_block_size": 4},
    "c3a": {"block_size": 8},
    "fourierft": {"n_frequency": 50},
    "gralora": {"r": 8},
    "miss": {"r": 4},
    "oft": {"oft_block_size": 4},
    "psoft": {"r": 4},
    "randlora": {"r": 4},
    "shira": {"r": 4},
    "road": {"group_size": 8},
    "trainable_tokens": {"token_indices": [5, 7, 200]},
    "unilora": {"theta_d_length": 64},
    "vblora": {"r": 2, "vector_length": 16, "num_vectors": 16},
    "vera": {"r": 4},
    "waveft": {"n_frequency": 50},
}
# Its adapters are biases, which Llama's layers do not have; lily's depend on the input.
UNMERGED = ("beft", "lily")
FAST = ("ia3", "loha", "vera")


def facts_of(directory: Path, family: str = "llama") -> BaseFacts:
    base = write_tiny_base(tiny_tokenizer(directory), family, VOCAB, initializer_range=0.1)
    return inspect_base(base, str(base))


def built(facts: BaseFacts, name: str, **options: Any) -> torch.nn.Module:
    seed_everything(0)
    model = load_for_task(facts, "chat", (), 0)
    return apply_peft(model, "chat", name, None, {**OPTIONS.get(name, {}), **options}, facts)


def steps(model: torch.nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    rows = tuple(
        TokenizedExample(str(n), tuple(row.tolist()), (0, 0, 1, 1, 1, 1, 1))
        for n, row in enumerate(IDS)
    )
    for _ in training_steps(
        model,
        OBJECTIVES["chat"],
        optimizer,
        iter([[Batch(rows)]] * last),
        pad_id=0,
        learning_rate=0.05,
        schedule="constant",
        warmup_steps=0,
        num_steps=last,
        steps_per_epoch=1.0,
        max_gradient_norm=1.0,
        autocast=nullcontext,
        first_step=first,
    ):
        pass


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(input_ids=IDS).logits


def test_the_names_are_pefts() -> None:
    known = {name.value.lower() for name in PEFT_TYPE_TO_CONFIG_MAPPING}
    assert {*PASSED_THROUGH, *REFUSED} == known - {"lora"}
    assert not set(PASSED_THROUGH) & set(REFUSED)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # frod, each time it computes
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in PASSED_THROUGH],
)
def test_trained_saved_resumed_and_loaded_by_stock_peft(tmp_path: Path, name: str) -> None:
    facts = facts_of(tmp_path / "base")
    before = logits(load_for_task(facts, "chat", (), 0))
    model = built(facts, name)
    trainable, total = count_parameters(model)
    assert 0 < trainable < total
    optimizer = make_optimizer(model, 0.05, 0.0)
    steps(model, optimizer, 1, 2)
    path = save_checkpoint(tmp_path / "checkpoints", 2, model, optimizer, {})
    draws = torch.get_rng_state()
    steps(model, optimizer, 3, 3)
    idle = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not idle, "they take no part"
    expected = logits(model)
    assert (expected - before).abs().max() > 1e-4, "nothing was learnt"

    # Another process: built anew, then filled from the checkpoint.
    again = built(facts, name)
    fresh = make_optimizer(again, 0.05, 0.0)
    load_checkpoint(path, again, fresh)
    torch.set_rng_state(draws)
    steps(again, fresh, 3, 3)
    assert torch.equal(logits(again), expected)

    meta = {"task": "chat", "labels": [], "base": {"sha256": facts.sha256}, "method": name}
    save_model(model, tmp_path / "model", Tokenizer.load(tmp_path / "base"), None, meta)
    with quiet():
        stock = AutoPeftModelForCausalLM.from_pretrained(str(tmp_path / "model"))
    torch.testing.assert_close(logits(stock), expected, atol=1e-5, rtol=1e-5)
    served = load_saved(tmp_path / "model").model
    torch.testing.assert_close(logits(served), expected, atol=1e-5, rtol=1e-5)
    with served.disable_adapter():
        torch.testing.assert_close(logits(served), before, atol=1e-5, rtol=1e-5)
    if name in UNMERGED:
        with pytest.raises(BaseModelError, match="can't be merged") as caught:
            merge_adapter(served, "the run x")
        assert caught.value.code == "E0537"
    else:
        merged = merge_adapter(served, "the run x")
        torch.testing.assert_close(logits(merged), expected, atol=3e-5, rtol=1e-5)


def test_a_head_is_trained_beside_it(tmp_path: Path) -> None:
    facts = facts_of(tmp_path / "base", "bert")
    for name in ("ia3", "loha"):
        model = load_for_task(facts, "classify", ("a", "b"), 0)
        plain, _ = count_parameters(model.classifier)
        pooler, _ = count_parameters(model.bert.pooler)
        adapted = apply_peft(model, "classify", name, ["attention"], {}, facts)
        names = [name for name, p in adapted.named_parameters() if p.requires_grad]
        head = [name for name in names if "classifier" in name or "pooler" in name]
        sizes = dict(adapted.named_parameters())
        assert sum(sizes[name].numel() for name in head) == plain + pooler
        assert len(names) > len(head)
    model = load_for_task(facts, "classify", ("a", "b"), 0)
    with pytest.raises(RecipeError, match="classify") as caught:
        apply_peft(model, "classify", "trainable_tokens", None, {"token_indices": [5]}, facts)
    assert caught.value.code == "E0535"


def test_wrong_options_are_named(tmp_path: Path) -> None:
    facts = facts_of(tmp_path / "base")
    cases = {
        "unknown": ("loha", {"rnak_dropout": 0.1}, "E0534", "did you mean rank_dropout"),
        "ours": ("loha", {"target_modules": ["q_proj"]}, "E0534", "is set by fettle"),
        "a value that peft refuses": ("c3a", {"block_size": 7}, "E0535", "7"),
        "another type": ("vera", {"r": "many"}, "E0535", "vera"),
    }
    for case, (name, options, code, text) in cases.items():
        with pytest.raises(RecipeError) as caught:
            built(facts, name, **options)
        assert caught.value.code == code, case
        assert text in str(caught.value), case
    with pytest.raises(RecipeError) as caught:
        built(facts, "loha", nonsense=1)
    assert "rank_dropout" in caught.value.hint
    assert "task_type" not in caught.value.hint


def test_adapters_that_fettle_does_not_train_are_refused(tmp_path: Path) -> None:
    facts = facts_of(tmp_path / "base")
    meta = {"task": "chat", "labels": [], "base": {"sha256": facts.sha256}, "method": "ia3"}
    directory = tmp_path / "model"
    path = directory / "adapter_config.json"

    def refuse(old: str, new: str) -> FettleError:
        save_model(built(facts, "ia3"), directory, Tokenizer.load(tmp_path / "base"), None, meta)
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")
        with pytest.raises(IntegrityError) as caught:
            load_saved(directory)
        assert (caught.value.code, caught.value.exit_code) == ("E0912", 9)
        return caught.value

    for kind in ("XLORA", "PREFIX_TUNING", "EVIL"):
        assert kind in refuse('"IA3"', f'"{kind}"').why
    mapping = '{"base_model_class": "os", "parent_library": "os"}'
    assert "import" in refuse('"auto_mapping": null', f'"auto_mapping": {mapping}').why
    # A pickle beside it is never taken instead.
    save_model(built(facts, "ia3"), directory, Tokenizer.load(tmp_path / "base"), None, meta)
    weights = load_file(directory / "adapter_model.safetensors")
    (directory / "adapter_model.safetensors").unlink()
    torch.save(weights, directory / "adapter_model.bin")
    with pytest.raises(IntegrityError) as caught:
        load_saved(directory)
    assert "adapter_model.safetensors" in caught.value.why
