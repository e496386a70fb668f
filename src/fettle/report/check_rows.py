"""Rows of a checked data set as they may be shown: place, side, label, a piece of the text.

In: ``Prepared``, row ids. Out: ``Seen`` by row id, texts without personal data and secrets.
Must not know: HTML, why a row is shown.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Final, TypeVar

from fettle.data.account.account import Prepared
from fettle.data.meaning.profile import as_text
from fettle.data.near.clusters import shown_text
from fettle.data.sensitive import redact
from fettle.records.rows import Example, Finding, SplitRow
from fettle.report.words import plain

MAX_TEXT: Final = 200
"""Characters of a text that are shown."""
_WINDOW: Final = 4_000
"""Characters that are looked through for what must not be shown."""
_INPUT_ROLES: Final = ("text", "prompt", "messages")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Seen:
    """One row, ready to be shown."""

    place: str
    side: str
    label: str
    text: str


def excerpt(text: str, longest: int = MAX_TEXT) -> str:
    """The beginning of a text in one line, redacted first and cut afterwards.

    Args:
        text: any text.
        longest: characters that are kept.
    """
    window = redact(text[:_WINDOW])
    if len(text) > _WINDOW and len(window) < _WINDOW // 2:
        # So much was masked that what is left may end in half of a secret.
        return "(not shown: most of its beginning is masked)"
    line = plain(" ".join(window.split()))
    return line if len(line) <= longest and len(text) <= _WINDOW else f"{line[:longest]}…"


def short_names(prepared: Prepared) -> dict[str, str]:
    """Path of a source → the name of the file alone, where no other source has it."""
    paths = {source.path for source in (*prepared.sources, *prepared.eval_sources)}
    count = Counter(PurePath(path).name for path in paths)
    return {path: PurePath(path).name for path in paths if count[PurePath(path).name] == 1}


def place_of(row: SplitRow | Finding, names: Mapping[str, str]) -> str:
    """file:line of a row, or the number of its record; "all rows" where it is about no single one.

    Args:
        row: a row, or a finding.
        names: from ``short_names``.
    """
    if not row.row_id:
        return "all rows"
    source = names.get(row.source, row.source)
    if row.line is not None:
        return plain(f"{source}:{row.line}")
    return plain(f"{source}, record {row.record}")


def look_up(prepared: Prepared, wanted: Collection[str]) -> dict[str, Seen]:
    """The rows of some ids, wherever they ended; ids that the account lacks are left out.

    Args:
        prepared: the account.
        wanted: row ids.
    """
    ids = set(wanted)
    texts: dict[str, tuple[str, str]] = {}
    for rows in prepared.examples.values():
        texts.update({e.row_id: (_label(e), shown_text(e)) for e in rows if e.row_id in ids})
    columns = prepared.layout.columns
    for raw, row_id, _ in prepared.quarantined:
        if row_id in ids:
            label = as_text(raw.fields.get(columns.get("label", ""), ""))
            texts[row_id] = (label, _raw_text(raw.fields, columns))
    names = short_names(prepared)
    found = {}
    for row in prepared.splits:
        if row.row_id in ids:
            label, text = texts.get(row.row_id, ("", ""))
            found[row.row_id] = Seen(
                place_of(row, names), row.split, plain(redact(label)), excerpt(text)
            )
    return found


def spread(items: Sequence[T], number: int) -> list[T]:
    """At most so many items, evenly spaced from the first to the last."""
    if len(items) <= number:
        return list(items)
    return [items[index * (len(items) - 1) // (number - 1)] for index in range(number)]


def _label(example: Example) -> str:
    if example.text is None:
        return ""
    return ", ".join(example.classes) if example.number is None else f"{example.number:g}"


def _raw_text(fields: Mapping[str, Any], columns: Mapping[str, str]) -> str:
    """The input of a record that became no example, or of one that was set aside."""
    for role in _INPUT_ROLES:
        if columns.get(role) in fields:
            return as_text(fields[columns[role]])
    return "; ".join(map(as_text, fields.values()))
