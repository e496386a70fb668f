"""What this machine can do, measured in about a second.

In: nothing. Out: ``MachineFacts``. Must not know: models, recipes.

Speed is measured, not read off the processor's name or flags: there are machines that run bfloat16
products at half the speed of float32 ones, and others at five times.
"""

import os
import platform
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import torch

from fettle.records.facts import MachineFacts

# Rows of a small micro-batch times two layers of a small model: large enough to be representative.
ROWS, INNER, COLUMNS = 512, 1024, 1024
SECONDS_PER_DTYPE = 0.4


def probe_machine(directory: Path | None = None) -> MachineFacts:
    """Find the device that trains and measure its matrix products.

    Args:
        directory: whose disk is asked for free space; None = the current one.

    Returns:
        The facts; ``gflops`` holds float32 and bfloat16.
    """
    folder = directory or Path.cwd()
    while not folder.exists():
        folder = folder.parent
    device, name, memory = _device()
    return MachineFacts(
        device=device,
        device_name=name,
        num_threads=torch.get_num_threads(),
        memory_bytes=memory,
        disk_free_bytes=psutil.disk_usage(str(folder)).free,
        gflops={
            dtype: matmul_gflops(device, dtype, ROWS, INNER, COLUMNS)
            for dtype in ("float32", "bfloat16")
        },
    )


def matmul_gflops(device: str, dtype: str, rows: int, inner: int, columns: int) -> float:
    """Speed of ``[rows, inner] @ [inner, columns]`` in 10⁹ floating-point operations a second.

    The best of several rounds: other processes only ever make it slower.

    Args:
        device: cpu, cuda or mps.
        dtype: float32 or bfloat16.
        rows: tokens in a micro-batch.
        inner: input width.
        columns: output width.
    """
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(rows, inner, generator=generator).to(device, getattr(torch, dtype))
    right = torch.randn(columns, inner, generator=generator).to(device, getattr(torch, dtype))
    best = float("inf")
    end = time.perf_counter() + SECONDS_PER_DTYPE
    num_rounds = 0
    while num_rounds < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        torch.nn.functional.linear(left, right)
        _wait(device)
        best = min(best, time.perf_counter() - start)
        num_rounds += 1
    return 2.0 * rows * inner * columns / best / 1e9


def probe_device() -> str:
    """The device that models run on: cuda, mps or cpu."""
    return _device()[0]


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch (all devices).

    Args:
        seed: not negative.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Compute with so many threads inside; sums depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def out_of_memory(error: BaseException) -> bool:
    """Whether torch or Python says with this error that memory is short.

    On a CPU torch raises a plain RuntimeError, in words that depend on the system and on which
    library asked for the memory.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    words = ("allocate memory", "not enough memory", "out of memory", "bad_alloc", "ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def _device() -> tuple[str, str, int]:
    """Device, its name and its free memory in bytes."""
    if torch.cuda.is_available():
        free, _ = torch.cuda.mem_get_info()
        return "cuda", torch.cuda.get_device_name(), free
    available = psutil.virtual_memory().available
    if torch.backends.mps.is_available():
        return "mps", platform.processor() or "Apple GPU", available
    return "cpu", f"{_processor()}, {os.cpu_count()} cores", min(available, _container_memory())


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _container_memory() -> int:
    """What a container's limit (cgroup v2) leaves; a very large number without one."""
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.is_file() and used.is_file():
        text = limit.read_text(encoding="ascii").strip()
        if text.isdigit():
            return max(0, int(text) - int(used.read_text(encoding="ascii")))
    return 2**62


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()
