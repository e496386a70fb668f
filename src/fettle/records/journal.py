"""events.jsonl: what a run said, one JSON object a line, appended as it happens.

In: event names with their fields. Out: lines in the file, and a call of each listener. Must not
know: what events mean, terminals.
"""

import json
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

    def emit(self, event: str, fields: Mapping[str, Any]) -> None:
        """Append one event.

        Args:
            event: "stage", "data", "step", "validation", "checkpoint", "note", ...
            fields: JSON-ready values.

        Raises:
            MachineError: E0401, the disk refused.
        """
        record = {"schema": SCHEMA, "event": event, "time": round(time.time(), 3), **fields}
        with disk_errors(self._path), self._path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(record, ensure_ascii=False) + "\n")
        for listener in self._listeners:
            listener(record)

    def note(self, message: str) -> None:
        """One line for people."""
        self.emit("note", {"message": message})


def read_events(path: Path) -> list[dict[str, Any]]:
    """All whole lines of events.jsonl; a last line that a kill cut off is left out."""
    if not path.is_file():
        return []
    events = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            events.append(json.loads(line))
        except ValueError:
            continue
    return events
