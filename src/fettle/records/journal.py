"""events.jsonl: what a run said, one JSON object a line, appended as it happens.

In: event names with their fields. Out: lines in the file, and a call of each listener. Must not
know: what events mean, terminals.
"""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fettle.records.events import SCHEMA
from fettle.records.run_directory import disk_errors

OF_A_STEP = ("step", "validation", "checkpoint")
"""Events of which the last one of each step counts."""

Listener = Callable[[Mapping[str, Any]], None]


class Journal:
    """Writes events and passes them on; a line is never changed once it is written."""

    def __init__(self, path: Path, listeners: Sequence[Listener] = ()) -> None:
        self._path = path
        self._listeners = tuple(listeners)
        self._whole = False
        """Whether the file is known to end with a whole line."""

    def emit(self, event: str, fields: Mapping[str, Any]) -> None:
        """Append one event.

        All but steps survive a loss of power from here on; steps do so with the next event of
        another kind, or ``flush``: waiting for the disk at every step would cost more than a step.

        Args:
            event: "stage", "data", "step", "validation", "checkpoint", "note", ...
            fields: JSON-ready values.

        Raises:
            MachineError: E0401, the disk refused.
        """
        record = {"schema": SCHEMA, "event": event, "time": round(time.time(), 3), **fields}
        line = json.dumps(record, ensure_ascii=False) + "\n"
        # Lone surrogates of broken data have no UTF-8 form.
        content = line.encode("utf-8", errors="backslashreplace")
        with disk_errors(self._path), self._path.open("ab") as handle:
            if not self._whole and _torn(self._path):
                # A kill may have cut the last line off; what follows must not be glued to it.
                content = b"\n" + content
            # A full disk may cut this one off.
            self._whole = False
            handle.write(content)
            handle.flush()
            if event != "step":
                os.fsync(handle.fileno())
        self._whole = True
        for listener in self._listeners:
            listener(record)

    def flush(self) -> None:
        """Make every event so far survive a loss of power."""
        if self._path.is_file():
            with disk_errors(self._path), self._path.open("rb") as handle:
                os.fsync(handle.fileno())

    def note(self, message: str) -> None:
        """One line for people."""
        self.emit("note", {"message": message})


def _torn(path: Path) -> bool:
    """Whether the file's last line has no end."""
    with path.open("rb") as handle:
        if handle.seek(0, os.SEEK_END) == 0:
            return False
        handle.seek(-1, os.SEEK_END)
        return handle.read(1) != b"\n"


def read_events(path: Path) -> list[dict[str, Any]]:
    """What a run said: all whole lines of events.jsonl, each step once.

    A line that a kill cut off is left out. Steps after the newest checkpoint are done again by a
    resumed run and said again; the last word on a step is what the model was trained with.
    """
    if not path.is_file():
        return []
    events: dict[tuple[Any, ...], dict[str, Any]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").split("\n")):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if not isinstance(event, dict):
            continue
        of_a_step = event.get("event") in OF_A_STEP and isinstance(event.get("step"), int)
        key = (event["event"], event["step"]) if of_a_step else (number,)
        events.pop(key, None)
        events[key] = event
    return list(events.values())
