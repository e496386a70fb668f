"""What a run looks like while it runs: plain lines, or a live line on a terminal.

In: events. Out: text on stderr and in log.txt. Must not know: how anything is computed. The same
lines go everywhere; only a terminal gets the moving one besides, so that a log file, a notebook
and CI read well.
"""

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, TextIO

from fettle.records.run_directory import disk_errors

BARS = "▁▂▃▄▅▆▇█"
LINE_EVERY = 10.0
"""Seconds between two plain lines about steps."""
WIDTH = 10


class Progress:
    """A listener that turns events into lines.

    Args:
        write: takes one finished line.
        live: takes the text of the moving line, or None where there is none.
    """

    def __init__(
        self, write: Callable[[str], None], live: Callable[[str], None] | None = None
    ) -> None:
        self._write = write
        self._live = live
        self._losses: list[float] = []
        self._last_line = 0.0
        self._train_started = 0.0
        self._first_step = 0
        self._tokens = 0

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Show one event."""
        kind = event["event"]
        if kind == "note":
            self._say("", event["message"])
        elif kind == "base":
            self._say("base", _base(event))
        elif kind == "data":
            for number, line in enumerate(_data(event)):
                self._say("" if number else "data", line)
        elif kind == "settings":
            for number, line in enumerate(_settings(event["values"])):
                self._say("" if number else "recipe", line)
        elif kind == "plan":
            self._say("plan", _plan(event))
        elif kind == "estimate":
            self._say("", estimate_line(event))
        elif kind == "step":
            self._step(event)
        elif kind == "validation":
            better = " (best so far)" if event["best"] else ""
            metric = (
                "" if event["metric"] == "loss" else f", {event['metric']} {event['value']:.4f}"
            )
            self._say("validate", f"step {event['step']}: loss {event['loss']:.4f}{metric}{better}")
        elif kind == "verdict":
            self._say("verdict", event["headline"])

    def _say(self, label: str, text: str) -> None:
        for number, line in enumerate(text.splitlines() or [""]):
            self._write(f"{label if number == 0 else '':<9} {line}".rstrip())

    def _step(self, event: Mapping[str, Any]) -> None:
        now = time.monotonic()
        if not self._train_started:
            self._train_started = now - event["seconds"]
            self._first_step = event["step"] - 1
        self._tokens += event["num_tokens"]
        self._losses.append(event["loss"])
        done, total = event["step"], event["num_steps"]
        elapsed = now - self._train_started
        left = elapsed / max(1, done - self._first_step) * (total - done)
        rest = f"{duration(left)} left" if done < total else f"in {duration(elapsed)}"
        text = (
            f"step {done:,}/{total:,} {100 * done / total:3.0f} %"
            f"  loss {_smooth(self._losses):.3f} {sparkline(self._losses)}"
            f"  {self._tokens / max(elapsed, 1e-9):,.0f} tokens/s  {rest}"
        )
        if self._live is not None:
            self._live(f"{'train':<9} {text}")
        if done == total or now - self._last_line >= LINE_EVERY:
            self._last_line = now
            if self._live is None or done == total:
                self._say("train", text)


def console(quiet: bool, stream: TextIO | None = None) -> Progress | None:
    """Progress for people on stderr: a moving line on a terminal, plain lines elsewhere."""
    if quiet:
        return None
    stream = stream or sys.stderr
    if not stream.isatty() or _plain_wanted():
        return Progress(lambda line: say(line, stream))

    def live(text: str) -> None:
        # A line that wraps could not be taken back.
        stream.write(f"\r\x1b[2K{text[: shutil.get_terminal_size().columns - 1]}")
        stream.flush()

    def write(line: str) -> None:
        stream.write(f"\r\x1b[2K{line}\n")
        stream.flush()

    return Progress(write, live)


def say(line: str, stream: TextIO) -> None:
    """Print a line; a reader that has gone (``2>&1 | head``) must not end the work."""
    try:
        print(line, file=stream, flush=True)
    except BrokenPipeError:
        hush(stream)


def hush(stream: TextIO) -> None:
    """Send what is still said there to nobody: its reader has gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def log_file(path: Path) -> Progress:
    """The same lines in a file."""

    def write(line: str) -> None:
        with (
            disk_errors(path),
            path.open("a", encoding="utf-8", errors="backslashreplace") as handle,
        ):
            handle.write(f"{time.strftime('%H:%M:%S')} {line}\n")

    return Progress(write)


