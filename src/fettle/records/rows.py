"""Rows on their way from a file to a split.

In: nothing. Out: the value types of the data stages. Must not know: files, tokens, models.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "developer", "user", "assistant", "tool"]
Split = Literal["train", "validation", "holdout", "quarantine"]
Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation, as OpenAI's ``messages`` have it."""

    role: Role
    content: str
    name: str | None = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    tool_call_id: str | None = None
    weight: float = 1.0
    """How much each token of an assistant turn counts in training; 0 = never trained on."""

    def to_json(self) -> dict[str, Any]:
        """The message as chat templates and OpenAI clients expect it (no weight)."""
        message: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.name is not None:
            message["name"] = self.name
        if self.tool_calls:
            message["tool_calls"] = [dict(call) for call in self.tool_calls]
        if self.tool_call_id is not None:
            message["tool_call_id"] = self.tool_call_id
        return message


@dataclass(frozen=True, slots=True)
class RawRow:
    """One record of one source file, before it is understood."""

    source: str
    """Path as the user gave it, relative where it was relative."""
    record: int
    """1-based number of the record in its source; headers and blank lines are none."""
    line: int | None
    """1-based physical line on which the record starts; None for sources without lines."""
    fields: Mapping[str, Any]
    """Column name to value. A list record has the names "0", "1", ...; a plain text "text"."""
    malformed: str | None = None
    """Why the record could not be parsed; ``fields`` then holds {"raw": the text as read}."""


@dataclass(frozen=True, slots=True)
class Example:
    """One row with a meaning: a text with a label, a conversation, or a document."""

    row_id: str
    """16 hex digits: hash of the raw record plus its occurrence number. Kept to the end."""
    source: str
    record: int
    line: int | None
    text: str | None = None
    """classify and text tasks: the input."""
    messages: tuple[Message, ...] = ()
    """chat task: the conversation, ending with the assistant turn that is the target."""
    target: str | None = None
    """The label or the number (classify, regress) or the last assistant turn (chat); None for
    plain text. Several labels stand as a sorted JSON list."""
    labels: tuple[str, ...] | None = None
    """classify with any number of labels a row: those that apply, sorted; else None."""
    number: float | None = None
    """regress: the target."""
    tools: tuple[Mapping[str, Any], ...] = ()
    group: str | None = None
    time: str | None = None
    split: str | None = None
    """The value of the user's split column, if there is one: train, validation or holdout."""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels of this row: one, or any number; none for rows without."""
        if self.labels is not None:
            return self.labels
        return () if self.target is None else (self.target,)

    def finding(
        self,
        kind: str,
        severity: Severity,
        evidence: str,
        remedy: str,
        related: tuple[str, ...] = (),
    ) -> "Finding":
        """Something noticed about this row."""
        return Finding(
            self.row_id,
            self.source,
            self.record,
            self.line,
            kind,
            severity,
            evidence,
            remedy,
            related,
        )

    def placed(self, split: Split, reason: str) -> "SplitRow":
        """This row's line in the account."""
        return SplitRow(self.row_id, self.source, self.record, self.line, split, reason)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing noticed about one row; a line of findings.jsonl (contract: DESIGN section 5)."""

    row_id: str
    source: str
    record: int
    line: int | None
    kind: str
    severity: Severity
    evidence: str
    remedy: str
    related: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SplitRow:
    """Where one input record ended; a line of splits.jsonl, one for every input record."""

    row_id: str
    source: str
    record: int
    line: int | None
    split: Split
    reason: str
