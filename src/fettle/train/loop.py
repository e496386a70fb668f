"""The training loop: the only place that calls ``backward()``.

In: a model, an objective, an optimizer and an iterator of steps. Out: a generator of
``StepRecord``. Must not know: files, validation, printing, saving, which task it serves. Those
live in the driver (``train.py``), which may stop between any two records.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from fettle.errors import DataError, Diverged, OutOfMemory
from fettle.records.events import StepRecord
from fettle.records.tokens import Batch, TokenizedExample
from fettle.train.memory import MicroBatches, out_of_memory
from fettle.train.objectives import Objective
from fettle.train.parallel import ALONE, Ranks
from fettle.train.randomness import set_torch_states, torch_states
from fettle.train.schedule import rate_factor

Autocast = Callable[[], AbstractContextManager[None]]


def training_steps(
    model: nn.Module,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    steps: Iterator[Sequence[Batch]],
    *,
    pad_id: int,
    learning_rate: float,
    schedule: str,
    warmup_steps: int,
    num_steps: int,
    steps_per_epoch: float,
    max_gradient_norm: float,
    autocast: Autocast,
    first_step: int = 1,
    memory: MicroBatches | None = None,
    ranks: Ranks = ALONE,
) -> Iterator[StepRecord]:
    """Train from ``first_step`` to ``num_steps``, one record a step.

    The loss of a step is the sum over all its micro-batches divided once by the weight of all
    its targets (their number, where none is weighted), so that the cut into micro-batches does not
    change the gradient.

    With several processes each has the same steps and takes its share of the rows; the gradients
    are summed, so that the step is the same but for rounding.

    Args:
        steps: yields the micro-batches of one optimizer step at a time.
        pad_id: token id to pad with.
        learning_rate: peak rate; ``schedule`` and ``warmup_steps`` shape it, and an optimizer's
            group may multiply it by its ``rate_factor``.
        max_gradient_norm: the gradient is scaled down to this 2-norm.
        autocast: makes the context in which the forward pass runs.
        memory: divides steps anew where they do not fit; None = as they come, or not at all.
        ranks: the processes that train together.

    Yields:
        One record after each optimizer step.

    Raises:
        DataError: E0602, a step has no target token.
        Diverged: E0603, the loss or the gradient norm is not finite; the weights are those of
            before the step.
        OutOfMemory: E0605, a single row does not fit, or the optimizer's moments.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    model.train()
    for step in range(first_step, num_steps + 1):
        started = time.monotonic()
        batches = next(steps)
        rows = [row for batch in batches for row in batch.rows]
        num_targets = sum(batch.num_targets for batch in batches)
        target_weight = sum(batch.target_weight for batch in batches)
        if num_targets == 0:
            raise DataError(
                "E0602",
                f"step {step} has no target token: its loss would be empty",
                where=_named(rows),
                hint="look at these rows with `fettle check`; is the answer column empty,"
                " or cut off by train.max_length?",
            )
        before = torch_states() if memory is not None else {}
        while True:
            optimizer.zero_grad(set_to_none=True)
            mine = _share(step, batches, memory, ranks)
            losses, failed = _accumulate(
                model, objective, mine, pad_id, target_weight, autocast, memory is not None
            )
            if memory is None or not ranks.any(failed is not None):
                break
            # Again from the weights of before, with the same draws of dropout.
            memory.shrink(step, failed)
            set_torch_states(before)
        ranks.sum_gradients(parameters)
        norm_tensor = torch.nn.utils.clip_grad_norm_(parameters, max_gradient_norm)
        found, norm = _read(losses, norm_tensor)
        (loss_sum,) = ranks.total([math.fsum(found)])
        if not (math.isfinite(loss_sum) and math.isfinite(norm)):
            overflowing = [
                row
                for batch, loss in zip(mine, found, strict=True)
                for row in batch.rows
                if not math.isfinite(loss)
            ]
            raise Diverged(
                "E0603",
                f"step {step}: loss {loss_sum / target_weight:.4g}, gradient norm {norm:.4g}",
                where=_named(overflowing or rows),
                why="training diverged, or a row holds values that overflow",
                hint="run again with a third of the learning rate"
                f" (--set train.learning_rate={learning_rate / 3:.2g})",
            )
        rate = learning_rate * rate_factor(schedule, step, num_steps, warmup_steps)
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("rate_factor", 1.0)
        _move(optimizer)
        seconds = time.monotonic() - started
        num_tokens = sum(batch.num_tokens for batch in batches)
        yield StepRecord(
            step=step,
            num_steps=num_steps,
            epoch=step / steps_per_epoch,
            loss=loss_sum / target_weight,
            learning_rate=rate,
            gradient_norm=norm,
            num_targets=num_targets,
            num_tokens=num_tokens,
            tokens_per_second=num_tokens / max(seconds, 1e-9),
            seconds=seconds,
        )


def _share(
    step: int, batches: Sequence[Batch], memory: MicroBatches | None, ranks: Ranks
) -> Sequence[Batch]:
    """The micro-batches of a step that this process computes."""
    if memory is not None and (ranks.size > 1 or memory.shrunk(step)):
        return memory.of(step, ranks.share([row for batch in batches for row in batch.rows]))
    if ranks.size == 1:
        return batches
    shares = [Batch(tuple(ranks.share(batch.rows))) for batch in batches]
    return [batch for batch in shares if batch.rows]


def _accumulate(
    model: nn.Module,
    objective: Objective,
    batches: Sequence[Batch],
    pad_id: int,
    target_weight: float,
    autocast: Autocast,
    forgiving: bool,
) -> tuple[list[Tensor], Batch | None]:
    """Add up the gradients; return the losses, and the micro-batch that did not fit into memory.

    Losses stay where they were computed: reading one would make the processor wait for the
    accelerator after each micro-batch.
    """
    losses: list[Tensor] = []
    for batch in batches:
        try:
            with autocast():
                loss = objective(model, batch, pad_id)
            (loss.sum / target_weight).backward()
        except (RuntimeError, MemoryError) as error:
            if not (forgiving and out_of_memory(error)):
                raise
            return losses, batch
        losses.append(loss.sum.detach())
    return losses, None


def _read(losses: Sequence[Tensor], norm: Tensor) -> tuple[list[float], float]:
    """All numbers of a step in one transfer from the device."""
    values = torch.stack([*losses, norm.to(losses[0])] if losses else [norm]).tolist()
    return values[:-1], values[-1]


def _move(optimizer: torch.optim.Optimizer) -> None:
    try:
        optimizer.step()
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise OutOfMemory(
            "E0605",
            "out of memory: no room for the optimizer's moments",
            hint="train fewer weights (--set method.type=lora), or use a smaller base",
        ) from error


def _named(rows: Sequence[TokenizedExample], most: int = 64) -> str:
    ids = [row.row_id for row in rows]
    more = f" and {len(ids) - most} more" if len(ids) > most else ""
    return f"rows {', '.join(ids[:most])}{more}"
