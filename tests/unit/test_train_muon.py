"""Muon: which weights it takes, that it is torch's own, and that a checkpoint keeps its state."""

from pathlib import Path

import pytest
import torch
from tests.train_fixture import BASE, PAD, chat_rows, decoder, encoder, settings
from torch import Tensor, nn

from fettle.errors import RecipeError
from fettle.models.adapters import apply_lora
from fettle.records.tokens import Batch
from fettle.train.checkpoint import load_checkpoint, save_checkpoint
from fettle.train.objectives import OBJECTIVES
from fettle.train.optimizer import Together, make_optimizer, trainable_parameters

RATE, DECAY = 1e-2, 0.1


def named(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    names = {id(p): name for name, p in model.named_parameters()}
    return [names[id(p)] for group in optimizer.param_groups for p in group["params"]]


def step(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    optimizer.zero_grad()
    OBJECTIVES["chat"](model, Batch(tuple(chat_rows(4, seed))), PAD).sum.backward()
    optimizer.step()


def test_it_takes_the_matrices_of_the_blocks_and_nothing_else() -> None:
    model = decoder()
    optimizer = make_optimizer(model, RATE, DECAY, kind="muon")
    assert isinstance(optimizer, Together)
    muon, adamw = optimizer.parts
    assert isinstance(muon, torch.optim.Muon)
    assert isinstance(adamw, torch.optim.AdamW)
    assert all(".layers." in name and "norm" not in name for name in named(model, muon))
    assert len(named(model, muon)) == 2 * 7
    assert sorted(named(model, adamw)) == sorted(
        name
        for name in trainable_parameters(model)
        if "norm" in name or name in ("model.embed_tokens.weight", "lm_head.weight")
    )
    assert sorted(named(model, optimizer)) == sorted(trainable_parameters(model))
    for group in optimizer.param_groups:
        scales = [parameter.ndim < 2 for parameter in group["params"]]
        assert group["weight_decay"] == (0.0 if all(scales) else DECAY)


def test_a_step_is_torchs_muon_and_torchs_adamw() -> None:
    model, stock = decoder(), decoder()
    optimizer = make_optimizer(model, RATE, DECAY, kind="muon")
    own = [p for n, p in stock.named_parameters() if ".layers." in n and p.ndim == 2]
    rest = [p for n, p in stock.named_parameters() if ".layers." not in n and p.ndim == 2]
    scales = [p for p in stock.parameters() if p.ndim < 2]
    muon = torch.optim.Muon(own, lr=RATE, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(
        [{"params": rest, "weight_decay": DECAY}, {"params": scales, "weight_decay": 0.0}], lr=RATE
    )
    for seed in range(3):
        step(model, optimizer, seed)
        muon.zero_grad()
        adamw.zero_grad()
        OBJECTIVES["chat"](stock, Batch(tuple(chat_rows(4, seed))), PAD).sum.backward()
        muon.step()
        adamw.step()
    # Fused AdamW rounds in another order.
    for (name, one), other in zip(model.named_parameters(), stock.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, msg=name)


def test_its_step_is_as_long_as_adamws() -> None:
    """So one rate serves both: the root mean square of a step is 0.2 of the rate (Liu et al. 2025).

    Five rounds of the iteration bring singular values only near one: a quarter more or less.
    """
    model = decoder()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = make_optimizer(model, RATE, 0.0, kind="muon")
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        if ".layers." in name and parameter.ndim == 2:
            moved = float((parameter.detach() - before[name]).square().mean().sqrt())
            assert moved == pytest.approx(0.2 * RATE, rel=0.25), name


def test_the_groups_are_those_that_the_parts_read() -> None:
    optimizer = make_optimizer(decoder(), RATE, DECAY, kind="muon")
    assert isinstance(optimizer, Together)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    for part in optimizer.parts:
        assert [group["lr"] for group in part.param_groups] == [0.0] * len(part.param_groups)


def test_adapters_and_their_faster_b() -> None:
    model = apply_lora(decoder(), "chat", 4, 8, 0.0, None, BASE)
    optimizer = make_optimizer(model, RATE, DECAY, 16.0, "muon")
    assert isinstance(optimizer, Together)
    assert [type(part) for part in optimizer.parts] == [torch.optim.Muon]
    factors = {}
    for group in optimizer.param_groups:
        names = {id(p): name for name, p in model.named_parameters()}
        factors |= {names[id(p)]: group["rate_factor"] for p in group["params"]}
    assert {factor for name, factor in factors.items() if "lora_B" in name} == {16.0}
    assert {factor for name, factor in factors.items() if "lora_A" in name} == {1.0}


def test_without_a_matrix_it_is_refused() -> None:
    model = encoder()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith("classifier.")
    with pytest.raises(RecipeError, match="no matrix inside a block") as caught:
        make_optimizer(model, RATE, DECAY, kind="muon")
    assert caught.value.code == "E0607"


def test_a_checkpoint_keeps_momentum_and_moments(tmp_path: Path) -> None:
    model = decoder()
    optimizer = make_optimizer(model, RATE, DECAY, kind="muon")
    step(model, optimizer, 0)
    path = save_checkpoint(tmp_path, 1, model, optimizer, {})
    again = decoder()
    fresh = make_optimizer(again, RATE, DECAY, kind="muon")
    load_checkpoint(path, again, fresh)
    kinds = {name.rpartition("/")[2] for name in state_of(model, optimizer)}
    assert kinds == {"momentum_buffer", "exp_avg", "exp_avg_sq", "step"}
    before, after = state_of(model, optimizer), state_of(again, fresh)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    for seed in (1, 2):
        step(model, optimizer, seed)
        step(again, fresh, seed)
    for (name, one), other in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other), name


def state_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}/{key}": value
        for name, p in model.named_parameters()
        for key, value in optimizer.state[p].items()
    }


def test_the_recipe_chooses_it() -> None:
    assert settings().optimizer == "adamw"
    assert settings(optimizer="muon").optimizer == "muon"
