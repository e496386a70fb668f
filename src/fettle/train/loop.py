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
from torch import nn

from fettle.errors import DataError, Diverged
from fettle.records.events import StepRecord
from fettle.records.tokens import Batch
from fettle.train.objectives import Objective
from fettle.train.schedule import rate_factor


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
    autocast: Callable[[], AbstractContextManager[None]],
    first_step: int = 1,
) -> Iterator[StepRecord]:
    """Train from ``first_step`` to ``num_steps``, one record a step.

    The loss of a step is the sum over all its micro-batches divided once by all its targets, so
    that the cut into micro-batches does not change the gradient.

    Args:
        steps: yields the micro-batches of one optimizer step at a time.
        pad_id: token id to pad with.
        learning_rate: peak rate; ``schedule`` and ``warmup_steps`` shape it.
        max_gradient_norm: the gradient is scaled down to this 2-norm.
        autocast: makes the context in which the forward pass runs.

    Yields:
        One record after each optimizer step.

    Raises:
        DataError: E0602, a step has no target token.
        Diverged: E0603, the loss or the gradient norm is not finite; the weights are those of
            before the step.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    model.train()
    for step in range(first_step, num_steps + 1):
        started = time.monotonic()
        batches = next(steps)
        num_targets = sum(batch.num_targets for batch in batches)
        if num_targets == 0:
            raise DataError(
                "E0602",
                f"step {step} has no target token: its loss would be empty",
                where=_rows(batches),
                hint="look at these rows with `fettle check`; is the answer column empty,"
                " or cut off by train.max_length?",
            )
        optimizer.zero_grad(set_to_none=True)
        loss_sum = 0.0
        for batch in batches:
            with autocast():
                loss = objective(model, batch, pad_id)
            (loss.sum / num_targets).backward()
            loss_sum += float(loss.sum.detach())
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, max_gradient_norm))
        if not (math.isfinite(loss_sum) and math.isfinite(norm)):
            raise Diverged(
                "E0603",
                f"step {step}: loss {loss_sum / num_targets:.4g}, gradient norm {norm:.4g}",
                where=_rows(batches),
                why="training diverged, or a row holds values that overflow",
                hint="run again with a third of the learning rate"
                f" (--set train.learning_rate={learning_rate / 3:.2g})",
            )
        rate = learning_rate * rate_factor(schedule, step, num_steps, warmup_steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        seconds = time.monotonic() - started
        num_tokens = sum(batch.num_tokens for batch in batches)
        yield StepRecord(
            step=step,
            num_steps=num_steps,
            epoch=step / steps_per_epoch,
            loss=loss_sum / num_targets,
            learning_rate=rate,
            gradient_norm=norm,
            num_targets=num_targets,
            num_tokens=num_tokens,
            tokens_per_second=num_tokens / max(seconds, 1e-9),
            seconds=seconds,
        )


def _rows(batches: Sequence[Batch], most: int = 8) -> str:
    ids = [row.row_id for batch in batches for row in batch.rows]
    more = f" and {len(ids) - most} more" if len(ids) > most else ""
    return f"rows {', '.join(ids[:most])}{more}"
