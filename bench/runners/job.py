"""What every runner shares: the job it is given, the ledger it keeps, the result it writes.

In: the path of a job file; token tensors as the tool hands them to its model. Out: a result file.
Must not know: any tool. Needs torch and the standard library only, because it runs inside every
tool's own environment.

The ledger counts what reached the model, not what the tool was given: rows that were cut, dropped,
masked otherwise or put into another step show up in its hashes.
"""

import hashlib
import importlib.metadata
import json
import math
import os
import resource
import sys
import time
import traceback
from array import array
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from torch.optim.optimizer import register_optimizer_step_post_hook

IGNORED = -100
"""Label of a token that is not trained."""


def row_hash(ids: Sequence[int], answer: Sequence[int] | int) -> int:
    """A number that stands for one row.

    Args:
        ids: token ids without padding.
        answer: a class index, or the positions of the trained tokens (never 0).
    """
    numbers = [answer] if isinstance(answer, int) else [*answer, -1]
    data = array("q", [len(ids), *ids, *numbers]).tobytes()
    return int.from_bytes(hashlib.sha256(data).digest()[:16], "big")


def step_digest(hashes: Iterable[int]) -> str:
    """Digest of the rows of one step; their order does not matter, repeats do."""
    return f"{sum(hashes) % 2**128:032x}"


class Ledger:
    """Times, losses and rows of one training run, step by step."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self.losses: list[float] = []
        self.gradient_norms: list[float] = []
        self._passes: list[list[tuple[Any, Any, Any, Any]]] = []

    def begin(self) -> None:
        """Training begins now."""
        self._stamp()
        self._passes.append([])

    def forward(
        self, input_ids: Any, labels: Any, attention_mask: Any = None, position_ids: Any = None
    ) -> None:
        """One forward pass of training; tensors [rows, tokens] as the model got them.

        Args:
            labels: IGNORED where a token is not trained; [rows] of class indices for classifiers.
            attention_mask: 0 on padding; None where there is none.
            position_ids: with several rows in one line, they start again at 0.
        """
        self._passes[-1].append((input_ids, labels, attention_mask, position_ids))

    def end_step(self) -> None:
        """The optimizer has moved the weights."""
        self._stamp()
        self._passes.append([])

    def _stamp(self) -> None:
        self.wall.append(time.perf_counter())
        self.cpu.append(time.process_time())

    def counted(self) -> dict[str, list[Any]]:
        """Digest, rows, targets and real tokens of every step."""
        steps = [self._count(step) for step in self._passes[: len(self.wall) - 1]]
        return {
            name: [step[name] for step in steps]
            for name in ("digest", "num_rows", "num_targets", "num_tokens")
        }

    def _count(self, passes: Sequence[tuple[Any, Any, Any, Any]]) -> dict[str, Any]:
        hashes, targets, tokens = [], 0, 0
        for tensors in passes:
            for ids, answer in rows_of(*tensors):
                hashes.append(row_hash(ids, answer))
                targets += 1 if isinstance(answer, int) else len(answer)
                tokens += len(ids)
        return {
            "digest": step_digest(hashes),
            "num_rows": len(hashes),
            "num_targets": targets,
            "num_tokens": tokens,
        }


def rows_of(
    input_ids: Any, labels: Any, attention_mask: Any = None, position_ids: Any = None
) -> list[tuple[list[int], list[int] | int]]:
    """Take the rows out of one forward pass again.

    Args:
        input_ids: [B, T]; see ``Ledger.forward``.

    Returns:
        For every row its ids without padding, and its class or the positions of its targets.
    """
    ids_BT = input_ids.tolist()
    by_class = labels.dim() == 1
    labels_B = labels.tolist()
    found: list[tuple[list[int], list[int] | int]] = []
    for index, ids in enumerate(ids_BT):
        if attention_mask is not None:
            real = [bool(bit) for bit in attention_mask[index].tolist()]
        else:
            real = [True] * len(ids)
        starts = [0]
        if position_ids is not None and len(position_ids) == len(ids_BT):
            positions = position_ids[index].tolist()
            starts = [at for at, position in enumerate(positions) if position == 0 and real[at]]
        for start, end in zip(starts, [*starts[1:], len(ids)], strict=True):
            places = [at for at in range(start, end) if real[at]]
            row = [ids[at] for at in places]
            if by_class:
                found.append((row, int(labels_B[index])))
                continue
            marked = [labels_B[index][at] for at in places]
            found.append((row, [at for at, to in enumerate(marked) if at and to != IGNORED]))
    return found


def watch_optimizer(ledger: Ledger) -> None:
    """Close a step whenever any torch optimizer has stepped; for tools without callbacks."""
    register_optimizer_step_post_hook(lambda *_: ledger.end_step())


def weights_report(model: Any) -> dict[str, Any]:
    """How many parameters are trained, and whether every lora_B has moved."""
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    norms = [float(p.detach().float().norm()) for n, p in trainable.items() if "lora_B" in n]
    return {
        "trainable": sum(p.numel() for p in trainable.values()),
        "lora_b": len(norms),
        "lora_b_zero": sum(1 for norm in norms if not norm > 0 or not math.isfinite(norm)),
    }


def peak_memory_bytes() -> int:
    """VmHWM: the most resident memory this process ever had."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def read_rows(job: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a job: ``input_ids`` with ``targets`` (0/1 per token), or with ``label``."""
    with Path(job["rows"]).open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def labels_of(row: dict[str, Any]) -> list[int]:
    """Labels as the Hugging Face world writes them: the id, or IGNORED."""
    pairs = zip(row["input_ids"], row["targets"], strict=True)
    return [token if trained else IGNORED for token, trained in pairs]


def run(tool: str, packages: Sequence[str], work: Callable[[dict[str, Any], Ledger], Any]) -> None:
    """Run a job and write its result; an error of the tool is a result too.

    Args:
        tool: its name.
        packages: whose versions are written down.
        work: trains as the job says, keeps the ledger, saves the model under ``job["out"]`` and
            returns ``weights_report`` with whatever else is worth keeping.
    """
    started = time.perf_counter()
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if job.get("memory_bytes"):
        # So that a tool that wants too much fails alone, and does not take the machine with it.
        resource.setrlimit(resource.RLIMIT_DATA, (job["memory_bytes"], job["memory_bytes"]))
    ledger = Ledger()
    result: dict[str, Any] = {"tool": tool, "error": None}
    try:
        result.update(work(job, ledger))
    except Exception as error:
        traceback.print_exc()
        result["error"] = f"{type(error).__name__}: {str(error).strip()[:300]}"
    result["peak_bytes"] = peak_memory_bytes()
    result["seconds_in_python"] = time.perf_counter() - started
    result["cpu_seconds"] = time.process_time()
    result.update(
        versions={name: importlib.metadata.version(name) for name in packages},
        wall=ledger.wall,
        cpu=ledger.cpu,
        losses=ledger.losses,
        gradient_norms=ledger.gradient_norms,
        counted=ledger.counted() if result["error"] is None else None,
    )
    Path(sys.argv[2]).write_text(json.dumps(result), encoding="utf-8")
    sys.stdout.flush()
    # The result is on disk: no need to wait for threads that a tool left behind.
    os._exit(0 if result["error"] is None else 1)
