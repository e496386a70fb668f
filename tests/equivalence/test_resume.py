"""A training that was stopped, or did not fit into memory, is the one that was left alone."""

import json
import multiprocessing
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.train_fixture import (
    PAD,
    Events,
    chat_rows,
    decoder,
    encoder,
    label_rows,
    same,
    scripted,
    settings,
    weights,
)

from fettle.errors import Interrupted, OutOfMemory
from fettle.recipe.resolve import Settings
from fettle.train.train import TrainingResult, train

STEPS = 8


def drive(
    model: torch.nn.Module,
    folder: Path,
    chosen: Settings,
    events: Events,
    stop: Callable[[], bool] = lambda: False,
) -> TrainingResult:
    torch.manual_seed(5)
    return train(
        model,
        label_rows() if chosen.task == "classify" else chat_rows(),
        chosen,
        device="cpu",
        pad_id=PAD,
        checkpoints=folder,
        validate=scripted([4.0, 3.0, 2.0, 1.0]),
        emit=events,
        stop_requested=stop,
    )


def chosen(task: str = "classify", tokens: int = 1024) -> Settings:
    return settings(
        task,
        batch_size=8,
        max_steps=STEPS,
        evaluate_every=4,
        learning_rate=1e-3,
        micro_batch_tokens=tokens,
        patience=100,
    )


def limited(model: torch.nn.Module, tokens: int, log: list[int] | None = None) -> torch.nn.Module:
    """A model whose forward pass has no room for more padded tokens than this."""
    sizes = [] if log is None else log

    def check(module: object, values: tuple[torch.Tensor, ...]) -> None:
        size = values[0].numel()
        if model.training and size > tokens:
            raise torch.OutOfMemoryError(f"no room for {size} tokens")
        sizes.append(size)

    model.get_input_embeddings().register_forward_pre_hook(check)
    return model


@pytest.mark.parametrize("task", ["classify", "chat"])
def test_less_memory_means_smaller_micro_batches_of_the_same_steps(
    tmp_path: Path, task: str
) -> None:
    make = encoder if task == "classify" else decoder
    whole, events = make(), Events()
    drive(whole, tmp_path / "whole", chosen(task), events)
    sizes: list[int] = []
    short, told = limited(make(), 40, sizes), Events()
    drive(short, tmp_path / "short", chosen(task), told)

    notes = [note for note in told.of("note") if note.get("code") == "E0605"]
    assert notes
    assert "out of memory at step 1" in notes[0]["message"]
    budgets = [note["micro_batch_tokens"] for note in notes]
    assert budgets == sorted(budgets, reverse=True)
    assert budgets[-1] <= 40
    assert max(sizes) <= 40
    for step, other in zip(events.of("step"), told.of("step"), strict=True):
        assert other["num_targets"] == step["num_targets"]
        assert other["loss"] == pytest.approx(step["loss"], abs=2e-6)
        assert other["gradient_norm"] == pytest.approx(step["gradient_norm"], rel=1e-4)
    # Adam scales the rounding of gradients near zero up, so single weights differ by more; the bias
    # of keys has no other gradient at all (softmax ignores it).
    first, last, found = weights(make()), weights(whole), weights(short)
    used = [name for name in first if not name.endswith("key.bias")]
    moved = sum(float((last[name] - first[name]).square().sum()) for name in used) ** 0.5
    apart = sum(float((last[name] - found[name]).square().sum()) for name in used) ** 0.5
    assert apart < 2e-3 * moved


def test_a_step_that_did_not_fit_is_done_again_as_if_it_had_never_been_tried(
    tmp_path: Path,
) -> None:
    """Weights, gradients and the draws of dropout are those of before the step."""
    short, told = limited(encoder(0.2), 40), Events()
    drive(short, tmp_path / "short", chosen(), told)
    budgets = {
        note["step"]: note["micro_batch_tokens"] for note in told.of("note") if "code" in note
    }
    assert list(budgets) == [1], "the script below holds for one change only"
    from_the_start, events = encoder(0.2), Events()
    drive(from_the_start, tmp_path / "whole", chosen(tokens=budgets[1]), events)
    assert same(weights(short), weights(from_the_start))
    assert [e["loss"] for e in told.of("step")] == [e["loss"] for e in events.of("step")]


def test_a_resume_divides_every_step_as_the_first_life_did(tmp_path: Path) -> None:
    whole, told = limited(encoder(0.2), 40), Events()
    expected = drive(whole, tmp_path / "whole", chosen(), told)

    before = Events()
    with pytest.raises(Interrupted):
        drive(
            limited(encoder(0.2), 40),
            tmp_path / "cut",
            chosen(),
            before,
            lambda: len(before.of("step")) == 3,
        )
    kept = json.loads((tmp_path / "cut" / "micro_batches.json").read_text())
    assert (kept["schema"], list(kept["from_step"])) == (1, ["1"])
    # This machine has room for all, and still goes on as the first one had to.
    roomy, after = encoder(0.2), Events()
    drawn = drive(roomy, tmp_path / "cut", chosen(), after)
    assert drawn.steps == expected.steps
    assert same(weights(roomy), weights(whole))
    assert not [note for note in after.of("note") if "code" in note]


def test_a_single_row_that_does_not_fit_is_named(tmp_path: Path) -> None:
    model, events = limited(encoder(), 12), Events()
    before = weights(model)
    with pytest.raises(OutOfMemory, match="with a single row of") as caught:
        drive(model, tmp_path, chosen(), events)
    assert (caught.value.code, caught.value.exit_code) == ("E0605", 5)
    lengths = {row.row_id: row.num_tokens for row in label_rows()}
    row_id = caught.value.where.removeprefix("row ")
    assert lengths[row_id] > 12
    assert f"{lengths[row_id]} tokens" in caught.value.message
    assert "train.max_length" in caught.value.hint
    assert same(weights(model), before)


def test_other_errors_are_not_taken_for_a_lack_of_memory(tmp_path: Path) -> None:
    model = encoder()

    def fail(module: object, values: object) -> None:
        raise RuntimeError("shapes do not fit")

    model.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        drive(model, tmp_path, chosen(), Events())


def _under_a_limit(folder: Path, room: int) -> None:
    """In a child: train rows of which all together need more than the room that is left."""
    rows, model = label_rows(16), encoder()

    def hungry(module: object, values: tuple[torch.Tensor, ...]) -> None:
        # 2 MiB a token, as a far larger model would need.
        torch.empty(values[0].numel() * 2**21, dtype=torch.uint8)

    model.get_input_embeddings().register_forward_pre_hook(hungry)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room))
    events = Events()
    train(
        model,
        rows,
        settings("classify", 16, batch_size=16, max_steps=1, micro_batch_tokens=4096),
        device="cpu",
        pad_id=PAD,
        checkpoints=folder,
        validate=scripted([1.0]),
        emit=events,
        stop_requested=lambda: False,
    )
    (folder / "notes.json").write_text(json.dumps(events.of("note")), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="needs Linux")
def test_a_real_lack_of_memory(tmp_path: Path) -> None:
    """The allocator itself refuses, under a limit on the address space of a child."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    child = multiprocessing.get_context("spawn").Process(
        target=_under_a_limit, args=(tmp_path, 320 * 2**20)
    )
    child.start()
    child.join(300)
    assert child.exitcode == 0
    notes = json.loads((tmp_path / "notes.json").read_text(encoding="utf-8"))
    assert [note["code"] for note in notes if "code" in note]
