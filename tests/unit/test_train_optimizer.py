"""What AdamW gets: all trainable weights, decay on matrices only, LoRA+'s faster B matrices."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from tests.train_fixture import BASE, PAD, chat_rows, decoder, encoder

from fettle.errors import RecipeError
from fettle.models.adapters import apply_lora, apply_peft
from fettle.records.tokens import Batch
from fettle.train.checkpoint import load_checkpoint, save_checkpoint
from fettle.train.loop import training_steps
from fettle.train.objectives import OBJECTIVES
from fettle.train.optimizer import make_optimizer, trainable_parameters


def test_decay_acts_on_matrices_only() -> None:
    model = encoder()
    optimizer = make_optimizer(model, 1e-3, 0.1)
    groups = optimizer.param_groups
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    names = dict(model.named_parameters())
    assert len(decay) == len(names)
    for name, parameter in names.items():
        expected = 0.0 if name.endswith("bias") or "LayerNorm" in name else 0.1
        assert decay[id(parameter)] == expected, name


def test_frozen_weights_are_left_out() -> None:
    model = encoder()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith("classifier.")
    optimizer = make_optimizer(model, 1e-3, 0.1)
    assert list(trainable_parameters(model)) == ["classifier.weight", "classifier.bias"]
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 1]


def test_only_vectors_make_one_group() -> None:
    model = torch.nn.LayerNorm(4)
    optimizer = make_optimizer(model, 1e-3, 0.1)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0]


def test_nothing_trainable_is_an_error() -> None:
    model = encoder().requires_grad_(False)
    with pytest.raises(RecipeError, match="nothing is trainable") as caught:
        make_optimizer(model, 1e-3, 0.1)
    assert caught.value.code == "E0601"
    assert caught.value.exit_code == 2


def adapted(name: str) -> torch.nn.Module:
    if name == "ia3":
        return apply_peft(decoder(), "chat", "ia3", None, {}, BASE)
    return apply_lora(decoder(), "chat", 4, 8, 0.0, None, BASE, dora=name == "dora")


@pytest.mark.parametrize("name", ["lora", "dora"])
def test_lora_plus_moves_b_faster_and_nothing_else(name: str) -> None:
    model = adapted(name)
    optimizer = make_optimizer(model, 1e-3, 0.1, plus_ratio=16)
    names = {id(p): name for name, p in model.named_parameters()}
    seen = []
    for group in optimizer.param_groups:
        assert group["lr"] == 1e-3 * group["rate_factor"]
        for parameter in group["params"]:
            seen.append(names[id(parameter)])
            assert group["rate_factor"] == (16 if "lora_B" in seen[-1] else 1)
            assert group["weight_decay"] == (0.0 if "magnitude" in seen[-1] else 0.1)
    assert sorted(seen) == sorted(trainable_parameters(model))
    factors = {group["rate_factor"] for group in make_optimizer(model, 1e-3, 0.1).param_groups}
    assert factors == {1.0}


def test_factors_that_begin_at_one_do_not_decay() -> None:
    optimizer = make_optimizer(adapted("ia3"), 1e-3, 0.1)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0]


def test_the_ratio_is_kept_through_the_loop_and_a_checkpoint(tmp_path: Path) -> None:
    def steps(model: torch.nn.Module, optimizer: torch.optim.Optimizer, first: int) -> None:
        for _ in training_steps(
            model,
            OBJECTIVES["chat"],
            optimizer,
            iter([[Batch(tuple(chat_rows(4)))]] * 4),
            pad_id=PAD,
            learning_rate=1e-3,
            schedule="linear",
            warmup_steps=2,
            num_steps=first + 1,
            steps_per_epoch=1.0,
            max_gradient_norm=1.0,
            autocast=nullcontext,
            first_step=first,
        ):
            rates = {group["rate_factor"]: group["lr"] for group in optimizer.param_groups}
            assert rates[16.0] == pytest.approx(16 * rates[1.0])

    model = adapted("lora")
    optimizer = make_optimizer(model, 1e-3, 0.1, 16.0)
    steps(model, optimizer, 1)
    path = save_checkpoint(tmp_path, 2, model, optimizer, {})
    again = adapted("lora")
    fresh = make_optimizer(again, 1e-3, 0.1, 16.0)
    load_checkpoint(path, again, fresh)
    steps(model, optimizer, 3)
    steps(again, fresh, 3)
    for (name, one), other in zip(model.named_parameters(), again.parameters(), strict=True):
        if one.requires_grad:
            assert torch.equal(one, other), name
