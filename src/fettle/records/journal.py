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

Listener = Callable[[Mapping[str, Any]], None]


class Journal:
    """Writes events and passes them on; a line is never changed once it is written."""

    def __init__(self, path: Path, listeners: Sequence[Listener] = ()) -> None:
        self._path = path
        self._listeners = tuple(listeners)
        self._whole = False

    def emit(self, event: str, fields: Mapping[str, Any]) -> None:
        """Append one event.

        Args:
            event: "stage", "data", "step", "validation", "checkpoint", "note", ...
            fields: JSON-ready values.

        Raises:
            MachineError: E0401, the disk refused.
        """
        record = {"schema": SCHEMA, "event": event, "time": round(time.time(), 3), **fields}
        line = json.dumps(record, ensure_ascii=False) + "\n"
        with disk_errors(self._path), self._path.open("ab") as handle:
            if not self._whole:
                # A kill may have cut the last line off; what follows must not be glued to it.
                handle.write(b"\n" if _torn(self._path) else b"")
                self._whole = True
            # Lone surrogates of broken data have no UTF-8 form.
            handle.write(line.encode("utf-8", errors="backslashreplace"))
        for listener in self._listeners:
            listener(record)

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
    """All whole lines of events.jsonl; a line that a kill cut off is left out."""
    if not path.is_file():
        return []
    events = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            events.append(event)
    return events
