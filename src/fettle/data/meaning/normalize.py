"""Raw rows -> examples with a meaning and a row id.

In: raw rows and their layout. Out: examples, findings, and the rows that can't be used with the
reason. Must not know: files, splits, tokens.

The row id is the hash of the raw record plus its occurrence number among equal records: cleaning
never changes it, and neither does the order of rows that differ. Text that cleaning changes is kept
as it was under the tag ``before.<place>``.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import xxhash

from fettle.data.cleaning.clean import REPAIRS, repair
from fettle.data.meaning.conversations import (
    ConversationError,
    EmptyTurnError,
    parse_messages,
    parse_tools,
)
from fettle.data.meaning.detect import Layout
from fettle.data.meaning.profile import as_text
from fettle.data.meaning.targets import TargetError, label_set, number
from fettle.data.reading import names
from fettle.errors import DataError
from fettle.recipe.policies import Policy, policy_of
from fettle.recipe.recipe import DataSection
from fettle.records.outcomes import labels_as_text
from fettle.records.rows import Example, Finding, Message, RawRow, SplitRow

OCCURRENCE = "occurrence"
"""Tag of the second and later copies of an equal raw record."""

BEFORE = "before."
"""Tags that begin so hold the text of a place before it was repaired."""
NOT_REPAIRED = "left as it is, as data.policies says"

_canonical = json.JSONEncoder(
    sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=str
).encode
_REMEDIES = {
    "mojibake": "was repaired; the text before is kept in data/rows.jsonl",
    "control_characters": "were removed; the text before is kept in data/rows.jsonl",
    "encoding_error": "was decoded; the text before is kept in data/rows.jsonl",
    "html_or_url": "was decoded; the text before is kept in data/rows.jsonl",
}


def normalize(
    rows: Sequence[RawRow],
    layout: Layout,
    options: DataSection,
    seen: Counter[str] | None = None,
) -> tuple[list[Example], list[Finding], list[SplitRow]]:
    """Give rows their meaning.

    Args:
        rows: raw rows.
        layout: how to read them.
        options: ``system`` is used.
        seen: how often each raw record was met in files before these; is added to.
    Returns:
        Examples, findings, and one quarantined SplitRow for each row that is no example: malformed,
        without text or target, or a conversation without an answer.
    Raises:
        DataError: E0334, the split column holds values that are no split.
    """
    seen = Counter() if seen is None else seen
    worker = _Normalizer(layout, options)
    examples: list[Example] = []
    quarantined: list[SplitRow] = []
    for row in rows:
        digest = digest_of(row.fields)
        seen[digest] += 1
        occurrence = seen[digest]
        row_id = row_id_of(digest, occurrence)
        tags = {} if occurrence == 1 else {OCCURRENCE: str(occurrence)}
        try:
            example = worker.example(row, row_id, tags)
        except _Unusable as fault:
            worker.note(row, row_id, fault.kind, "error", fault.evidence, fault.remedy)
            quarantined.append(
                SplitRow(row_id, row.source, row.record, row.line, "quarantine", fault.kind)
            )
        else:
            examples.append(example)
    if worker.unknown_splits:
        shown = ", ".join(f"'{value}'" for value in sorted(worker.unknown_splits)[:5])
        raise DataError(
            "E0334",
            f'the split column "{layout.columns["split"]}" holds {shown}',
            why="Known are train, validation (valid, val, dev) and holdout (test, eval),"
            " alone or at the end of a name such as oos_train",
            hint="rename those values, or leave out --split-column to have the rows cut anew",
        )
    return examples, worker.findings, quarantined


def canonical(fields: Mapping[str, Any]) -> bytes:
    """One spelling for equal records, whatever the order of their columns."""
    return _canonical(fields).encode("ascii")


def digest_of(fields: Mapping[str, Any]) -> str:
    """Content hash of a raw record."""
    return xxhash.xxh3_128_hexdigest(canonical(fields))


def row_id_of(digest: str, occurrence: int) -> str:
    """Row id of the n-th record with this content hash."""
    return xxhash.xxh3_128_hexdigest(f"{digest}:{occurrence}".encode())[:16]


def fixed_kinds(policies: Mapping[str, Policy]) -> frozenset[str]:
    """Kinds of damage that are mended in the text."""
    return frozenset(kind for kind in REPAIRS if policy_of(kind, policies) == "fix")


class _Unusable(Exception):
    """A row that can't become an example."""

    def __init__(self, kind: str, evidence: str, remedy: str) -> None:
        super().__init__(evidence)
        self.kind = kind
        self.evidence = evidence
        self.remedy = remedy


