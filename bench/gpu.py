"""fettle on one GPU beside plain transformers and peft: `python -m bench.gpu`, within ten minutes.

Every cell (model, method, rows) is run by several arms, all on the same rows, masks and initial
weights; a speed counts only when the gates hold. Arms run in a process of their own: one that
crashes, hangs or runs out of memory is recorded, and the rest goes on. After each arm everything
measured so far is written to gpu.json (in --out, else the folder that $OUT names, else
bench/results). The table goes to stdout. `--smoke` runs toys on the processor through every branch
that needs no GPU; its figures mean nothing.
"""

import argparse
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from bench._gpu_arms import COMPARED, WARM_UP, measure, plan_of
from bench._gpu_cells import ARMS, CELLS, PEAK_TFLOPS, ROWS, SMOKE, Cell, make_rows, skipped
from bench.compare import machine
from bench.compare.gates import Gate, check_pair, check_run

REPOSITORY = Path(__file__).resolve().parents[1]
SCHEMA = 1
STEPS = 12
"""Steps of an arm at most, two of them for warming up."""
START_SECONDS = 90.0
"""For a process to begin: imports, and the device."""
ARM_SECONDS = 75.0
"""For one arm: building, warming up, training. Then its process is ended."""
COMPILE_SECONDS = 180.0
FIRST_LOSS = 2.0**-9
"""Most relative difference of the first step's loss: half a unit in the last place of bfloat16."""
ROW_LOSS = 0.02
"""Most difference in nats of one row's mean loss before training. Rounding to bfloat16 averages out
over a row; attention to the wrong tokens changes every token's loss by about one."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cells; 1 when an arm failed or a gate did not hold."""
    options = _options(arguments)
    cells = [c for c in (SMOKE if options.smoke else CELLS) if options.only in c.name]
    if options.worker:
        return _work(cells, options)
    if not options.smoke and not torch.cuda.is_available():
        print("no CUDA device here: nothing was measured (--smoke tries the code on toys)")
        return 0
    target = _target(options)
    record = _record(options)
    end = time.monotonic() + 60 * options.minutes
    for found in _results(cells, options, end):
        record["arms"].append(found)
        _judge(record["arms"], cells, options)
        _save(target, record)
        _say(_line(found))
    print(table(record["arms"]), end="")
    _say(f"everything measured: {target}")
    bad = [one for one in record["arms"] if one["status"] == "failed" or one.get("broken")]
    return 1 if bad else 0


# --- the parent: one worker at a time, ended when it takes too long -------------------------------


def _results(
    cells: Sequence[Cell], options: argparse.Namespace, end: float
) -> Iterator[dict[str, Any]]:
    """One record for every arm of every cell, in order, whatever happens to the worker."""
    left = [(cell.name, arm) for cell in cells for arm in cell.arms]
    while left:
        if time.monotonic() > end - 5:
            for cell, arm in left:
                yield _other(cell, arm, "skipped", "the time was used up before it")
            return
        for found in _one_worker(left, options, end):
            # Only an arm that was asked for counts, whatever else may stand in the output.
            left.remove((found["cell"], found["arm"]))
            yield found


