"""The driver of the loop: validation, best checkpoint, early stopping, resuming.

In: a model, tokenized rows, settings and callables for what it must not know. Out: the model with
the best weights in it, and a ``TrainingResult``. Must not know: tasks, metrics, terminals.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from fettle.data.batches import StepIterator
from fettle.errors import Interrupted
from fettle.models.forward import autocast
from fettle.recipe.resolve import Settings
from fettle.records.events import StepRecord, ValidationRecord
from fettle.records.tokens import TokenizedExample
from fettle.train.checkpoint import (
    checkpoint_name,
    list_checkpoints,
    load_checkpoint,
    load_weights,
    newest_valid,
    prune_checkpoints,
    save_checkpoint,
    verify_checkpoint,
)
from fettle.train.loop import training_steps
from fettle.train.objectives import OBJECTIVES
from fettle.train.optimizer import make_optimizer


@dataclass(frozen=True, slots=True)
class Validation:
    """How good the model is on the validation rows."""

    loss: float
    """Nats per target."""
    metric: str
    value: float
    higher_is_better: bool

    def rank(self) -> tuple[float, float]:
        """Greater is better; equal values are told apart by the loss."""
        return (self.value if self.higher_is_better else -self.value, -self.loss)


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What training came to."""

    steps: int
    best_step: int
    best_value: float
    stopped_early: bool
    num_tokens: int
    looks: int
    """How many checkpoints the best one was chosen from."""


@dataclass(slots=True)
class _Progress:
    """What the driver must remember across an interruption; goes into state.json."""

    best_step: int = 0
    best_rank: tuple[float, float] | None = None
    best_value: float = 0.0
    looks: int = 0
    looks_without_gain: int = 0
    num_tokens: int = 0

    def note(self, step: int, validation: Validation) -> bool:
        """Take one look at the validation rows into account; True when it is the best so far."""
        self.looks += 1
        better = self.best_rank is None or validation.rank() > tuple(self.best_rank)
        if better:
            self.best_step, self.best_rank = step, validation.rank()
            self.best_value, self.looks_without_gain = validation.value, 0
        else:
            self.looks_without_gain += 1
        return better


def train(
    model: nn.Module,
    rows: Sequence[TokenizedExample],
    settings: Settings,
    *,
    device: str,
    pad_id: int,
    checkpoints: Path,
    validate: Callable[[], Validation],
    emit: Callable[[str, dict[str, Any]], None],
    stop_requested: Callable[[], bool],
) -> TrainingResult:
    """Train, or go on training from the newest whole checkpoint.

    Args:
        model: with its trainable weights marked; ends with the best ones seen.
        rows: the training rows.
        checkpoints: directory of the run's checkpoints; empty for a new run.
        validate: measures the model as it is now on the validation rows.
        emit: takes an event name and its fields.
        stop_requested: asked after each step; True saves a checkpoint and raises.

    Raises:
        Interrupted: E0604, a stop was requested; ``fettle resume`` goes on.
        DataError, Diverged, RecipeError: as ``training_steps`` and ``make_optimizer`` say.
    """
    optimizer = make_optimizer(model, settings.learning_rate, settings.weight_decay)
    steps = StepIterator(rows, settings.batch_size, settings.micro_batch_tokens, settings.seed)
    progress = _Progress()
    done = _restore(checkpoints, model, optimizer, steps, progress, emit)

    def save(step: int) -> None:
        state = {"data": steps.state(), "progress": asdict(progress)}
        save_checkpoint(checkpoints, step, model, optimizer, state, progress.best_step)
        last_two = [path.name for path in list_checkpoints(checkpoints)[-2:]]
        prune_checkpoints(checkpoints, {*last_two, checkpoint_name(progress.best_step)})
        emit("checkpoint", {"step": step})

    def look(step: int) -> None:
        validation = validate()
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
    )
    stopped_early = done < settings.num_steps and progress.looks_without_gain >= settings.patience
    for record in () if stopped_early else records:
        done = record.step
        progress.num_tokens += record.num_tokens
        emit("step", asdict(record))
        looked = _due(record, settings.evaluate_every)
        if looked:
            look(done)
        stopped_early = (
            done < settings.num_steps and progress.looks_without_gain >= settings.patience
        )
        stopping = stop_requested() and done < settings.num_steps
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
    _load_best(checkpoints, model, progress.best_step)
    return TrainingResult(
        steps=done,
        best_step=progress.best_step,
        best_value=progress.best_value,
        stopped_early=stopped_early,
        num_tokens=progress.num_tokens,
        looks=progress.looks,
    )


def _due(record: StepRecord, every: int) -> bool:
    return record.step % every == 0 or record.step == record.num_steps


def _restore(
    checkpoints: Path,
    model: nn.Module,
    optimizer: Any,
    steps: StepIterator,
    progress: _Progress,
    emit: Callable[[str, dict[str, Any]], None],
) -> int:
    """Load the newest whole checkpoint, if there is one; return its step."""
    path, problems = newest_valid(checkpoints)
    for problem in problems:
        emit("note", {"message": f"{problem.message}; an earlier one is used"})
    # What is newer than the one that is used is damaged: it must not count among the last two.
    whole = [found.name for found in list_checkpoints(checkpoints)]
    keep = whole[: whole.index(path.name) + 1] if path is not None else []
    prune_checkpoints(checkpoints, set(keep))
    if path is None:
        return 0
    state = load_checkpoint(path, model, optimizer)
    steps.load_state(state["data"])
    for name, value in state["progress"].items():
        setattr(progress, name, value)
    emit("note", {"message": f"resumed after step {state['step']} from {path.name}"})
    return int(state["step"])


def _load_best(checkpoints: Path, model: nn.Module, best_step: int) -> None:
    path = checkpoints / checkpoint_name(best_step)
    verify_checkpoint(path)
    load_weights(path, model)
