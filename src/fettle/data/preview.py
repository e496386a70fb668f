"""The first examples for a person to look at, before any base is known.

In: examples. Out: text for a terminal, with [[ ]] around what is trained. Must not know: tokens,
templates (``chat.preview`` shows conversations as a base's template renders them).
"""

import re
from collections.abc import Sequence
from typing import Final

from fettle.data.sensitive import redact
from fettle.records.rows import Example

MAX_SHOWN: Final = 200
"""Characters of a text or a turn."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def preview_rows(examples: Sequence[Example], count: int = 3) -> str:
    """Texts with their target, or the turns of conversations.

    Args:
        examples: of one task.
        count: how many to show.
    """
    shown = []
    for number, row in enumerate(examples[:count], start=1):
        lines = [f"example {number}, {row.source}:{row.line or f'record {row.record}'}"]
        if row.text is None:
            for turn in row.messages:
                trained = turn.role == "assistant" and turn.weight > 0
                lines.append(f"{turn.role}: {_marked(turn.content, trained)}")
        elif row.target is None:
            lines.append(_marked(row.text))
        else:
            lines.append(f"{_marked(row.text, False)} -> {_marked(row.target)}")
        shown.append("\n".join(lines))
    return "\n\n".join(shown)


def _marked(text: str, trained: bool = True) -> str:
    """One line without control characters, in brackets when it is trained."""
    line = _CONTROL.sub("", " ".join(redact(text).split()))
    line = line if len(line) <= MAX_SHOWN else line[: MAX_SHOWN - 1] + "…"
    return f"[[{line}]]" if trained else line
