"""Stage probe: what a step costs on this machine, with this model and these rows.

In: settings as the rules alone would have them. Out: a ``StepCost``, from which the rules choose
dtype, threads and micro-batch, and from which time and memory are told before training. Must not
know: the holdout. The model is built anew for training: nothing of the probe reaches the result.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import psutil
import torch
from torch import nn

from fettle.data.account.account import Prepared
from fettle.data.batches import StepIterator
from fettle.errors import OutOfMemory
from fettle.models.forward import autocast
from fettle.models.machine import out_of_memory, seed_everything
from fettle.models.packed import shared_by_all
from fettle.recipe.estimate import Estimate
from fettle.recipe.resolve import Settings
from fettle.records.facts import BaseFacts, MachineFacts, StepCost
from fettle.records.tokens import Batch, TokenizedExample
from fettle.stages.data import Tokens
from fettle.stages.training import trainable_model
from fettle.train.objectives import OBJECTIVES
from fettle.train.optimizer import make_optimizer
from fettle.train.probe import Autocast, look_seconds, step_peak, training_seconds

SECONDS = 6.0
"""Trials begin only while less than this was spent; a trial is kept below TRIAL_SECONDS."""
TRIAL_SECONDS = 0.8
MEMORY_SECONDS = 3.0
"""Longest step that is run to see what memory it takes."""
SIZES = (512, 1024, 2048, 4096)
"""Micro-batches, in tokens, that are compared."""
AS_FAST = 1.05
"""A smaller micro-batch is taken when it needs at most this many times the time: it needs less
memory."""
FIRST_TOKENS = 128
"""Of the first trials, which tell how many tokens the others can have."""
THREAD_SECONDS = 2.0
"""For both numbers of threads together, on as many tokens as that allows."""
MOST_FIXED = 0.8
"""Largest share of a trial that is taken for its fixed costs: two short trials are not exact."""
SMALLER = 3
"""Tries, each with a quarter of the tokens, where a trial does not fit into memory."""
LONGEST_EPOCH = 2000
"""Steps that are looked through for the largest micro-batch."""


@dataclass(slots=True)
class _Bench:
    """The model on the bench, and what was tried."""

    model: nn.Module
    rows: list[TokenizedExample]
    settings: Settings
    steps: StepIterator
    pad_id: int
    device: str
    speeds: dict[str, float] = field(default_factory=dict)
    spent: float = 0.0

    def open(self, name: str) -> bool:
        """Whether the value is fettle's to choose and time is left."""
        return self.spent < SECONDS and not self.is_users(name)

    def is_users(self, name: str) -> bool:
        """Whether the recipe gives this value."""
        return self.settings.settings[name].source == "user"

    def seconds_per_token(
        self, name: str, dtype: str, threads: int, size: int, limit: int
    ) -> float:
        """Time one pass over rows of at most ``limit`` tokens."""
        seconds, tokens = self._time(dtype, threads, size, limit)
        self.speeds[name] = tokens / seconds
        return seconds / tokens

    def at_whole_size(self, name: str, dtype: str, threads: int, size: int, limit: int) -> float:
        """Seconds per token of a whole micro-batch, where only ``limit`` tokens can be tried.

        What a pass costs whatever its length (reading all weights, converting them) weighs less in
        a longer one: two lengths tell how much that is.
        """
        seconds, tokens = self._time(dtype, threads, size, limit)
        fixed = 0.0
        for _ in range(2 if tokens < size else 0):
            less_seconds, fewer = self._time(dtype, threads, size, tokens // 2)
            if fewer < tokens and less_seconds < seconds:
                slope = (seconds - less_seconds) / (tokens - fewer)
                fixed = min(max(0.0, seconds - slope * tokens), MOST_FIXED * seconds)
                break
            # Fewer tokens in no less time: something else had the processor. Once more, then
            # nothing is taken for fixed.
            seconds = min(seconds, self._time(dtype, threads, size, limit)[0])
        found = (seconds - fixed) / tokens + fixed / max(size, tokens)
        self.speeds[name] = 1 / found
        return found

    def _time(self, dtype: str, threads: int, size: int, limit: int) -> tuple[float, int]:
        """Seconds and tokens of a pass."""
        torch.set_num_threads(threads)
        batches = self.batches(size, limit)
        started = time.perf_counter()
        seconds = training_seconds(
            self.model,
            OBJECTIVES[self.settings.task],
            batches,
            self.pad_id,
            partial(autocast, dtype, self.device),
        )
        self.spent += time.perf_counter() - started
        return seconds, sum(batch.num_tokens for batch in batches)

    def batches(self, size: int, limit: int) -> list[Batch]:
        """Micro-batches of the first rows, at most ``limit`` tokens of them, at least one row."""
        chosen, total = self.rows[:1], self.rows[0].num_tokens
        for row in self.rows[1:]:
            if total + row.num_tokens > limit:
                break
            chosen.append(row)
            total += row.num_tokens
        return self.steps.divide(chosen, size)


def probe_training(
    settings: Settings,
    base: BaseFacts,
    prepared: Prepared,
    tokens: Tokens,
    machine: MachineFacts,
) -> StepCost | None:
    """Run a few micro-batches of the training rows and measure.

    Args:
        settings: as resolved without a probe; what the user gave is not tried otherwise.
        base: the base.
        prepared: labels and task.
        tokens: the training rows are used.
        machine: device and speeds of the matrix products.

    Returns:
        The costs; None where not even a small micro-batch fits into memory, which training itself
        then says with the row that does not fit.
    """
    threads_before = torch.get_num_threads()
    seed_everything(settings.seed)
    pad_id = tokens.tokenizer.pad_id
    try:
        model = trainable_model(settings, base, prepared, pad_id).to(machine.device).train()
        steps = StepIterator(
            tokens.train,
            settings.batch_size,
            settings.micro_batch_tokens,
            settings.seed,
            padded=not settings.padding_free,
            shared=shared_by_all(model, tokens.train),
        )
        bench = _Bench(model, usual_rows(steps), settings, steps, pad_id or 0, machine.device)
        for _ in range(SMALLER):
            try:
                return _measure(bench, machine)
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error) or bench.is_users("train.micro_batch_tokens"):
                    raise
            model.zero_grad(set_to_none=True)
            smaller = max(FIRST_TOKENS, bench.settings.micro_batch_tokens // 4)
            bench.settings = replace(bench.settings, micro_batch_tokens=smaller)
        return None
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        return None
    finally:
        torch.set_num_threads(threads_before)


def check_memory(needs: Estimate, machine: MachineFacts, settings: Settings) -> None:
    """Refuse a run that can't fit.

    Raises:
        OutOfMemory: E0608, with both figures and what would fit.
    """
    free = machine.memory_bytes
    if machine.device == "cpu":
        # The figure is of the whole process, which holds a part already.
        free = psutil.virtual_memory().available + psutil.Process().memory_info().rss
    if needs.memory_bytes <= free:
        return
    smaller = max(settings.max_length, settings.micro_batch_tokens // 4)
    raise OutOfMemory(
        "E0608",
        f"training needs {needs.memory_bytes / 2**30:.1f} GiB of memory and"
        f" {free / 2**30:.1f} GiB are free",
        where=machine.device_name,
        why="Measured with real micro-batches, before anything was trained",
        hint="smaller micro-batches (--set train.micro_batch_tokens="
        f"{smaller}; the result stays the same)"
        + (", an adapter (--set method.type=lora)" if settings.method == "full" else "")
        + ", or a smaller base",
    )


def usual_rows(steps: StepIterator) -> list[TokenizedExample]:
    """Rows of whole steps, the most usual ones first: a step has rows of like length."""
    found = [[row for batch in batches for row in batch.rows] for batches in _first(steps, 64)]
    found.sort(key=lambda rows: sum(row.num_tokens for row in rows))
    middle = len(found) // 2
    order = sorted(range(len(found)), key=lambda index: abs(index - middle))
    return [row for index in order for row in found[index]]


def _measure(bench: _Bench, machine: MachineFacts) -> StepCost:
    settings = bench.settings
    dtype, threads, size = settings.dtype, settings.threads, settings.micro_batch_tokens
    most = min(SIZES[-1], size)
    # Two threads may be a third as fast as one where another process holds a core: first of all.
    several = threads > 1 and bench.open("train.threads") and machine.device == "cpu"
    counts = [threads, 1] if several else [threads]
    names = {count: f"{count} thread{'s' if count > 1 else ''}" for count in counts}
    found = {
        count: bench.seconds_per_token(names[count], dtype, count, size, FIRST_TOKENS)
        for count in counts
    }
    # On few tokens several threads wait for one another more than they gain: what counts is a
    # micro-batch as the run has them. Each trial makes two rounds.
    tokens = int(min(most, THREAD_SECONDS / 2 / sum(found.values())))
    if several and tokens > FIRST_TOKENS:
        found = {
            count: bench.seconds_per_token(names[count], dtype, count, size, tokens)
            for count in counts
        }
    threads = min(counts, key=found.__getitem__)
    limit = int(max(FIRST_TOKENS, min(most, TRIAL_SECONDS / 2 / found[threads])))
    best = bench.at_whole_size(dtype, dtype, threads, size, limit)
    if bench.open("base.dtype"):
        # The processor's matrix products are probed already; this is the whole step.
        single, half = machine.gflops.get("float32", 0.0), machine.gflops.get("bfloat16", 0.0)
        other = "float32" if dtype == "bfloat16" else "bfloat16"
        if other == "float32" or half > single:
            seconds = bench.at_whole_size(other, other, threads, size, limit)
            if seconds < best:
                dtype, best = other, seconds
    if bench.open("train.micro_batch_tokens"):
        size, best = _size(bench, dtype, threads, size, best, limit)

    torch.set_num_threads(threads)
    precision = partial(autocast, dtype, bench.device)
    objective, sample = OBJECTIVES[settings.task], bench.batches(size, limit)
    look = look_seconds(bench.model, objective, sample, bench.pad_id, precision)
    memory, step = _memory(bench, size, limit, best, precision)
    return StepCost(
        dtype=dtype,
        threads=threads,
        micro_batch_tokens=size,
        seconds_per_token=best,
        look_seconds_per_token=look / sum(batch.num_tokens for batch in sample),
        step_seconds=step,
        memory_bytes=memory,
        speeds=bench.speeds,
    )


def _size(
    bench: _Bench, dtype: str, threads: int, rule: int, best: float, limit: int
) -> tuple[int, float]:
    """The smallest micro-batch that is as fast as any that was tried."""
    sizes = [size for size in SIZES if size <= min(rule, limit)]
    found = {
        size: bench.seconds_per_token(f"{size} tokens", dtype, threads, size, limit)
        for size in sizes
        if bench.spent < SECONDS
    }
    if not found:
        return rule, best
    fastest = min(*found.values(), best)
    size = min((size for size, seconds in found.items() if seconds <= AS_FAST * fastest), default=0)
    return (size, found[size]) if size else (rule, best)


def _memory(
    bench: _Bench, size: int, limit: int, seconds_per_token: float, precision: Autocast
) -> tuple[int, float]:
    """Peak of a step with the largest micro-batch of an epoch, and the optimizer's seconds.

    Activations grow with the tokens: two small steps are measured and the line through them is
    followed, so that the probe of a large model stays short.
    """
    settings = bench.settings
    optimizer = make_optimizer(bench.model, 1e-9, 0.0, settings.plus_ratio, settings.optimizer)

    def peak(batch: Batch) -> tuple[int, float]:
        return step_peak(
            bench.model,
            OBJECTIVES[settings.task],
            optimizer,
            batch,
            bench.pad_id,
            precision,
        )

    width = _widest(bench, size)
    # Too small a step says nothing: what the process holds anyway drowns it.
    tokens = min(width, max(limit, int(MEMORY_SECONDS / seconds_per_token)))
    largest = max(bench.batches(size, tokens), key=lambda batch: batch.num_tokens)
    half = Batch(largest.rows[: max(1, len(largest.rows) // 2)])
    if half == largest and width > largest.num_tokens:
        half, largest = _two_sizes(bench, size, half)
    peak(half)  # makes the optimizer's moments
    low, _ = peak(half)
    high, seconds = peak(largest)
    grown = largest.num_tokens - half.num_tokens
    if grown <= 0 or width <= largest.num_tokens:
        return high, seconds
    slope = max(0.0, (high - low) / grown)
    return int(high + slope * (width - largest.num_tokens)), seconds


def _two_sizes(bench: _Bench, size: int, one: Batch) -> tuple[Batch, Batch]:
    """Two micro-batches of different sizes, where one row alone was all that time allowed."""
    shortest = min(bench.rows, key=lambda row: row.num_tokens)
    if shortest.num_tokens < one.num_tokens:
        return Batch((shortest,)), one
    pair = bench.steps.divide(bench.rows[:2], size)
    return one, max(pair, key=lambda batch: batch.num_tokens)


def _widest(bench: _Bench, size: int) -> int:
    """Tokens of the largest micro-batch of an epoch."""
    return max(
        batch.num_tokens
        for batches in _first(bench.steps, LONGEST_EPOCH)
        for batch in bench.steps.divide([r for b in batches for r in b.rows], size)
    )


def _first(steps: StepIterator, most: int) -> Iterator[list[Batch]]:
    """The first steps of the first epoch, from its beginning; the position is put back."""
    place = steps.state()
    steps.load_state(place | {"epoch": 0, "step_in_epoch": 0})
    for _ in range(min(most, steps.steps_per_epoch)):
        yield next(steps)
    steps.load_state(place)
