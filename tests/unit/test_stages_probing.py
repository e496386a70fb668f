"""The probe before training: what it may choose, what it leaves alone, what it foretells."""

from contextlib import nullcontext as _nothing
from dataclasses import replace
from types import SimpleNamespace
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
from fettle.train.optimizer import make_optimizer

COST = StepCost("float32", 1, 512, 0.01, 0.003, 0.5, 2**30, {"float32": 100.0})
FAST_HALF = replace(MACHINE, gflops={"float32": 50.0, "bfloat16": 500.0}, num_threads=2)


def resolved(
    cost: StepCost | None = None, machine: MachineFacts = MACHINE, **sections: Any
) -> Settings:
    recipe = Recipe.model_validate({"data": {"path": ["x"]}, **sections})
    return resolve(recipe, data_facts(), BASE, machine, "loss", cost)


def bench(
    settings: Settings,
    model: nn.Module | None = None,
    rows: list[TokenizedExample] | None = None,
) -> probing._Bench:
    size, budget = settings.batch_size, settings.micro_batch_tokens
    steps = StepIterator(rows or chat_rows(24), size, budget, settings.seed)
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


def without_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, everything is tried, on all the rows."""
    for name in ("SECONDS", "TRIAL_SECONDS", "THREAD_SECONDS"):
        monkeypatch.setattr(probing, name, 1e9)


def test_everything_open_is_tried_and_the_position_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without_haste(monkeypatch)
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


def test_the_optimizer_on_the_bench_is_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def note(model: nn.Module, objective: object, optimizer: object, *rest: object) -> object:
        seen.append(type(optimizer).__name__)
        return 1, 1.0

    monkeypatch.setattr(probing, "step_peak", note)
    probing._measure(bench(resolved(train={"optimizer": "muon"})), MACHINE)
    wanted = make_optimizer(bench(resolved()).model, 1e-3, 0.0, kind="muon")
    assert set(seen) == {type(wanted).__name__}
    assert "AdamW" not in seen


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([1.0, 0.5], 1.0),  # nothing fixed: as fast in any length
        ([1.0, 1.0, 1.0, 1.0, 1.0], 1.0),  # noise tells nothing
        ([1.0, 1.3, 1.0, 1.2, 1.0], 1.0),
        ([1.0, 1.3, 1.0, 0.5], 1.0),  # the second look is as it should be
        ([1.0, 0.75], 0.5),  # half of it is fixed, and weighs nothing in a long pass
    ],
)
def test_fixed_costs_are_taken_from_two_lengths_only_where_they_tell(
    monkeypatch: pytest.MonkeyPatch, times: list[float], expected: float
) -> None:
    on_bench = bench(resolved())
    left = iter(times)
    monkeypatch.setattr(
        probing._Bench,
        "_time",
        lambda self, dtype, threads, size, limit: (next(left), 100 if limit > 50 else 50),
    )
    found = on_bench.at_whole_size("it", "float32", 1, 10**6, 100)
    assert found * 100 == pytest.approx(expected, rel=1e-3)


class _Hungry(nn.Module):
    """Keeps about a mebibyte a token for the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, tokens: int) -> torch.Tensor:
        return (torch.ones(tokens, 2**18) * self.weight).exp().mean()


@pytest.mark.parametrize("shortest", [3, 40, 60])
def test_memory_of_the_largest_micro_batch_is_foretold(
    monkeypatch: pytest.MonkeyPatch, shortest: int
) -> None:
    """Also where rows are so long that one of them is all that can be tried, or all alike."""
    rows = chat_rows(24)
    if shortest > 3:
        lengths = [60] * 23 + [shortest]
        rows = [TokenizedExample(f"{i:016x}", (5,) * n, (1,) * n) for i, n in enumerate(lengths)]

    def hungry(model: nn.Module, batch: Batch, pad_id: int) -> LossSum:
        return LossSum(model(batch.num_tokens), 1.0)

    monkeypatch.setitem(OBJECTIVES, "chat", hungry)
    settings = resolved(train={"batch_size": 24, "micro_batch_tokens": 512})
    on_bench = bench(settings, _Hungry(), rows)
    assert (len(on_bench.batches(512, 64)[0].rows) == 1) == (shortest > 3)
    memory, _ = probing._memory(on_bench, 512, 64, 0.05, _nothing)
    idle = psutil.Process().memory_info().rss
    widest = probing._widest(on_bench, 512)
    whole = Batch((TokenizedExample("r", (1,) * widest, (1,) * widest),))
    optimizer = torch.optim.AdamW(on_bench.model.parameters(), lr=1e-9)
    measured, _ = probing.step_peak(on_bench.model, hungry, optimizer, whole, PAD, _nothing)
    assert widest > 128
    assert memory == pytest.approx(measured, rel=0.1)
    # The step's own part too, whatever the process holds from tests before this one: a probe that
    # foretold only its own small step would fail.
    assert measured - idle > 2**28
    assert memory - idle == pytest.approx(measured - idle, rel=0.3)


def test_a_run_that_does_not_fit_is_refused_with_both_figures() -> None:
    needs = Estimate(2**60, 1.0, 1.0)
    with pytest.raises(OutOfMemory, match=r"needs 1073741824\.0 GiB") as caught:
        probing.check_memory(needs, MACHINE, resolved(method={"type": "full"}))
    assert (caught.value.code, caught.value.exit_code) == ("E0608", 5)
    assert "method.type=lora" in caught.value.hint
    probing.check_memory(Estimate(1, 1.0, 1.0), MACHINE, resolved())


