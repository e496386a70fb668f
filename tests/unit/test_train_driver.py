"""The driver: best checkpoint, early stopping, pruning, stop and resume."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.train_fixture import (
    PAD,
    Events,
    chat_rows,
    decoder,
    encoder,
    label_rows,
    names,
    same,
    scripted,
    settings,
    weights,
)

from fettle.errors import Diverged, IntegrityError, Interrupted
from fettle.inference.predict import row_losses
from fettle.recipe.resolve import Settings
from fettle.train.train import TrainingResult, Validation, train

STEPS = 12


def drive(
    model: torch.nn.Module,
    folder: Path,
    chosen: Settings,
    events: Events,
    validate: Callable[[], Validation] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> TrainingResult:
    rows = label_rows() if chosen.task == "classify" else chat_rows()

    def by_loss() -> Validation:
        found = row_losses(model, chat_rows(6, seed=9), PAD, 64)
        loss = sum(total for total, _ in found) / sum(count for _, count in found)
        return Validation(loss, "loss", loss, higher_is_better=False)

    return train(
        model,
        rows,
        chosen,
        device="cpu",
        pad_id=PAD,
        checkpoints=folder,
        validate=validate or by_loss,
        emit=events,
        stop_requested=stop,
    )


def short(task: str = "chat", **changes: Any) -> Settings:
    values = {
        "batch_size": 8,
        "max_steps": STEPS,
        "evaluate_every": 2,
        "learning_rate": 3e-3,
        "micro_batch_tokens": 64,
        "patience": 100,
    }
    return settings(task, **{**values, **changes})


def test_the_best_weights_are_in_the_model_at_the_end(tmp_path: Path) -> None:
    model, events = decoder(), Events()
    seen: dict[int, dict[str, torch.Tensor]] = {}
    script = scripted([3.0, 2.0, 1.0, 2.0, 3.0, 2.0])

    def validate() -> Validation:
        seen[2 * (len(seen) + 1)] = weights(model)
        return script()

    result = drive(model, tmp_path, short(), events, validate)
    assert (result.steps, result.best_step, result.best_value) == (STEPS, 6, 1.0)
    assert (result.looks, result.stopped_early) == (6, False)
    assert result.num_tokens == sum(event["num_tokens"] for event in events.of("step"))
    assert same(weights(model), seen[6])
    assert not same(seen[12], seen[6])
    assert [event["best"] for event in events.of("validation")] == [True] * 3 + [False] * 3
    assert names(tmp_path) == ["000006", "000010", "000012"], "best and the last two"


def test_the_one_before_can_always_be_gone_on_from(tmp_path: Path) -> None:
    script = [3.0, 1.0, 2.0, 2.0, 2.0, 0.5]
    whole = decoder()
    expected = drive(whole, tmp_path, short(), Events(), scripted(script))
    assert names(tmp_path) == ["000004", "000010", "000012"], "10 needs 4, the best of its time"
    newest = tmp_path / "000012" / "optimizer.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    model, after = decoder(), Events()
    assert drive(model, tmp_path, short(), after, scripted(script[5:])) == expected
    assert same(weights(model), weights(whole))
    assert [event["step"] for event in after.of("step")] == [11, 12]


def test_equal_values_are_told_apart_by_the_loss(tmp_path: Path) -> None:
    losses = [0.5, 0.4, 0.6, 0.4, 0.5, 0.5]

    def validate() -> Validation:
        return Validation(losses.pop(0), "accuracy", 0.9, higher_is_better=True)

    assert drive(decoder(), tmp_path, short(), Events(), validate).best_step == 4


def test_higher_is_better_is_respected(tmp_path: Path) -> None:
    values = [0.1, 0.9, 0.5, 0.2, 0.1, 0.3]

    def validate() -> Validation:
        return Validation(1.0, "accuracy", values.pop(0), higher_is_better=True)

    result = drive(decoder(), tmp_path, short(), Events(), validate)
    assert (result.best_step, result.best_value) == (4, 0.9)


def test_early_stopping(tmp_path: Path) -> None:
    events = Events()
    script = scripted([2.0, 1.0, 1.5, 1.5, 9.0])
    result = drive(decoder(), tmp_path, short(patience=2), events, script)
    assert (result.steps, result.best_step, result.stopped_early) == (8, 4, True)
    assert any("stopped early" in event["message"] for event in events.of("note"))
    # A kill after that, before the model is written: nothing is trained twice.
    again = Events()
    assert drive(decoder(), tmp_path, short(patience=2), again, scripted([])) == result
    assert again.of("step") == []


def test_losing_patience_at_the_last_step_is_not_early(tmp_path: Path) -> None:
    events = Events()
    result = drive(
        decoder(), tmp_path, short(patience=2), events, scripted([3.0, 2.9, 2.8, 2.7, 3.0, 3.0])
    )
    assert (result.steps, result.stopped_early) == (STEPS, False)
    assert not any("stopped early" in event["message"] for event in events.of("note"))


def test_checkpoints_between_looks(tmp_path: Path) -> None:
    events = Events()
    drive(decoder(), tmp_path, short(evaluate_every=6, checkpoint_every=4), events)
    assert [event["step"] for event in events.of("checkpoint")] == [4, 6, 8, 12]
    assert [event["step"] for event in events.of("validation")] == [6, 12]


CASES = {
    "decoder": ("chat", lambda: decoder(0.0)),
    "decoder with dropout": ("chat", lambda: decoder(0.2)),
    "encoder with dropout": ("classify", lambda: encoder(0.2)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("stop_after", [1, 5])
def test_stopped_and_resumed_equals_uninterrupted(
    tmp_path: Path, case: str, stop_after: int
) -> None:
    task, make = CASES[case]
    script = [3.0, 2.0, 2.5, 1.0, 1.5, 2.0]
    whole, events = make(), Events()
    torch.manual_seed(5)
    expected = drive(whole, tmp_path / "whole", short(task), events, scripted(script))

    first, before = make(), Events()
    torch.manual_seed(5)
    looks = stop_after // 2
    with pytest.raises(Interrupted, match=f"after step {stop_after} of {STEPS}") as caught:
        drive(
            first,
            tmp_path / "cut",
            short(task),
            before,
            scripted(script[:looks]),
            stop=lambda: len(before.of("step")) == stop_after,
        )
    assert (caught.value.code, caught.value.exit_code) == ("E0604", 7)
    assert "fettle resume" in caught.value.hint
    assert f"{stop_after:06d}" in names(tmp_path / "cut")

    second, after = make(), Events()
    torch.manual_seed(99)  # a new process has another random state
    found = drive(second, tmp_path / "cut", short(task), after, scripted(script[looks:]))
    assert found == expected
    assert same(weights(second), weights(whole))
    steps = [event["loss"] for log in (before, after) for event in log.of("step")]
    assert steps == [event["loss"] for event in events.of("step")]
    assert any("resumed after step" in event["message"] for event in after.of("note"))


def test_a_damaged_newest_checkpoint_costs_only_its_steps(tmp_path: Path) -> None:
    script = [3.0, 2.0, 2.5, 1.0, 1.5, 2.0]
    whole = decoder()
    expected = drive(whole, tmp_path / "whole", short(), Events(), scripted(script))

    before = Events()
    with pytest.raises(Interrupted):
        drive(
            decoder(),
            tmp_path / "cut",
            short(),
            before,
            scripted(script[:3]),
            stop=lambda: len(before.of("step")) == 7,
        )
    assert names(tmp_path / "cut") == ["000004", "000006", "000007"]
    damaged = tmp_path / "cut" / "000007" / "weights.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    model, after = decoder(), Events()
    assert drive(model, tmp_path / "cut", short(), after, scripted(script[3:])) == expected
    assert same(weights(model), weights(whole))
    assert any("000007 is damaged" in event["message"] for event in after.of("note"))
    assert after.of("step")[0]["step"] == 7


def test_starting_over_is_never_silent(tmp_path: Path) -> None:
    script = [3.0, 1.0, 2.5, 2.0, 1.5, 2.0]
    whole, place = decoder(), tmp_path / "checkpoints"
    expected = drive(whole, place, short(), Events(), scripted(script))
    best = place / "000004" / "weights.safetensors"
    content = best.read_bytes()
    best.write_bytes(content[:-1])
    events, before = Events(), names(place)
    with pytest.raises(IntegrityError, match="none of the 3 checkpoints") as caught:
        drive(decoder(), place, short(), events, scripted(script))
    assert (caught.value.code, caught.value.exit_code) == ("E0908", 9)
    assert f"rm -r {place}, then `fettle resume {tmp_path}`" in caught.value.hint
    assert events.all == []
    assert names(place) == before, "nothing is deleted before it is decided"
    # The two ways out: the files put back, and from the first step.
    best.write_bytes(content)
    assert drive(decoder(), place, short(), Events(), scripted([])) == expected
    shutil.rmtree(place)
    model = decoder()
    assert drive(model, place, short(), Events(), scripted(script)) == expected
    assert same(weights(model), weights(whole))


def test_a_validation_loss_that_is_no_number_stops(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="step 4: the loss on the validation rows is nan") as caught:
        drive(decoder(), tmp_path, short(), Events(), scripted([1.0, float("nan")]))
    assert caught.value.exit_code == 6
    assert names(tmp_path) == ["000002"]


def test_a_metric_without_a_value_is_the_worst(tmp_path: Path) -> None:
    values = [float("nan"), 0.1, float("nan"), 0.05, 0.02, 0.0]

    def validate() -> Validation:
        return Validation(1.0, "pearson", values.pop(0), higher_is_better=True)

    result = drive(decoder(), tmp_path, short(), Events(), validate)
    assert (result.best_step, result.best_value) == (4, 0.1)


def test_what_was_said_is_durable_before_a_checkpoint_says_that_it_happened(tmp_path: Path) -> None:
    order: list[str] = []

    def emit(event: str, fields: dict[str, Any]) -> None:
        order.append(event)

    train(
        decoder(),
        chat_rows(),
        short(max_steps=2),
        device="cpu",
        pad_id=PAD,
        checkpoints=tmp_path,
        validate=scripted([1.0]),
        emit=emit,
        stop_requested=lambda: False,
        flush=lambda: order.append(f"flush with {names(tmp_path) if tmp_path.exists() else []}"),
    )
    assert order == ["step", "step", "validation", "flush with []", "checkpoint"]


def test_a_best_checkpoint_that_vanishes_meanwhile_is_an_error(tmp_path: Path) -> None:
    events = Events()

    def emit(event: str, fields: dict[str, Any]) -> None:
        events(event, fields)
        if event == "checkpoint" and fields["step"] == STEPS:
            (tmp_path / "000012" / "weights.safetensors").unlink()

    rows = chat_rows()
    with pytest.raises(IntegrityError, match="000012 is damaged"):
        train(
            decoder(),
            rows,
            short(),
            device="cpu",
            pad_id=PAD,
            checkpoints=tmp_path,
            validate=scripted([6.0, 5.0, 4.0, 3.0, 2.0, 1.0]),
            emit=emit,
            stop_requested=lambda: False,
        )


def test_a_checkpoint_for_other_rows_is_refused(tmp_path: Path) -> None:
    drive(decoder(), tmp_path, short(), Events())
    with pytest.raises(IntegrityError) as caught:
        drive(decoder(), tmp_path, short(batch_size=4, max_steps=20), Events())
    assert caught.value.code == "E0930"


def test_training_learns(tmp_path: Path) -> None:
    model, events = encoder(), Events()
    drive(
        model,
        tmp_path,
        short("classify", max_steps=30, evaluate_every=30),
        events,
        scripted([1.0]),
    )
    losses = [event["loss"] for event in events.of("step")]
    assert sum(losses[-3:]) < 0.3 * sum(losses[:3])
