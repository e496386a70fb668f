"""What became of the rows since an earlier account: which are new, gone, or on another side.

In: two accounts' sides by row id. Out: ``Changes``. Must not know: why a row moved, files' formats.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fettle.records.rows import SplitRow
from fettle.records.run_directory import read_jsonl

CHANGES: Final = "changes.jsonl"


@dataclass(frozen=True, slots=True)
class Change:
    """One row that is not where it was; a line of changes.jsonl."""

    row_id: str
    before: str | None
    """Its side in the earlier account, None for a new row."""
    now: str | None
    """None for a row that is gone."""

    @property
    def kind(self) -> str:
        """new, gone or moved."""
        if self.before is None:
            return "new"
        return "gone" if self.now is None else "moved"


@dataclass(frozen=True, slots=True)
class Changes:
    """All rows that are not where an earlier account had them."""

    directory: str
    """Of the earlier account."""
    changes: tuple[Change, ...]
    same: int
    """Rows that are where they were."""

    def counts(self) -> dict[str, int]:
        """Rows that are new, gone, moved and the same."""
        found = Counter(change.kind for change in self.changes)
        return {kind: found[kind] for kind in ("new", "gone", "moved")} | {"same": self.same}

    def to_json(self) -> dict[str, Any]:
        """An entry of manifest.json; the rows themselves are in changes.jsonl."""
        return {"directory": self.directory, **self.counts()}

    def lines(self) -> list[dict[str, Any]]:
        """The lines of changes.jsonl."""
        return [
            {"row_id": c.row_id, "change": c.kind, "from": c.before, "to": c.now}
            for c in self.changes
        ]

    @classmethod
    def from_json(
        cls, entry: Mapping[str, Any] | None, changes: tuple[Change, ...]
    ) -> "Changes | None":
        """What ``to_json`` and ``lines`` wrote."""
        if entry is None:
            return None
        return cls(entry["directory"], changes, entry["same"])


def compare_sides(before: Mapping[str, str], rows: Iterable[SplitRow], directory: str) -> Changes:
    """Rows that are new, gone or moved.

    Args:
        before: row_id -> side in the earlier account, quarantine among them.
        rows: the account now.
        directory: of the earlier account.
    """
    now: dict[str, str] = {row.row_id: row.split for row in rows}
    found = [
        Change(row_id, before.get(row_id), side)
        for row_id, side in now.items()
        if before.get(row_id) != side
    ]
    found += [Change(row_id, side, None) for row_id, side in before.items() if row_id not in now]
    same = sum(before.get(row_id) == side for row_id, side in now.items())
    return Changes(directory, tuple(sorted(found, key=lambda c: (c.kind, c.row_id))), same)


def read_changes(directory: Path) -> tuple[Change, ...]:
    """The lines of changes.jsonl; none where an older account has no such file."""
    path = directory / CHANGES
    if not path.is_file():
        return ()
    return tuple(Change(line["row_id"], line["from"], line["to"]) for line in read_jsonl(path))
