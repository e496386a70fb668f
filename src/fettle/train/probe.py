"""What a step costs: a few micro-batches are run and timed before anything is decided.

In: a model ready to be trained, its objective, real rows. Out: seconds and bytes. Must not know:
recipes, files, what is done with the figures. The model is spoilt afterwards: its weights moved.
"""

import gc
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import psutil
import torch
from torch import nn

from fettle.inference.mode import inference
from fettle.models.forward import device_of
from fettle.records.tokens import Batch
from fettle.train.objectives import Objective

Autocast = Callable[[], AbstractContextManager[None]]

_PEAK = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


def training_seconds(
    model: nn.Module,
    objective: Objective,
    batches: Sequence[Batch],
    pad_id: int,
    autocast: Autocast,
    rounds: int = 2,
) -> float:
    """Seconds that forward and backward passes of these micro-batches take.

    Args:
        model: in training mode; its gradients are thrown away.
        batches: at least one.
        autocast: makes the context of the forward pass.
        rounds: the fastest counts, because other processes only ever make it slower.
    """
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        for batch in batches:
            with autocast():
                loss = objective(model, batch, pad_id)
            loss.sum.backward()
        _wait(model)
        best = min(best, time.perf_counter() - started)
        model.zero_grad(set_to_none=True)
    return best


def look_seconds(
    model: nn.Module,
    objective: Objective,
    batches: Sequence[Batch],
    pad_id: int,
    autocast: Autocast,
) -> float:
    """Seconds that the forward passes alone take, as in a look at the validation rows."""
    with inference(model), autocast():
        started = time.perf_counter()
        for batch in batches:
            objective(model, batch, pad_id)
        _wait(model)
        return time.perf_counter() - started


def step_peak(
    model: nn.Module,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    pad_id: int,
    autocast: Autocast,
) -> tuple[int, float]:
    """One whole step on one micro-batch.

    Returns:
        The highest use of memory of the process during it in bytes (on CUDA: of the device by
        torch), and the seconds that the optimizer took of it.
    """
    gc.collect()
    device = device_of(model)
    restart_peak(device)
    with autocast():
        loss = objective(model, batch, pad_id)
    loss.sum.backward()
    _wait(model)
    started = time.perf_counter()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    _wait(model)
    seconds = time.perf_counter() - started
    peak = peak_bytes(device)
    model.zero_grad(set_to_none=True)
    return peak, seconds


def restart_peak(device: torch.device) -> None:
    """Forget the highest use of memory so far, where the system allows it (CUDA, Linux)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):  # elsewhere, and where a container forbids it, the peak is that so far
        _PEAK.write_text("5", encoding="ascii")


def peak_bytes(device: torch.device) -> int:
    """Highest use of memory since ``restart_peak``: on CUDA of the device by torch, else the
    resident memory of this process; elsewhere than on Linux what it uses now."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if _STATUS.is_file():
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return int(psutil.Process().memory_info().rss)


def _wait(model: nn.Module) -> None:
    device = device_of(model)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