def sparkline(values: list[float], width: int = WIDTH) -> str:
    """The course of the values in a few characters."""
    if not values:
        return ""
    parts = min(width, len(values))
    cuts = [len(values) * number // parts for number in range(parts + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(cuts)]
    low, high = min(means), max(means)
    span = (high - low) or 1.0
    return "".join(BARS[round((value - low) / span * (len(BARS) - 1))] for value in means)


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def _smooth(losses: list[float], window: int = 20) -> float:
    last = losses[-window:]
    return sum(last) / len(last)


def _plain_wanted() -> bool:
    return bool(os.environ.get("NO_COLOR") or os.environ.get("CI"))


def _base(event: Mapping[str, Any]) -> str:
    licence = event["licence"] or "licence not stated: check before you ship"
    size = f"{event['num_parameters'] / 1e6:,.1f} M parameters"
    of_run = f", the run {event['incumbent_run']}" if event["incumbent_run"] else ""
    text = f"{event['id']} ({event['architecture']} {event['kind']}, {size}, {licence}){of_run}"
    if event["id"] == "starter":
        text += (
            "\nthe starter is small and built in, good for trying things out; with a network,"
            " try\n--base Qwen/Qwen3-0.6B (chat) or --base answerdotai/ModernBERT-base (classify)"
        )
    return text


def layout_lines(layout: Mapping[str, Any]) -> list[str]:
    """How the columns were read, why, and what could be read otherwise."""
    columns = ", ".join(f'{role}="{name}"' for role, name in layout["columns"].items())
    lines = [f"layout {layout['name']} ({columns})"]
    lines += [f"chosen because {layout['reason']}"] if layout.get("reason") else []
    return lines + [f"? {question}" for question in layout.get("ambiguities", [])]


def _data(event: Mapping[str, Any]) -> list[str]:
    counts = event["counts"]
    labels = f", {event['labels']} classes" if event["labels"] else ""
    lines = [f"{event['rows']:,} rows · task {event['task']}{labels}"]
    lines += layout_lines(event["layout"])
    lines.append(
        f"train {counts['train']:,} · validation {counts['validation']:,} ·"
        f" holdout {counts['holdout']:,} (sealed) · quarantine {counts['quarantine']:,}"
        + _listed(event["quarantine"])
    )
    if event["findings"]:
        lines.append(f"findings{_listed(event['findings'])}: data/findings.jsonl")
    return [*lines, "trained tokens stand in [[ ]]:", *event["preview"].splitlines()]


def _listed(counts: Mapping[str, int]) -> str:
    if not counts:
        return ""
    return " (" + ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items())) + ")"


def _settings(values: Mapping[str, Mapping[str, Any]]) -> list[str]:
    shown = ["method.type", "train.learning_rate", "train.batch_size", "train.epochs"]
    shown += ["train.max_steps", "train.max_length", "base.dtype"]
    if values["method.type"]["value"] == "lora":
        shown.insert(1, "method.rank")
    if values["train.max_steps"]["source"] == "user":
        shown.remove("train.epochs")  # the steps count instead
    return [
        f"{key:<20} {number(values[key]['value']):<9} {values[key]['reason'] or 'as you asked'}"
        for key in shown
    ]


def estimate_line(needs: Mapping[str, Any]) -> str:
    """Memory and time that training will take."""
    return (
        f"needs at least {needs['memory_bytes'] / 2**30:.1f} GiB of memory; training takes about"
        f" {duration(needs['training_seconds'])}, unless it stops early"
        + (" (before anything is compiled)" if needs["compile"] else "")
    )


def number(value: Any) -> str:
    """A value as people write it: 2e-4, 32, 6."""
    if not isinstance(value, float):
        return str(value)
    if value != 0 and abs(value) < 0.01:
        digits, _, exponent = f"{value:.3e}".partition("e")
        return f"{float(digits):g}e{int(exponent)}"
    return f"{value:g}"


def _plan(event: Mapping[str, Any]) -> str:
    return f"sealed {event['sha256'][:12]}; {event['said']}"
