"""The driver of the loop: validation, best checkpoint, early stopping, resuming.

In: a model, tokenized rows, settings and callables for what it must not know. Out: the model with
the best weights in it, and a ``TrainingResult``. Must not know: tasks, metrics, terminals.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fettle.data.batches import StepIterator
from fettle.errors import Diverged, IntegrityError, Interrupted
from fettle.models.forward import autocast
from fettle.models.packed import shared_by_all
from fettle.recipe.resolve import Settings
from fettle.records.events import StepRecord, ValidationRecord
from fettle.records.tokens import TokenizedExample
from fettle.train.checkpoint import (
    checkpoint_name,
    list_checkpoints,
    load_checkpoint,
    load_weights,
    needed_checkpoints,
    newest_valid,
    prune_checkpoints,
    refuse_all,
    save_checkpoint,
    verify_checkpoint,
)
from fettle.train.loop import training_steps
from fettle.train.memory import FILE, MicroBatches
from fettle.train.objectives import OBJECTIVES
from fettle.train.optimizer import make_optimizer
from fettle.train.parallel import Ranks, current_ranks
from fettle.train.randomness import all_states, set_all_states

Emit = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Validation:
    """How good the model is on the validation rows."""

    loss: float
    """Nats per target."""
    metric: str
    value: float
    higher_is_better: bool

    def rank(self) -> tuple[float, float]:
        """Greater is better; equal values are told apart by the loss. A value that the metric does
        not have on these predictions is the worst."""
        value = self.value if self.higher_is_better else -self.value
        return (value if math.isfinite(value) else -sys.float_info.max, -self.loss)


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What training came to."""

    steps: int
    best_step: int
    best_value: float | None
    """None where the metric has no value on the best model's predictions."""
    stopped_early: bool
    num_tokens: int
    looks: int
    """How many checkpoints the best one was chosen from."""


@dataclass(slots=True)
class _Progress:
    """What the driver must remember across an interruption; goes into state.json."""

    best_step: int = 0
    best_rank: tuple[float, float] | None = None
    best_value: float | None = None
    looks: int = 0
    looks_without_gain: int = 0
    num_tokens: int = 0

    def note(self, step: int, validation: Validation) -> bool:
        """Take one look at the validation rows into account; True when it is the best so far."""
        self.looks += 1
        better = self.best_rank is None or validation.rank() > tuple(self.best_rank)
        if better:
            self.best_step, self.best_rank = step, validation.rank()
            self.best_value = validation.value if math.isfinite(validation.value) else None
            self.looks_without_gain = 0
        else:
            self.looks_without_gain += 1
        return better

    def lost_patience(self, done: int, settings: Settings) -> bool:
        """Whether training ends before its last step."""
        return done < settings.num_steps and self.looks_without_gain >= settings.patience


def train(
    model: nn.Module,
    rows: Sequence[TokenizedExample],
    settings: Settings,
    *,
    device: str,
    pad_id: int,
    checkpoints: Path,
    validate: Callable[[], Validation],
    emit: Emit,
    stop_requested: Callable[[], bool],
    flush: Callable[[], None] = lambda: None,
) -> TrainingResult:
    """Train, or go on training from the newest whole checkpoint.

    Where ``torch.distributed`` is initialised, every process calls this with the same arguments;
    the first one validates, writes and emits, and the others read checkpoints from the same disk.

    Args:
        model: with its trainable weights marked; ends with the best ones seen.
        rows: the training rows.
        checkpoints: directory of the run's checkpoints; empty for a new run.
        validate: measures the model as it is now on the validation rows.
        emit: takes an event name and its fields.
        stop_requested: asked after each step; True saves a checkpoint and raises.
        flush: makes what was emitted durable; called before a checkpoint says that it happened.

    Raises:
        Interrupted: E0604, a stop was requested; ``fettle resume`` goes on.
        IntegrityError: E0908, there are checkpoints, and none is whole.
        DataError, Diverged, OutOfMemory, RecipeError: as ``training_steps`` and ``make_optimizer``
            say.
    """
    ranks = current_ranks()
    emit = emit if ranks.first else _nobody
    optimizer = _optimizer(model, settings)
    steps = _steps(rows, settings, model)
    progress = _Progress()
    done = _restore(checkpoints, model, optimizer, steps, progress, emit, ranks, settings.seed)
    ranks.start_alike(model)
    memory = MicroBatches(
        settings.micro_batch_tokens, steps.divide, checkpoints / FILE, emit, ranks
    )

    def save(step: int) -> None:
        random = ranks.gathered(all_states())
        if not ranks.first:
            return
        flush()
        state = {"data": steps.state(), "progress": asdict(progress)}
        save_checkpoint(checkpoints, step, model, optimizer, state, progress.best_step, random)
        prune_checkpoints(checkpoints, needed_checkpoints(checkpoints))
        emit("checkpoint", {"step": step})

    def look(step: int) -> None:
        validation = _validation(validate, step, ranks)
        model.train()
        best = progress.note(step, validation)
        record = ValidationRecord(step, validation.loss, validation.metric, validation.value, best)
        emit("validation", asdict(record))

    records = training_steps(
        model,
        OBJECTIVES[settings.task],
        optimizer,
        iter(steps),
        pad_id=pad_id,
        learning_rate=settings.learning_rate,
        schedule=settings.schedule,
        warmup_steps=settings.warmup_steps,
        num_steps=settings.num_steps,
        steps_per_epoch=steps.steps_per_epoch,
        max_gradient_norm=settings.max_gradient_norm,
        autocast=partial(autocast, settings.dtype, device),
        first_step=done + 1,
        memory=memory,
        ranks=ranks,
    )
    stopped_early = progress.lost_patience(done, settings)
    for record in () if stopped_early else records:
        done = record.step
        progress.num_tokens += record.num_tokens
        emit("step", asdict(record))
        looked = _due(record, settings.evaluate_every)
        if looked:
            look(done)
        stopped_early = progress.lost_patience(done, settings)
        stopping = ranks.any(stop_requested()) and done < settings.num_steps
        if looked or stopped_early or stopping or _due(record, settings.checkpoint_every):
            save(done)
        if stopping:
            raise Interrupted(
                "E0604",
                f"stopped on request after step {done} of {settings.num_steps}",
                hint=f"go on with `fettle resume {checkpoints.parent}`",
            )
        if stopped_early:
            emit(
                "note",
                {"message": f"stopped early: {settings.patience} looks without a better value"},
            )
            break
    ranks.wait()
    _load_best(checkpoints, model, progress.best_step)
    return TrainingResult(
        steps=done,
        best_step=progress.best_step,
        best_value=progress.best_value,
        stopped_early=stopped_early,
        num_tokens=progress.num_tokens,
        looks=progress.looks,
    )


