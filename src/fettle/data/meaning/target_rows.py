"""A file of what the model will meet -> examples of inputs alone.

In: a file, and the layout of the training rows. Out: examples with a text, and the label where
there is one. Must not know: what they are compared with.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from fettle.data.meaning.conversations import ConversationError, parse_messages
from fettle.data.meaning.detect import Layout
from fettle.data.meaning.normalize import digest_of, row_id_of
from fettle.data.meaning.profile import as_text
from fettle.data.reading.read import read
from fettle.errors import UsageError
from fettle.recipe.recipe import DataSection
from fettle.records.rows import Example, RawRow

_INPUTS: Final = ("text", "prompt", "messages")
"""Roles of the column that holds what a model is given."""


def read_target(path: str, layout: Layout) -> list[Example]:
    """The inputs of a target file; rows without one are passed over.

    Args:
        path: a file of the formats that ``read`` knows; labels and answers are not needed.
        layout: of the training rows. A file with one column needs no column of that name.
    Raises:
        UsageError: E0134, the column of the inputs is not there; else as ``read`` says.
    """
    result = read([path], DataSection(path=[path]))
    role = next(role for role in _INPUTS if role in layout.columns)
    names = list(dict.fromkeys(name for source in result.sources for name in source.columns))
    column = layout.columns[role]
    if column not in names:
        if len(names) != 1:
            raise UsageError(
                "E0134",
                f'{path} has no column "{column}", which holds the inputs of the training rows',
                where=f"its columns: {', '.join(names)}",
                hint="rename the column, or give a file with the inputs alone",
            )
        column = names[0]
    label = layout.columns.get("label", "")
    seen: Counter[str] = Counter()
    found = []
    for row in result.rows:
        text = "" if row.malformed is not None else _input(row, column, layout.roles)
        if not text.strip():
            continue
        digest = digest_of(row.fields)
        seen[digest] += 1
        target = as_text(row.fields.get(label)).strip() or None
        found.append(
            Example(
                row_id_of(digest, seen[digest]),
                row.source,
                row.record,
                row.line,
                text=text,
                target=None if layout.task != "classify" or layout.multi_label else target,
            )
        )
    return found


def _input(row: RawRow, column: str, roles: Mapping[str, str]) -> str:
    value: Any = row.fields.get(column)
    if isinstance(value, list):
        try:
            turns = parse_messages(value, roles)
        except ConversationError:
            return ""
        return "\n".join(turn.content for turn in turns if turn.role == "user")
    return as_text(value)