def test_threads_are_chosen_on_a_micro_batch_as_the_run_has_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Several threads lose on few tokens and win on many: what counts is the run's own size."""
    spent: list[tuple[int, int]] = []

    def timed(model: nn.Module, objective: Any, batches: Any, *rest: Any) -> float:
        tokens = sum(batch.num_tokens for batch in batches)
        spent.append((torch.get_num_threads(), tokens))
        waiting = 0.08 if torch.get_num_threads() > 1 else 0.0
        return waiting + tokens * 1e-3 / torch.get_num_threads()

    monkeypatch.setattr(probing, "training_seconds", timed)
    asked = resolved(machine=FAST_HALF, train={"micro_batch_tokens": 512})
    on_bench = bench(asked)
    before = torch.get_num_threads()
    try:
        cost = probing._measure(on_bench, FAST_HALF)
    finally:
        torch.set_num_threads(before)
    trials = [(threads, tokens) for threads, tokens in spent if tokens > probing.FIRST_TOKENS]
    assert cost.threads == 2
    assert cost.seconds_per_token < 1e-3
    assert {threads for threads, _ in trials} == {1, 2}
    # All that the rows have, because two seconds allow more.
    assert {tokens for _, tokens in trials} == {sum(row.num_tokens for row in on_bench.rows)}
    assert cost.speeds["2 threads"] > cost.speeds["1 thread"]
    # Two rounds of each: about two seconds, had they been spent.
    seconds = [tokens * 1e-3 / threads + 0.08 * (threads > 1) for threads, tokens in trials[:2]]
    assert 2 * sum(seconds) <= probing.THREAD_SECONDS


class _NoRoom:
    """An objective for which only so many tokens fit into memory."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.largest = 0

    def __call__(self, model: nn.Module, batch: Batch, pad_id: int) -> LossSum:
        if batch.num_tokens > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        self.largest = max(self.largest, batch.num_tokens)
        return OBJECTIVES["text"](model, batch, pad_id)


def probed(
    monkeypatch: pytest.MonkeyPatch, most: int, **sections: Any
) -> tuple[StepCost | None, int]:
    """What the probe finds, and the largest micro-batch that it ran."""
    without_haste(monkeypatch)
    room = _NoRoom(most)
    monkeypatch.setitem(OBJECTIVES, "chat", room)
    monkeypatch.setattr(probing, "trainable_model", lambda *_: decoder())
    # The probe reads no more of the earlier stages than this.
    tokens = SimpleNamespace(tokenizer=SimpleNamespace(pad_id=PAD), train=chat_rows(96))
    settings = resolved(**sections)
    prepared: Any = SimpleNamespace(task="chat", labels=(), multi_label=False)
    return probing.probe_training(settings, BASE, prepared, tokens, MACHINE), room.largest


def test_where_memory_is_short_the_probe_goes_on_with_smaller_micro_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    roomy, largest = probed(monkeypatch, 10_000)
    assert roomy is not None
    assert largest > 1000
    tight, largest = probed(monkeypatch, 500)
    assert tight is not None
    assert 128 < largest <= 512
    assert tight.micro_batch_tokens <= 512
    # A size that the user gave is not changed: training says what does not fit.
    assert probed(monkeypatch, 500, train={"micro_batch_tokens": 8192})[0] is None


def test_where_not_even_a_small_one_fits_there_is_no_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    assert probed(monkeypatch, 0)[0] is None
    assert torch.get_num_threads() == before


def test_another_error_is_not_taken_for_a_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> nn.Module:
        raise RuntimeError("shapes do not match")

    probed(monkeypatch, 10_000)
    monkeypatch.setattr(probing, "trainable_model", broken)
    tokens: Any = SimpleNamespace(tokenizer=SimpleNamespace(pad_id=PAD), train=chat_rows(24))
    with pytest.raises(RuntimeError, match="shapes"):
        probing.probe_training(resolved(), BASE, SimpleNamespace(task="chat"), tokens, MACHINE)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_measured_step_that_does_not_fit_is_refused_before_training(method: str) -> None:
    """From the probe's own figure to E0608, as the pipeline puts them together."""
    settings = resolved(method={"type": method}, train={"micro_batch_tokens": 1024})
    far = replace(COST, memory_bytes=2**50)
    with pytest.raises(OutOfMemory) as caught:
        probing.check_memory(estimate(settings, data_facts(), far), MACHINE, settings)
    assert (caught.value.code, caught.value.exit_code) == ("E0608", 5)
    assert "1048576.0 GiB" in str(caught.value)
    assert "train.micro_batch_tokens=256" in caught.value.hint
    assert ("method.type=lora" in caught.value.hint) == (method == "full")


def test_what_a_pass_costs_anyway_does_not_decide_the_dtype(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Converting the weights makes bfloat16 slow on few tokens; the run has more of them."""

    def timed(model: nn.Module, objective: Any, batches: Any, pad_id: int, autocast: Any) -> float:
        tokens = sum(batch.num_tokens for batch in batches)
        half = autocast.args[0] == "bfloat16"
        return 0.08 + tokens * 5e-4 if half else tokens * 1e-3

    monkeypatch.setattr(probing, "training_seconds", timed)
    monkeypatch.setattr(probing, "TRIAL_SECONDS", 0.2)
    for size, dtype in ((2048, "bfloat16"), (144, "float32")):
        asked = resolved(
            machine=FAST_HALF, train={"micro_batch_tokens": size, "threads": 1, "batch_size": 24}
        )
        cost = probing._measure(bench(asked), FAST_HALF)
        assert cost.dtype == dtype
        expected = 0.08 / size + 5e-4 if dtype == "bfloat16" else 1e-3
        assert cost.seconds_per_token == pytest.approx(expected)
