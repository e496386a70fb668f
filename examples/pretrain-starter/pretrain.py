"""Token ids -> the starter's weights, with fettle's own training loop, in stretches.

    python pretrain.py WORK OUT --minutes 240              a stretch at a constant rate
    python pretrain.py WORK OUT --minutes 90 --decay       the last one, down to zero

Each stretch goes on from the last: bit for bit from WORK/run/checkpoints where they are there, else
(another machine) from the weights and the history in OUT. A run that was killed goes on with the
same command, for the minutes that were left.
"""

import argparse
import functools
import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType

import torch
from stream import BLOCK, HeldOut, Stream
from stretch import History, Look, Stretch, export, load_weights, read_history

from fettle.models.forward import autocast
from fettle.models.load import find_base, load_for_task
from fettle.recipe.recipe import BaseSection
from fettle.records.events import StepRecord
from fettle.train.checkpoint import (
    load_checkpoint,
    needed_checkpoints,
    newest_valid,
    prune_checkpoints,
    refuse_all,
    save_checkpoint,
)
from fettle.train.loop import training_steps
from fettle.train.objectives import OBJECTIVES
from fettle.train.optimizer import make_optimizer
from fettle.train.randomness import set_all_states

WARMUP_STEPS, LOG_EVERY, NO_END = 60, 50, 1_000_000_000
LOOK_ROWS, TALK_ROWS = 64, 24
HERE = Path(__file__).resolve().parent


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    stopped = _stop_signals()
    model = _random_model(options)
    optimizer = make_optimizer(model, options.rate, 0.1, kind=options.optimizer)
    history = go_on(model, optimizer, options)
    now = history.now
    _forget_steps_after(history.steps, options)
    print(
        f"{model.num_parameters():,} parameters; {history.tokens:,} tokens seen; this stretch has"
        f" {now.minutes - now.seconds / 60:.1f} of {now.minutes:g} minutes left",
        flush=True,
    )
    held_out, talk = HeldOut(options.work, "valid"), HeldOut(options.work, "dialogues")

    def look(dtype: str = options.dtype, everything: bool = False) -> Look:
        rows, talk_rows = (None, None) if everything else (LOOK_ROWS, TALK_ROWS)
        # Another length, once: not worth a compilation.
        with autocast(dtype), torch.compiler.set_stance("force_eager"):
            bits = held_out.bits_per_byte(model, rows), talk.bits_per_byte(model, talk_rows)
        found = Look(history.tokens, round(now.seconds, 1), *(round(value, 4) for value in bits))
        print(f"held out: {bits[0]:.4f} bits per byte, dialogues {bits[1]:.4f}", flush=True)
        return found

    def save() -> None:
        folder = _checkpoints(options)
        save_checkpoint(folder, history.steps, model, optimizer, {"history": asdict(history)})
        prune_checkpoints(folder, needed_checkpoints(folder))
        export(model, history, options.work, options.out)

    if options.compile:
        # Compiled, two products with a softmax between are faster than SDPA, see tried.md.
        model.set_attn_implementation(options.attention)
        for block in model.model.layers:
            block.compile(dynamic=False)
    clock, looked, saved = _Clock(now), now.seconds, now.seconds
    for record in _records(model, optimizer, history, options):
        history.steps, history.tokens = record.step, history.tokens + record.num_tokens
        now.tokens += record.num_tokens
        clock.tick()
        _log(record, history, options)
        over = now.seconds >= now.minutes * 60
        if not over and now.seconds - looked >= options.look_every * 60:
            now.curve.append(look())
            clock.tick()
            looked = now.seconds
        if record.step == options.steps:
            stopped.append(0)
        if stopped or over:
            break
        if now.seconds - saved >= options.save_every * 60:
            save()
            saved = now.seconds
    now.finished = not stopped
    save()
    print(f"{'stopped' if stopped else 'done'} after {history.tokens:,} tokens", flush=True)
    if record.step == options.steps or not stopped:
        now.curve.append(look())
        save()
    if now.finished and now.decay:
        # Of the weights as they are shipped, in the precision that others will use.
        load_weights(model, options.out)
        final = asdict(look("float32", everything=True)) | {"rows": "all"}
        (options.out / "final.json").write_text(json.dumps(final, indent=1) + "\n")


def go_on(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, options: argparse.Namespace
) -> History:
    """Load what there is, and begin a stretch or go on with the one that was interrupted."""
    folder = _checkpoints(options)
    path, problems = newest_valid(folder)
    if path is None and problems:
        refuse_all(folder, problems)
    exported = read_history(options.out)
    history, warm = History(), False
    if path is not None:
        state, random = load_checkpoint(path, model, optimizer)
        history, warm = History.from_json(state["history"]), True
        set_all_states(random)
    if exported is not None and exported.tokens > history.tokens:
        print(f"{options.out} is ahead of {folder}: going on from there", flush=True)
        optimizer.state.clear()
        load_weights(model, options.out)
        history, warm = exported, False
    last = history.stretches[-1] if history.stretches else None
    if warm and last is not None and last.optimizer != options.optimizer:
        optimizer.state.clear()
        warm = False
    if last is None or last.finished or last.decay != options.decay:
        history.stretches.append(_begin(history, warm, options))
    elif not warm:
        last.warmup_from = history.steps
    return history