def _one_worker(
    left: Sequence[tuple[str, str]], options: argparse.Namespace, end: float
) -> Iterator[dict[str, Any]]:
    """Records of one process until it has done everything, has crashed or was ended."""
    left = list(left)
    command = [sys.executable, "-m", "bench.gpu", "--worker", *_passed_on(options)]
    command += [f"--skip={len(_all(options)) - len(left)}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    lines: queue.Queue[str | None] = queue.Queue()
    reader = threading.Thread(target=_read_into, args=(process, lines), daemon=True)
    reader.start()
    starting = START_SECONDS
    try:
        for cell, arm in left:
            limit = starting + (COMPILE_SECONDS if arm.endswith("compile") else ARM_SECONDS)
            left_over = end - time.monotonic()
            try:
                line = lines.get(timeout=max(0.1, min(limit, left_over)))
            except queue.Empty:
                reason = f"ended after {limit:.0f} s" if limit < left_over else "the end of time"
                yield _other(cell, arm, "over_time", reason)
                return
            if line is None:
                reason = f"its process ended with exit code {process.wait()}"
                yield _other(cell, arm, "failed", reason)
                return
            yield json.loads(line)
            starting = 0.0
    finally:
        process.kill()
        process.wait()
        reader.join()


def _read_into(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    with process.stdout as output:
        for line in output:
            if line.startswith('{"cell"'):
                lines.put(line)
            else:
                print(line, end="", file=sys.stderr)
    lines.put(None)


# --- the worker -----------------------------------------------------------------------------------


def _work(cells: Sequence[Cell], options: argparse.Namespace) -> int:
    """Measure arm after arm and print each record as one line."""
    device = "cpu" if options.smoke else "cuda"
    count = 0
    for cell in cells:
        steps = make_rows(cell, 4 if options.smoke else STEPS)
        for arm in cell.arms:
            count += 1
            if count <= options.skip:
                continue
            reason = skipped(cell, arm, _free(device))
            if reason is None:
                rate = _product_rate(device)
                found = measure(cell, arm, steps, options.seconds, device)
                found["product_tflops"] = [rate, _product_rate(device)]
            else:
                found = {"status": "skipped", "reason": reason}
            print(json.dumps({"cell": cell.name, "arm": arm, **found}), flush=True)
    return 0


def _free(device: str) -> int:
    if device != "cuda":
        return machine.available_memory()
    torch.cuda.empty_cache()
    return torch.cuda.mem_get_info()[0]


def _product_rate(device: str, size: int = 8192) -> float:
    """Speed of a bfloat16 product of random matrices in 10¹² operations a second, just now."""
    if device != "cuda":
        return machine.matmul_rate([(64, 64)], "bfloat16") / 1e3
    generator = torch.Generator(device).manual_seed(0)
    left, right = (
        torch.randn(size, size, device=device, generator=generator).bfloat16() for _ in range(2)
    )
    for _ in range(3):
        left @ right
    begin, finish = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(10):
        left @ right
    finish.record()
    finish.synchronize()
    return 10 * 2.0 * size**3 / (begin.elapsed_time(finish) / 1e3) / 1e12


# --- gates, table, files --------------------------------------------------------------------------


def _judge(arms: list[dict[str, Any]], cells: Sequence[Cell], options: argparse.Namespace) -> None:
    """Write into every measured arm which gates it broke; pairs are held against a plain arm."""
    for cell in cells:
        found = [one for one in arms if one["cell"] == cell.name and one["status"] == "measured"]
        if not found:
            continue
        plan = _plan(cell, 4 if options.smoke else STEPS)
        reference = next((one for one in found if one["arm"].startswith("plain")), None)
        for one in found:
            one["gates"] = [_gate(gate) for gate in gates(one, reference, plan, cell.method)]
            one["broken"] = [g["name"] for g in one["gates"] if not g["held"]]
            one["alone"] = reference is None


@lru_cache
def _plan(cell: Cell, num_steps: int) -> dict[str, list[Any]]:
    return plan_of(make_rows(cell, num_steps))


def gates(
    one: Mapping[str, Any],
    reference: Mapping[str, Any] | None,
    plan: Mapping[str, Any],
    method: str,
) -> list[Gate]:
    """What must hold before the speed of an arm counts.

    Args:
        one: a measured arm.
        reference: the plain arm of the same cell; None = nothing to compare with.
        plan: of all steps; an arm that was short of time made the first of them.
        method: lora or full.
    """
    made = len(one["losses"])
    short = {name: values[:made] for name, values in plan.items()}
    found = check_run(one, short, method)
    if reference is None or reference is one:
        return found
    common = min(made, len(reference["losses"]))
    pair = [
        {"losses": side["losses"][:common], "trainable": side["trainable"]}
        for side in (one, reference)
    ]
    found += check_pair(*pair, first_loss=FIRST_LOSS)
    apart = [
        abs(mine - theirs)
        for mine, theirs in zip(one["row_losses"], reference["row_losses"], strict=False)
    ]
    held = len(apart) == COMPARED and all(one <= ROW_LOSS for one in apart)  # never where it is NaN
    detail = f"{max(apart, default=float('inf')):.4f} nats at most, of {len(apart)} rows"
    return [*found, Gate(f"losses of single rows within {ROW_LOSS} nats", held, detail)]


HEADINGS = ("cell", "arm", "tokens/s", "trained/s", f"of {PEAK_TFLOPS:.0f} TF", "GiB", "steps", "")


def table(arms: Sequence[Mapping[str, Any]]) -> str:
    """One line for every arm; the gates that it broke stand behind it."""
    rows = [list(HEADINGS), *(_words(one) for one in arms)]
    columns = range(len(HEADINGS) - 1)
    widths = [max(len(row[column]) for row in rows) for column in columns]
    lines = []
    for row in rows:
        cells = [
            row[column].ljust(widths[column]) if column < 2 else row[column].rjust(widths[column])
            for column in columns
        ]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return "\n".join(lines) + "\n"


def _words(one: Mapping[str, Any]) -> list[str]:
    if one["status"] != "measured":
        words = one["status"].replace("_", " ")
        return [one["cell"], one["arm"], "–", "–", "–", "–", "–", f"{words}: {one['reason']}"]
    note = one["settings"]["attention"]
    if one.get("alone"):
        note += "; held against no plain arm"
    if one.get("broken"):
        note = f"DOES NOT COUNT: {', '.join(one['broken'])}"
    return [
        one["cell"],
        one["arm"],
        f"{one['tokens_per_second']:,.0f}",
        f"{one['trained_per_second']:,.0f}",
        f"{100 * one['of_peak']:.1f} %",
        f"{one['peak_bytes'] / 2**30:.1f}",
        str(one["timed_steps"]),
        note,
    ]


def _line(one: Mapping[str, Any]) -> str:
    return "  ".join(part for part in _words(one) if part)


def _gate(gate: Gate) -> dict[str, Any]:
    return {"name": gate.name, "held": gate.held, "detail": gate.detail}


def _other(cell: str, arm: str, status: str, reason: str) -> dict[str, Any]:
    return {"cell": cell, "arm": arm, "status": status, "reason": reason}


def _record(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "smoke": options.smoke,
        "peak_tflops": PEAK_TFLOPS,
        "warm_up": WARM_UP,
        "tolerance": {"first_loss": FIRST_LOSS, "row_loss_nats": ROW_LOSS},
        "machine": {**machine.facts(), "device": _device_name()},
        "arms_about": dict(ARMS),
        "rows_about": {name: rows.about for name, rows in ROWS.items()},
        "arms": [],
    }


def _device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none"


def _target(options: argparse.Namespace) -> Path:
    folder = options.out or os.environ.get("OUT") or REPOSITORY / "bench" / "results"
    return Path(folder) / ("gpu_smoke.json" if options.smoke else "gpu.json")


def _save(path: Path, record: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(record, indent=1), encoding="utf-8")
    part.replace(path)


def _all(options: argparse.Namespace) -> list[str]:
    cells = [c for c in (SMOKE if options.smoke else CELLS) if options.only in c.name]
    return [arm for cell in cells for arm in cell.arms]


def _passed_on(options: argparse.Namespace) -> list[str]:
    words = [f"--seconds={options.seconds}", f"--only={options.only}"]
    return [*words, "--smoke"] if options.smoke else words


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu", description=__doc__.partition("\n\n")[2]
    )
    parser.add_argument("--smoke", action="store_true", help="toys on the processor")
    parser.add_argument("--only", default="", metavar="PART", help="cells whose name holds PART")
    parser.add_argument("--minutes", type=float, default=9.0, help="for everything (9)")
    parser.add_argument("--seconds", type=float, default=6.0, help="of training in an arm (6)")
    parser.add_argument("--out", type=Path, help="folder of the results")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--skip", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
