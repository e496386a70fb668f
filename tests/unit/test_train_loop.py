"""The loop: one division a step, errors that name the rows, weights untouched by a bad step."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from tests.train_fixture import PAD, chat_rows, decoder, encoder, label_rows, same, weights

from fettle.errors import DataError, Diverged
from fettle.models.forward import autocast
from fettle.records.events import StepRecord
from fettle.records.tokens import Batch, TokenizedExample
from fettle.train.loop import training_steps
from fettle.train.objectives import OBJECTIVES, LossSum, Objective
from fettle.train.optimizer import make_optimizer


def cut(rows: Sequence[TokenizedExample], sizes: Sequence[int]) -> list[Batch]:
    """Rows as micro-batches of these sizes."""
    batches, start = [], 0
    for size in sizes:
        batches.append(Batch(tuple(rows[start : start + size])))
        start += size
    assert start == len(rows)
    return batches


def steps_of(
    model: torch.nn.Module,
    steps: Sequence[Sequence[Batch]],
    objective: Objective,
    dtype: str = "float32",
) -> Iterator[StepRecord]:
    return training_steps(
        model,
        objective,
        make_optimizer(model, 1e-3, 0.0),
        iter(steps),
        pad_id=PAD,
        learning_rate=1e-3,
        schedule="constant",
        warmup_steps=0,
        num_steps=len(steps),
        steps_per_epoch=2.0,
        max_gradient_norm=1e9,
        autocast=nullcontext if dtype == "float32" else partial(autocast, dtype, "cpu"),
    )


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


CUTS = {"1x8": (8,), "2x4": (4, 4), "8x1": (1,) * 8, "uneven": (1, 5, 2)}


@pytest.mark.parametrize("task", ["chat", "classify"])
def test_cutting_a_step_does_not_change_its_gradient(task: str) -> None:
    rows = chat_rows(8, seed=3) if task == "chat" else label_rows(8)
    if task == "chat":
        targets = [row.num_targets for row in rows]
        assert max(targets) > 8 * min(targets), "the counts must be very unequal"
    found, losses = {}, {}
    for name, sizes in CUTS.items():
        model = decoder() if task == "chat" else encoder()
        (record,) = steps_of(model, [cut(rows, sizes)], OBJECTIVES[task])
        found[name], losses[name] = gradients(model), record.loss
    for name in CUTS:
        assert losses[name] == pytest.approx(losses["1x8"], abs=1e-6)
        for key, expected in found["1x8"].items():
            assert torch.allclose(found[name][key], expected, atol=1e-6, rtol=0), (name, key)


def test_the_record_counts_what_the_step_had() -> None:
    rows = chat_rows(8)
    steps = [cut(rows, (4, 4)), cut(rows[:3], (3,))]
    records = list(steps_of(decoder(), steps, OBJECTIVES["chat"]))
    assert [record.step for record in records] == [1, 2]
    assert [record.epoch for record in records] == [0.5, 1.0]
    assert records[0].num_targets == sum(row.num_targets for row in rows)
    assert records[0].num_tokens == sum(len(row.input_ids) for row in rows)
    assert records[1].num_tokens == sum(len(row.input_ids) for row in rows[:3])
    assert all(record.learning_rate == 1e-3 and record.seconds > 0 for record in records)


def test_a_micro_batch_without_targets_is_no_error_when_the_step_has_some() -> None:
    empty = TokenizedExample("empty", (3, 4, 5), (0, 0, 0))
    rows = [*chat_rows(3), empty]
    (record,) = steps_of(decoder(), [cut(rows, (3, 1))], OBJECTIVES["chat"])
    (expected,) = steps_of(decoder(), [cut(rows[:3], (3,))], OBJECTIVES["chat"])
    assert record.loss == pytest.approx(expected.loss, abs=1e-6)
    assert record.gradient_norm == pytest.approx(expected.gradient_norm, rel=1e-5)


def test_a_step_without_targets_stops_and_names_its_rows() -> None:
    # A mask on the first token is no target: nothing predicts it.
    rows = [TokenizedExample(f"row-{i}", (3, 4, 5), (1, 0, 0)) for i in range(66)]
    model = decoder()
    before = weights(model)
    with pytest.raises(DataError, match="step 1 has no target token") as caught:
        list(steps_of(model, [cut(rows, (66,))], OBJECTIVES["chat"]))
    assert (caught.value.code, caught.value.exit_code) == ("E0602", 3)
    assert "row-0" in caught.value.where
    assert caught.value.where.endswith("and 2 more")
    assert same(before, weights(model))


def poisoned(model: torch.nn.Module, batch: Batch, pad_id: int) -> LossSum:
    """An objective that overflows on one row."""
    result = OBJECTIVES["chat"](model, batch, pad_id)
    if any(row.row_id == "bad" for row in batch.rows):
        return LossSum(result.sum * float("inf"), result.count)
    return result


def test_a_loss_that_is_not_finite_stops_before_the_weights_move() -> None:
    good = chat_rows(4)
    bad = [TokenizedExample("bad", (3, 4, 5), (0, 1, 1)), good[0]]
    model = decoder()
    steps = steps_of(model, [cut(good, (4,)), cut(bad, (1, 1))], poisoned)
    next(steps)
    before = weights(model)
    with pytest.raises(Diverged, match="step 2: loss inf") as caught:
        next(steps)
    assert (caught.value.code, caught.value.exit_code) == ("E0603", 6)
    assert caught.value.where == "rows bad", "only those of the micro-batch that overflows"
    assert "train.learning_rate=0.00033" in caught.value.hint
    assert same(before, weights(model))


def test_a_gradient_that_is_not_finite_stops_too() -> None:
    def objective(model: torch.nn.Module, batch: Batch, pad_id: int) -> LossSum:
        weight = next(model.parameters())
        # sqrt at 0: the value is 0, the gradient infinite.
        return LossSum(torch.sqrt(torch.abs(weight - weight.detach()).sum()), 1)

    model = decoder()
    before = weights(model)
    with pytest.raises(Diverged, match=r"gradient norm (nan|inf)"):
        list(steps_of(model, [cut(chat_rows(2), (2,))], objective))
    assert same(before, weights(model))


def test_bfloat16_products_leave_the_weights_in_float32() -> None:
    model = decoder()
    rows = chat_rows(8)
    (half,) = steps_of(model, [cut(rows, (8,))], OBJECTIVES["chat"], "bfloat16")
    (single,) = steps_of(decoder(), [cut(rows, (8,))], OBJECTIVES["chat"])
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert half.loss != single.loss
    assert half.loss == pytest.approx(single.loss, rel=0.02)
