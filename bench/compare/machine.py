"""The machine while the benchmark runs: how fast, how busy, which cores.

In: matrix shapes. Out: rates, load, time that the host took away. Must not know: tools, cells.
"""

import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path

import torch

ROWS = 512
SECONDS_PER_SHAPE = 0.08


def quietest_cores(count: int, seconds: float = 1.0) -> list[int]:
    """The cores that were least busy for a moment, of those this process may use."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) <= count:
        return allowed
    before = _busy_by_core()
    time.sleep(seconds)
    after = _busy_by_core()
    used = {core: after.get(core, 0) - before.get(core, 0) for core in allowed}
    # Equal ones: the last, because core 0 serves most interrupts.
    return sorted(sorted(allowed, key=lambda core: (used[core], -core))[:count])


def matmul_rate(shapes: Sequence[tuple[int, int]], dtype: str) -> float:
    """Speed of the model's own matrix products, in 10⁹ operations a second.

    Every shape is run for a moment and its best time counts; the rate is all operations over the
    sum of the best times, so that it is what a step made of these products alone could reach.

    Args:
        shapes: (inputs, outputs) of each matrix, with repeats.
        dtype: float32 or bfloat16.
    """
    operations, seconds = 0.0, 0.0
    generator = torch.Generator().manual_seed(0)
    for inputs, outputs in sorted(set(shapes)):
        left = torch.randn(ROWS, inputs, generator=generator).to(getattr(torch, dtype))
        weight = torch.randn(outputs, inputs, generator=generator).to(getattr(torch, dtype))
        best, end, rounds = float("inf"), time.perf_counter() + SECONDS_PER_SHAPE, 0
        while rounds < 3 or time.perf_counter() < end:
            start = time.perf_counter()
            torch.nn.functional.linear(left, weight)
            best = min(best, time.perf_counter() - start)
            rounds += 1
        repeats = shapes.count((inputs, outputs))
        operations += repeats * 2.0 * ROWS * inputs * outputs
        seconds += repeats * best
    return operations / seconds / 1e9


def cpu_times() -> dict[str, float]:
    """Seconds since boot over all cores: total, busy, stolen by the host."""
    fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
    ticks = [int(field) / os.sysconf("SC_CLK_TCK") for field in fields]
    # user nice system idle iowait irq softirq steal; guest times are part of user's
    return {
        "total": sum(ticks[:8]),
        "busy": sum(ticks[:3]) + sum(ticks[5:7]),
        "steal": ticks[7],
    }


def between(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Shares of the machine's time between two calls of ``cpu_times``, and the load now."""
    total = max(1e-9, after["total"] - before["total"])
    return {
        "busy_share": (after["busy"] - before["busy"]) / total,
        "steal_share": (after["steal"] - before["steal"]) / total,
        "load_average": os.getloadavg()[0],
    }


def facts() -> dict[str, object]:
    """What a reader needs to know about the machine."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_bytes": _memory("MemTotal"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "flags": sorted(_flags() & {"avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8"}),
    }


def peak_of(pid: int) -> int:
    """VmHWM of a process in bytes; 0 when it has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    for line in text.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def available_memory() -> int:
    """Bytes that new processes can have."""
    return _memory("MemAvailable")


def _memory(name: str) -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/meminfo has no {name}")


def _cpuinfo(key: str) -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.partition(":")[0].strip() == key:
            return line.partition(":")[2].strip()
    return ""


def processor() -> str:
    """Name, family and model: many machines call themselves the same."""
    family, model = _cpuinfo("cpu family"), _cpuinfo("model")
    return f"{_cpuinfo('model name')} (family {family}, model {model})"


def _flags() -> set[str]:
    return set(_cpuinfo("flags").split())


def _busy_by_core() -> dict[int, int]:
    found = {}
    for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name != "cpu":
            ticks = [int(field) for field in fields]
            found[int(name[3:])] = sum(ticks[:3]) + sum(ticks[5:8])
    return found