def rate_factor(now: Stretch, step: int) -> float:
    """Share of the peak rate: a rise after a new start of the optimizer, a fall over the time.

    The fall follows the clock, so that it ends when the stretch does, however busy the machine is.

    Args:
        now: the stretch, with the seconds that it has had.
        step: the one that is about to be taken, counted over all stretches.
    """
    rise = min(1.0, (step - now.warmup_from) / WARMUP_STEPS) if now.warmup_from >= 0 else 1.0
    fall = max(0.0, 1.0 - now.seconds / (now.minutes * 60)) if now.decay else 1.0
    return rise * fall


def _records(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    history: History,
    options: argparse.Namespace,
) -> Iterator[StepRecord]:
    stream = Stream(options.work, history.position)
    now = history.now
    blocks = now.batch_tokens // BLOCK
    step = history.steps

    def steps() -> Iterator[list]:
        nonlocal step
        for batches in stream.steps(blocks, now.length, options.micro_tokens):
            step += 1
            for group in optimizer.param_groups:
                group["rate_factor"] = rate_factor(now, step)
            yield batches
            # Reached when the step was taken and the next one is asked for.

    for record in training_steps(
        model,
        OBJECTIVES["text"],
        optimizer,
        steps(),
        pad_id=model.config.pad_token_id,
        learning_rate=now.rate,
        schedule="constant",
        warmup_steps=0,
        num_steps=NO_END,
        steps_per_epoch=1.0,
        max_gradient_norm=1.0,
        autocast=functools.partial(autocast, now.dtype),
        first_step=history.steps + 1,
    ):
        history.position = stream.position
        yield record


def _begin(history: History, warm: bool, options: argparse.Namespace) -> Stretch:
    return Stretch(
        minutes=options.minutes,
        decay=options.decay,
        rate=options.rate,
        length=options.length,
        batch_tokens=options.batch_tokens,
        threads=options.threads,
        optimizer=options.optimizer,
        dtype=options.dtype,
        first_token=history.tokens,
        warmup_from=-1 if warm else history.steps,
    )


def _random_model(options: argparse.Namespace) -> torch.nn.Module:
    """A base with random weights is a base like any other."""
    folder = options.work / "config"
    folder.mkdir(exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).write_bytes((options.work / name).read_bytes())
    (folder / "config.json").write_bytes((options.config / "config.json").read_bytes())
    facts = find_base(BaseSection(id=f"random:{folder}"), print)
    return load_for_task(facts, "text", (), 1)


class _Clock:
    """Adds the time that passed to the stretch."""

    def __init__(self, now: Stretch) -> None:
        self._now, self._wall, self._busy = now, time.monotonic(), time.process_time()

    def tick(self) -> None:
        wall, busy = time.monotonic(), time.process_time()
        self._now.seconds += wall - self._wall
        self._now.processor_seconds += busy - self._busy
        self._wall, self._busy = wall, busy


def _log(record: StepRecord, history: History, options: argparse.Namespace) -> None:
    now = history.now
    with (options.work / "run" / "steps.jsonl").open("a") as handle:
        line = {
            "step": record.step,
            "tokens": history.tokens,
            "loss": round(record.loss, 4),
            "norm": round(record.gradient_norm, 3),
            "seconds": round(now.seconds, 2),
            "processor_seconds": round(now.processor_seconds, 2),
        }
        handle.write(json.dumps(line) + "\n")
    if record.step % LOG_EVERY == 0 or record.step <= 3:
        speed = now.tokens / max(now.seconds, 1e-9)
        print(
            f"step {record.step}: {history.tokens:,} tokens, loss {record.loss:.3f}, gradient"
            f" {record.gradient_norm:.2f}, rate {rate_factor(now, record.step) * now.rate:.2g},"
            f" {speed:,.0f} tokens/s, {now.seconds / 60:.1f} min",
            flush=True,
        )


def _forget_steps_after(step: int, options: argparse.Namespace) -> None:
    """Steps that were logged but not saved are taken again."""
    path = options.work / "run" / "steps.jsonl"
    if path.is_file():
        # A kill may have cut the last line.
        lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
        kept = [line for line in lines if json.loads(line)["step"] <= step]
        path.write_text("".join(f"{line}\n" for line in kept))


def _checkpoints(options: argparse.Namespace) -> Path:
    folder: Path = options.work / "run" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _stop_signals() -> list[int]:
    """Filled by the first SIGINT or SIGTERM; the second one ends the process at once."""
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if seen:
            os._exit(130)
        seen.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, note)
    return seen


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path, help="what prepare.py wrote; checkpoints go there too")
    parser.add_argument("out", type=Path, help="bfloat16 weights and stretch.json")
    parser.add_argument("--minutes", type=float, required=True, help="of this stretch")
    parser.add_argument("--steps", type=int, help="stop after this step, as if asked to (trials)")
    parser.add_argument("--decay", action="store_true", help="let the rate fall to zero")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--config", type=Path, default=HERE / "config")
    parser.add_argument("--length", type=int, default=512, choices=[128, 256, 512, 1024])
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--micro-tokens", type=int, default=4096)
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--optimizer", default="muon", choices=["adamw", "muon"])
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16"])
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--attention", default="eager", choices=["eager", "sdpa"])
    parser.add_argument("--look-every", type=float, default=15, help="minutes")
    parser.add_argument("--save-every", type=float, default=10, help="minutes")
    options = parser.parse_args(arguments)
    if options.batch_tokens % BLOCK:
        parser.error(f"--batch-tokens is not a multiple of {BLOCK}")
    return options


if __name__ == "__main__":
    main()