def _nobody(event: str, fields: Mapping[str, Any]) -> None:
    """Hears the events of all processes but the first."""


def _steps(rows: Sequence[TokenizedExample], settings: Settings, model: nn.Module) -> StepIterator:
    return StepIterator(
        rows,
        settings.batch_size,
        settings.micro_batch_tokens,
        settings.seed,
        padded=not settings.padding_free,
        shared=shared_by_all(model, rows),
    )


def _optimizer(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    return make_optimizer(
        model,
        settings.learning_rate,
        settings.weight_decay,
        settings.plus_ratio,
        settings.optimizer,
    )


def _due(record: StepRecord, every: int) -> bool:
    return record.step % every == 0 or record.step == record.num_steps


def _validation(validate: Callable[[], Validation], step: int, ranks: Ranks) -> Validation:
    """One look, taken by the first process."""
    found = validate() if ranks.first else Validation(0.0, "", 0.0, higher_is_better=False)
    loss, value, higher = ranks.of_first([found.loss, found.value, float(found.higher_is_better)])
    if not math.isfinite(loss):
        raise Diverged(
            "E0603",
            f"step {step}: the loss on the validation rows is {loss}",
            why="training diverged, or a validation row holds values that overflow",
            hint="run again with a third of the learning rate (--set train.learning_rate=...)",
        )
    return Validation(loss, found.metric, value, bool(higher))


def _restore(
    checkpoints: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    steps: StepIterator,
    progress: _Progress,
    emit: Emit,
    ranks: Ranks,
    seed: int,
) -> int:
    """Load the newest whole checkpoint, if there is one; return its step."""
    path = _chosen(checkpoints, emit, ranks)
    if path is None:
        _own_draws({}, seed, ranks)
        return 0
    state, random = load_checkpoint(path, model, optimizer)
    steps.load_state(state["data"])
    for name, value in state["progress"].items():
        setattr(progress, name, value)
    _own_draws(ranks.own(random), seed + int(state["step"]), ranks)
    # A kill between a checkpoint and its event: said again, and counted once by every reader.
    emit("checkpoint", {"step": state["step"]})
    emit("note", {"message": f"resumed after step {state['step']} from {path.name}"})
    return int(state["step"])


def _chosen(checkpoints: Path, emit: Emit, ranks: Ranks) -> Path | None:
    """The checkpoint that all processes go on from, as the first one finds it."""
    path, problems = newest_valid(checkpoints) if ranks.first else (None, [])
    none_whole = path is None and bool(problems)
    step, refused = ranks.of_first([int(path.name) if path is not None else 0, float(none_whole)])
    if refused:
        refuse_all(checkpoints, problems or [IntegrityError("E0902", "see the first process")])
    if not ranks.first:
        return checkpoints / checkpoint_name(int(step)) if step else None
    for problem in problems:
        emit(
            "note",
            {
                "message": f"{problem.message}; it is deleted, and an earlier one is used",
                "code": problem.code,
            },
        )
    # What is newer than the one that is used is damaged: it must not count among the last two.
    found = [other.name for other in list_checkpoints(checkpoints)]
    prune_checkpoints(checkpoints, set(found[: found.index(path.name) + 1] if path else []))
    prune_checkpoints(checkpoints, needed_checkpoints(checkpoints))
    return path


def _own_draws(states: Mapping[str, Tensor], seed: int, ranks: Ranks) -> None:
    """What dropout draws in this process. The first goes on as it was; another whose state is not
    known (a new run, another number of processes) begins a stream of its own."""
    if states:
        set_all_states(states)
    elif not ranks.first:
        torch.manual_seed(seed * 1_000_003 + ranks.rank)


def _load_best(checkpoints: Path, model: nn.Module, best_step: int) -> None:
    path = checkpoints / checkpoint_name(best_step)
    verify_checkpoint(path)
    load_weights(path, model)
