"""The run directory: one folder, fixed names, private to the user.

In: a path. Out: the paths of everything inside it, atomic writes, the lock. Must not know: what the
files mean.
"""

import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from fettle.errors import DataError, IntegrityError, MachineError, UsageError


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """Names inside one run directory (contract: DESIGN section 5)."""

    root: Path

    @property
    def recipe(self) -> Path:
        return self.root / "recipe.yaml"

    @property
    def resolved(self) -> Path:
        return self.root / "recipe.resolved.yaml"

    @property
    def plan(self) -> Path:
        return self.root / "plan.json"

    @property
    def guards(self) -> Path:
        return self.root / "guards.jsonl"

    @property
    def environment(self) -> Path:
        return self.root / "environment.json"

    @property
    def events(self) -> Path:
        return self.root / "events.jsonl"

    @property
    def verdict(self) -> Path:
        return self.root / "verdict.json"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def card(self) -> Path:
        return self.root / "README.md"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def evaluation(self) -> Path:
        return self.root / "evaluation"

    @property
    def log(self) -> Path:
        return self.root / "log.txt"

    def create(self) -> None:
        """Make the directory (mode 0700)."""
        with disk_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            self.root.chmod(0o700)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run's lock; a second process gets UsageError E0110."""
        lock = FileLock(str(self.root / ".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UsageError(
                "E0110",
                f"{self.root} is in use by another fettle process",
                hint="wait for it to end, or choose another directory with --out",
            ) from None
        try:
            yield
        finally:
            lock.release()

    def is_run(self) -> bool:
        """Whether a run was started here."""
        return self.recipe.is_file()


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write into a MachineError that says what to do."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        # safetensors reports a full disk as an error of its own.
        reason = error.strerror if isinstance(error, OSError) else None
        raise MachineError(
            "E0401",
            f"can't write {path}: {reason or error}",
            hint="free some space or permissions there, then run the same command again"
            " (or `fettle resume` on the run); or choose another directory with --out",
        ) from error


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a whole file or nothing: temporary name, fsync, rename, fsync of the folder.

    Raises:
        MachineError: E0401, the disk refused.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp-{uuid.uuid4().hex[:8]}")
        try:
            with temporary.open("wb") as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        fsync_directory(path.parent)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write one JSON object atomically, indented."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line, atomically."""
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    write_atomic(path, "".join(lines))


def read_json(path: Path) -> Any:
    """Read a JSON file that fettle wrote.

    Raises:
        IntegrityError: E0901, it is missing or no longer JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise IntegrityError(
            "E0901",
            f"{path} can't be read back: {error}",
            hint="run `fettle resume` on the run, or start it again",
        ) from error


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Read a JSONL file line by line.

    Raises:
        DataError: E0302 with the line number, when a line is not a JSON object.
    """
    with path.open(encoding="utf-8") as handle:
        for number, line in enumerate(handle, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise DataError(
                    "E0302", f"not a JSON object: {error}", where=f"{path}:{number}"
                ) from error
            if not isinstance(record, dict):
                raise DataError("E0302", "not a JSON object", where=f"{path}:{number}")
            yield record


@contextmanager
def staged_directory(path: Path) -> Iterator[Path]:
    """Fill a directory under a temporary name; it gets its real name only when all is written.

    Replaces an older one of the same name.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp-{uuid.uuid4().hex[:8]}")
        temporary.mkdir()
        try:
            yield temporary
            for folder, _, names in os.walk(temporary):
                for name in names:
                    with (Path(folder) / name).open("rb") as handle:
                        os.fsync(handle.fileno())
                fsync_directory(Path(folder))
            old = _put_aside(path) if path.exists() else None
            temporary.rename(path)
            fsync_directory(path.parent)
            if old is not None:
                shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def remove_directory(path: Path) -> None:
    """Delete a directory; a kill in the midst never leaves a part of it under its name.

    Raises:
        MachineError: E0401, the disk refused.
    """
    with disk_errors(path):
        shutil.rmtree(_put_aside(path), ignore_errors=True)


def _put_aside(path: Path) -> Path:
    """Give a directory the hidden name of what is to be deleted."""
    return path.rename(path.with_name(f".{path.name}.old-{uuid.uuid4().hex[:8]}"))


def fsync_directory(path: Path) -> None:
    """Make a rename inside this folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
