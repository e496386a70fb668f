"""``fettle doctor``: what this machine has, and what is missing.

In: nothing. Out: a list of checks, each with its outcome and a fix. Must not know: runs.
"""

import importlib.metadata
import platform
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from fettle.models.catalog import STARTER_DIRECTORY
from fettle.models.hub import cache_directory
from fettle.models.machine import probe_machine
from fettle.records.facts import MachineFacts

REQUIRED = (
    "torch",
    "transformers",
    "peft",
    "tokenizers",
    "safetensors",
    "huggingface_hub",
    "scikit-learn",
    "sacrebleu",
)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    outcome: Literal["ok", "warning", "missing"]
    detail: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All checks, and the machine as a run would see it."""

    checks: tuple[Check, ...]
    machine: MachineFacts

    @property
    def healthy(self) -> bool:
        """Whether a run can start here."""
        return all(check.outcome != "missing" for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """For --json."""
        return {
            "healthy": self.healthy,
            "checks": [asdict(check) for check in self.checks],
            "machine": asdict(self.machine),
        }


def diagnose() -> Diagnosis:
    """Look at Python, packages, device, memory, disk, cache and starter."""
    machine = probe_machine(Path.cwd())
    checks = [
        Check(
            "python",
            "ok" if sys.version_info >= (3, 11) else "missing",
            platform.python_version(),
            "install Python 3.11 or newer",
        ),
        *(_package(name) for name in REQUIRED),
        _device(machine),
        _room("memory", machine.memory_bytes, 4),
        _room("disk", machine.disk_free_bytes, 5),
        _starter(),
        _cache(),
    ]
    return Diagnosis(tuple(checks), machine)


def _package(name: str) -> Check:
    try:
        return Check(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "missing", "not installed", f"pip install {name}")


def _device(machine: MachineFacts) -> Check:
    speeds = ", ".join(f"{name} {speed:,.0f} GFLOP/s" for name, speed in machine.gflops.items())
    return Check("device", "ok", f"{machine.device}: {machine.device_name}; {speeds}")


def _room(name: str, free: int, wanted: int) -> Check:
    gib = free / 2**30
    text = f"{gib:.1f} GiB free"
    if gib >= wanted:
        return Check(name, "ok", text)
    return Check(name, "warning", text, f"{wanted} GiB or more are comfortable")


def _starter() -> Check:
    weights = STARTER_DIRECTORY / "model.safetensors"
    if weights.is_file():
        return Check("starter", "ok", f"{weights.stat().st_size / 2**20:.1f} MiB")
    return Check("starter", "missing", "no built-in base", "install fettle again")


def _cache() -> Check:
    folder = cache_directory()
    where = folder if folder.exists() else folder.parent
    while not where.exists():
        where = where.parent
    free = shutil.disk_usage(where).free / 2**30
    return Check("hub cache", "ok", f"{folder}, {free:.1f} GiB free")
