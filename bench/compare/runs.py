"""One run of one tool: a fresh process with a job file, and what came of it.

In: a cell, what was prepared, a configuration. Out: the runner's result with wall time, memory and
what the machine did meanwhile. Must not know: pairs, tables.
"""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.compare import machine
from bench.compare.cells import ALPHA, MODELS, RANK, RATES, SEED, TOOLS, Cell
from bench.compare.flops import step_flops
from bench.compare.pairs import window
from bench.compare.prepare import BENCH, CACHE, Prepared

TIMEOUT = 3600
LOOK_SECONDS = 0.5
MEMORY_SHARE = 0.9
"""Of the free memory; a tool that wants more fails alone."""


@dataclass(frozen=True, slots=True)
class Bench:
    """How this benchmark runs."""

    threads: int
    memory_bytes: int | None = None
    """Lane of a memory cap: what every tool may have; None = 90 % of what is free."""


def run_once(
    tool: str,
    python: Path,
    cell: Cell,
    prepared: Prepared,
    config: Mapping[str, Any],
    bench: Bench,
    steps: int | None = None,
) -> dict[str, Any]:
    """Run a tool on a cell, in a process of its own.

    Args:
        tool: "fettle" or a name of TOOLS.
        config: settings of the lane, in the tool's own words.
        steps: only so many of the plan's steps; None = all.

    Returns:
        The runner's result; ``error`` is None when all went well. ``job_seconds`` is from the start
        of the process to its end: imports, loading, training, saving.
    """
    runner = "run_fettle.py" if tool == "fettle" else TOOLS[tool].runner
    with tempfile.TemporaryDirectory(dir=_scratch(), prefix="run-") as folder:
        job, result, log = (Path(folder) / name for name in ("job.json", "result.json", "log.txt"))
        wanted = _job(cell, prepared, config, bench, Path(folder) / "out", steps)
        job.write_text(json.dumps(wanted), encoding="utf-8")
        before, started = machine.cpu_times(), time.perf_counter()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(python), str(BENCH / "runners" / runner), str(job), str(result)],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=folder,
                env=_environment(bench.threads),
            )
            code, peak = _wait(process)
        seconds = time.perf_counter() - started
        found = _read(result, log, code)
        found["job_seconds"] = seconds
        # A tool may have set the kernel's mark back; what was seen on the way counts too.
        found["peak_bytes"] = max(peak, found.get("peak_bytes", 0))
        found["machine"] = machine.between(before, machine.cpu_times())
    return found


def speeds(
    result: Mapping[str, Any], cell: Cell, prepared: Prepared, warmup: int
) -> dict[str, float]:
    """Figures of one run after warm-up, counted from the plan, not by the tool.

    Returns:
        Seconds; trained and real tokens a second, by wall time and by processor time (the latter
        leaves out what the host took away); model operations a second in 10⁹; step times.
    """
    steps = len(result["wall"]) - 1
    seconds, processor = window(result["wall"], warmup), window(result["cpu"], warmup)
    trained = sum(prepared.plan["num_targets"][warmup:steps])
    real = sum(prepared.plan["num_tokens"][warmup:steps])
    rows = [row for step in prepared.plan["lengths"][warmup:steps] for row in step]
    work = step_flops(MODELS[cell.model].shape, cell.method, RANK, rows)
    return {
        "seconds": seconds,
        "cpu_seconds": processor,
        "trained_per_second": trained / seconds,
        "real_per_second": real / seconds,
        "trained_per_cpu_second": trained / processor,
        "rows_per_second": len(rows) / seconds,
        "model_gflops": work / seconds / 1e9,
        "peak_bytes": float(result["peak_bytes"]),
        "job_seconds": result["job_seconds"],
        "steal_share": result["machine"]["steal_share"],
        "load_average": result["machine"]["load_average"],
    }


def _job(
    cell: Cell,
    prepared: Prepared,
    config: Mapping[str, Any],
    bench: Bench,
    out: Path,
    steps: int | None,
) -> dict[str, Any]:
    free = int(MEMORY_SHARE * machine.available_memory())
    return {
        "task": cell.task,
        "method": cell.method,
        "model": str(prepared.model),
        "adapter": str(prepared.adapter) if prepared.adapter else None,
        "converted": str(prepared.converted) if prepared.converted else None,
        "rows": str(prepared.rows),
        "steps": prepared.steps[:steps],
        "batch_size": cell.rows_in_step,
        "learning_rate": RATES[cell.method],
        "rank": RANK,
        "alpha": ALPHA,
        "labels": prepared.labels,
        "seed": SEED,
        "config": {name: value for name, value in config.items() if value is not None},
        "out": str(out),
        "memory_bytes": bench.memory_bytes or free,
    }


def _read(result: Path, log: Path, code: int) -> dict[str, Any]:
    if result.is_file():
        found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    else:
        found = {"error": f"ended with exit code {code} and no result"}
    if found["error"]:
        found["log"] = log.read_text(encoding="utf-8", errors="replace")[-4000:]
    return found


def _wait(process: subprocess.Popen[bytes]) -> tuple[int, int]:
    """Exit code, and the highest VmHWM that was seen; a process over its time is ended."""
    peak, end = 0, time.monotonic() + TIMEOUT
    while True:
        try:
            return process.wait(LOOK_SECONDS), peak
        except subprocess.TimeoutExpired:
            peak = max(peak, machine.peak_of(process.pid))
            if time.monotonic() > end:
                process.kill()


def _scratch() -> Path:
    folder = CACHE / "scratch"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def clean_scratch() -> None:
    """Remove what runs that were cut short left behind."""
    shutil.rmtree(CACHE / "scratch", ignore_errors=True)


def _environment(threads: int) -> dict[str, str]:
    """Nothing of the user's own Python settings; no hub, no trackers, so many threads."""
    kept: Sequence[str] = (
        "PATH",
        "HOME",
        "LANG",
        "LC_ALL",
        "TMPDIR",
        "LD_LIBRARY_PATH",
        "CC",
        "CXX",
    )
    count = str(threads)
    return {
        **{name: os.environ[name] for name in kept if name in os.environ},
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(CACHE / "hugging-face"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DISABLE_VERSION_CHECK": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONNOUSERSITE": "1",
        "WANDB_DISABLED": "true",
    }