class _Normalizer:
    def __init__(self, layout: Layout, options: DataSection) -> None:
        self.layout = layout
        self.columns = layout.columns
        self.required = [
            column
            for role, column in layout.columns.items()
            if role in ("text", "label", "prompt", "completion", "messages")
        ]
        self.system = options.system
        self.fixed_kinds = fixed_kinds(options.policies)
        self.findings: list[Finding] = []
        self.unknown_splits: set[str] = set()

    def note(
        self, row: RawRow, row_id: str, kind: str, severity: Any, evidence: str, remedy: str
    ) -> None:
        """Add a finding about a row."""
        self.findings.append(
            Finding(row_id, row.source, row.record, row.line, kind, severity, evidence, remedy)
        )

    def example(self, row: RawRow, row_id: str, tags: dict[str, str]) -> Example:
        """The row with its meaning; raises _Unusable."""
        if row.malformed is not None:
            raise _Unusable("malformed_row", row.malformed, "mend the record in its file")
        missing = [column for column in self.required if column not in row.fields]
        if len(missing) == len(self.required):
            raise _Unusable("malformed_row", f"has no column {missing[0]!r}", "add the column")
        base = Example(
            row_id=row_id,
            source=row.source,
            record=row.record,
            line=row.line,
            group=self._plain(row, "group"),
            time=self._plain(row, "time"),
            split=self._split(row),
            tags=tags,
        )
        if self.layout.name == "text":
            return replace(base, text=self._text(row, base, "text", "the text"))
        if self.layout.name == "text_label":
            text = self._text(row, base, "text", "the text")
            if self.layout.task == "regress" or self.layout.multi_label:
                return replace(base, text=text, **self._target(row))
            label = self._plain(row, "label")
            if label is None:
                raise _Unusable("empty", "the label is empty", "add the label")
            return replace(base, text=text, target=label)
        messages = self._conversation(row, base)
        tools = self._tools(row)
        return _as_chat(self, row, replace(base, messages=messages, tools=tools))

    def _target(self, row: RawRow) -> dict[str, Any]:
        """The fields of an Example that hold a number or several labels."""
        value = row.fields.get(self.columns["label"])
        try:
            if self.layout.task == "regress":
                found = number(value)
                return {"target": as_text(found), "number": found}
            labels = label_set(value, self.layout.separator)
        except TargetError as error:
            column = self.columns["label"]
            raise _Unusable(
                "malformed_row", f'"{column}": {error}', f'correct the value of "{column}"'
            ) from error
        return {"target": labels_as_text(labels), "labels": labels}

    def _conversation(self, row: RawRow, base: Example) -> tuple[Message, ...]:
        if "messages" in self.columns:
            value = row.fields.get(self.columns["messages"])
            if not value:
                raise _Unusable("empty", "the conversation is empty", "add the turns")
            try:
                messages = parse_messages(value, self.layout.roles)
            except ConversationError as error:
                kind = "empty" if isinstance(error, EmptyTurnError) else "role_order"
                raise _Unusable(kind, str(error), "mend the conversation") from error
            messages = tuple(
                replace(turn, content=self._clean(row, base, f"messages.{index}", turn.content))
                for index, turn in enumerate(messages)
            )
        else:
            prompt = self._text(row, base, "prompt", "the prompt")
            context = ""
            if "context" in self.columns:
                value = as_text(row.fields.get(self.columns["context"]))
                context = self._clean(row, base, "context", value)
            if context.strip():
                parts = (prompt, context) if self.layout.name == "alpaca" else (context, prompt)
                prompt = "\n\n".join(parts)
            answer = self._text(row, base, "completion", "the answer")
            messages = (Message("user", prompt), Message("assistant", answer))
        system = self._plain(row, "system") or self.system
        if system and messages[0].role not in ("system", "developer"):
            messages = (Message("system", system), *messages)
        return messages

    def _tools(self, row: RawRow) -> tuple[Mapping[str, Any], ...]:
        if "tools" not in self.columns:
            return ()
        try:
            return parse_tools(row.fields.get(self.columns["tools"]))
        except ConversationError as error:
            raise _Unusable("role_order", str(error), "mend the tools") from error

    def _text(self, row: RawRow, base: Example, role: str, what: str) -> str:
        text = self._clean(row, base, role, as_text(row.fields.get(self.columns[role])))
        if not text.strip():
            raise _Unusable("empty", f"{what} is empty", f"fill {what} in, or leave the row out")
        return text

    def _clean(self, row: RawRow, base: Example, place: str, text: str) -> str:
        unescape = self.layout.name == "text_label"
        cleaned, repairs = repair(text, unescape, self.fixed_kinds)
        if repairs and cleaned != text and isinstance(base.tags, dict):
            base.tags[f"{BEFORE}{place}"] = text
        for kind, evidence in repairs:
            remedy = _REMEDIES[kind] if kind in self.fixed_kinds else NOT_REPAIRED
            self.note(row, base.row_id, kind, "note", evidence, remedy)
        return cleaned

    def _plain(self, row: RawRow, role: str) -> str | None:
        if role not in self.columns:
            return None
        text = as_text(row.fields.get(self.columns[role])).strip()
        return repair(text, unescape=False)[0].strip() or None

    def _split(self, row: RawRow) -> str | None:
        value = self._plain(row, "split")
        if value is None:
            return None
        side = names.split_of(value)
        if side is None:
            self.unknown_splits.add(value)
        return side


def _as_chat(worker: _Normalizer, row: RawRow, example: Example) -> Example:
    """The conversation up to its last trained answer, which is the target."""
    messages = example.messages
    last = max(
        (i for i, turn in enumerate(messages) if turn.role == "assistant" and turn.weight > 0),
        default=None,
    )
    if last is None:
        raise _Unusable(
            "role_order",
            "no turn of the assistant to learn from",
            "add the answer, or leave the row out",
        )
    if last == 0:
        raise _Unusable("role_order", "nothing stands before the answer", "add the question")
    if last + 1 < len(messages):
        cut = ", ".join(turn.role for turn in messages[last + 1 :])
        worker.note(
            row,
            example.row_id,
            "truncated",
            "note",
            f"{len(messages) - last - 1} turn(s) after the last answer are not used ({cut})",
            "nothing to do: there is no answer to learn after them",
        )
    target = messages[last]
    text = answer_text(target)
    if not target.content.strip() and not target.tool_calls:
        raise _Unusable("empty", "the last answer is empty", "fill it in, or leave the row out")
    return replace(example, messages=messages[: last + 1], target=text)


def answer_text(turn: Message) -> str:
    """The target of a conversation that ends in this turn: its words, or its tool calls."""
    return turn.content or json.dumps([dict(c) for c in turn.tool_calls], ensure_ascii=False)
