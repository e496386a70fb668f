"""The probe before training: what it may choose, what it leaves alone, what it foretells."""

from contextlib import nullcontext as _nothing
from dataclasses import replace
from typing import Any

import psutil
import pytest
import torch
from tests.train_fixture import BASE, MACHINE, PAD, chat_rows, data_facts, decoder
from torch import nn

from fettle.data.batches import StepIterator
from fettle.errors import OutOfMemory
from fettle.recipe.estimate import Estimate, estimate
from fettle.recipe.recipe import Recipe
from fettle.recipe.resolve import Settings, resolve
from fettle.records.facts import MachineFacts, StepCost
from fettle.records.tokens import Batch, TokenizedExample
from fettle.stages import probing
from fettle.train.objectives import OBJECTIVES
from fettle.train.objectives.loss_sum import LossSum

COST = StepCost("float32", 1, 512, 0.01, 0.003, 0.5, 2**30, {"float32": 100.0})
FAST_HALF = replace(MACHINE, gflops={"float32": 50.0, "bfloat16": 500.0}, num_threads=2)


def resolved(
    cost: StepCost | None = None, machine: MachineFacts = MACHINE, **sections: Any
) -> Settings:
    recipe = Recipe.model_validate({"data": {"path": ["x"]}, **sections})
    return resolve(recipe, data_facts(), BASE, machine, "loss", cost)


def bench(settings: Settings, model: nn.Module | None = None) -> probing._Bench:
    size, budget = settings.batch_size, settings.micro_batch_tokens
    steps = StepIterator(chat_rows(24), size, budget, settings.seed)
    found = [row for batches in probing._first(steps, 9) for b in batches for row in b.rows]
    return probing._Bench((model or decoder()).train(), found, settings, steps, PAD, "cpu")


def test_the_estimate_counts_tokens_steps_and_looks() -> None:
    settings = resolved(COST, train={"max_steps": 6, "batch_size": 8, "evaluate_every": 4})
    facts = data_facts(train_tokens=3_000, validation_tokens=1_000)
    needs = estimate(settings, facts, COST)
    # 3 steps are an epoch, so 6,000 tokens; 2 looks.
    steps = 6_000 * 0.01 + 6 * 0.5
    assert needs.training_seconds == pytest.approx(steps + 2 * 1_000 * 0.003)
    assert needs.tokens_per_second == pytest.approx(6_000 / steps)
    assert needs.memory_bytes == 2**30


def test_the_rules_take_what_the_probe_found() -> None:
    settings = resolved(replace(COST, dtype="bfloat16", micro_batch_tokens=1024))
    assert (settings.dtype, settings.threads, settings.micro_batch_tokens) == ("bfloat16", 1, 1024)
    assert settings.settings["base.dtype"].source == "probed"
    assert settings.settings["base.dtype"].reason.endswith("float32 100 tokens/s")
    users = resolved(COST, base={"dtype": "bfloat16"}, train={"micro_batch_tokens": 99})
    assert (users.dtype, users.micro_batch_tokens) == ("bfloat16", 99)


def test_everything_open_is_tried_and_the_position_is_left() -> None:
    on_bench = bench(resolved(machine=FAST_HALF))
    before = on_bench.steps.state()
    cost = probing._measure(on_bench, FAST_HALF)
    assert {"1 thread", "2 threads", "float32", "bfloat16"} < set(cost.speeds)
    assert cost.dtype in ("float32", "bfloat16")
    assert cost.micro_batch_tokens in {*probing.SIZES, on_bench.settings.micro_batch_tokens}
    assert cost.seconds_per_token > 0
    assert cost.look_seconds_per_token > 0
    assert cost.step_seconds > 0
    assert on_bench.steps.state() == before


def test_what_the_user_gave_is_not_tried_otherwise() -> None:
    asked = resolved(base={"dtype": "float32"}, train={"threads": 1, "micro_batch_tokens": 64})
    cost = probing._measure(bench(asked), FAST_HALF)
    assert set(cost.speeds) == {"1 thread", "float32"}
    assert (cost.dtype, cost.threads, cost.micro_batch_tokens) == ("float32", 1, 64)


class _Hungry(nn.Module):
    """Keeps about a mebibyte a token for the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, tokens: int) -> torch.Tensor:
        return (torch.ones(tokens, 2**18) * self.weight).exp().mean()


def test_memory_of_the_largest_micro_batch_is_foretold(monkeypatch: pytest.MonkeyPatch) -> None:
    def hungry(model: nn.Module, batch: Batch, pad_id: int) -> LossSum:
        return LossSum(model(batch.num_tokens), 1.0)

    monkeypatch.setitem(OBJECTIVES, "chat", hungry)
    settings = resolved(train={"batch_size": 24, "micro_batch_tokens": 512})
    on_bench = bench(settings, _Hungry())
    memory, _ = probing._memory(on_bench, 512, 64, 0.03, _nothing)
    idle = psutil.Process().memory_info().rss
    widest = probing._widest(on_bench, 512)
    whole = Batch((TokenizedExample("r", (1,) * widest, (1,) * widest),))
    optimizer = torch.optim.AdamW(on_bench.model.parameters(), lr=1e-9)
    measured, _ = probing.step_peak(on_bench.model, hungry, optimizer, whole, PAD, _nothing)
    assert widest > 128
    assert memory == pytest.approx(measured, rel=0.1)
    # Most of it is this step's: a probe that foretold only its own small step would fail.
    assert measured - idle > 0.3 * measured


def test_a_run_that_does_not_fit_is_refused_with_both_figures() -> None:
    needs = Estimate(2**60, 1.0, 1.0)
    with pytest.raises(OutOfMemory, match=r"needs 1073741824\.0 GiB") as caught:
        probing.check_memory(needs, MACHINE, resolved(method={"type": "full"}))
    assert (caught.value.code, caught.value.exit_code) == ("E0608", 5)
    assert "method.type=lora" in caught.value.hint
    probing.check_memory(Estimate(1, 1.0, 1.0), MACHINE, resolved())
