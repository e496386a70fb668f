"""The texts of an example, and where each stands.

In: examples. Out: texts with the name of their place. Must not know: faults.
"""

import re
from collections.abc import Iterator

from fettle.data.calls import call_texts
from fettle.data.sensitive import redact
from fettle.records.rows import Example

_CODE = re.compile(r"```.*?(?:```|\Z)|``[^`]+``|`[^`\n]+`", re.DOTALL)
_CONTEXT = 30
_SEEN = 400


def texts(example: Example) -> Iterator[tuple[str, str]]:
    """(place, text) for each text of an example that is not empty."""
    if example.text is not None:
        yield "the text", example.text
        return
    turns = example.messages
    short = len(turns) <= 3
    for number, turn in enumerate(turns, start=1):
        if not turn.content:
            continue
        if short and turn.role != "tool":
            yield _SHORT.get(turn.role, "the system turn"), turn.content
        else:
            yield f"turn {number} ({turn.role})", turn.content


def every_text(example: Example) -> Iterator[tuple[str, str]]:
    """``texts``, and those inside tool calls and tools, which may hold something too."""
    yield from texts(example)
    yield from call_texts(example)


_SHORT = {"user": "the prompt", "assistant": "the answer"}


def answers(example: Example) -> Iterator[tuple[str, str]]:
    """(place, text) for each turn of the assistant that has words and is trained."""
    turns = example.messages
    for number, turn in enumerate(turns, start=1):
        if turn.role == "assistant" and turn.content and turn.weight > 0:
            place = "the answer" if len(turns) <= 3 else f"turn {number} (assistant)"
            yield place, turn.content


def without_code(text: str) -> str:
    """A text without what stands between backticks: there, anything may be quoted."""
    return _CODE.sub(" ", text) if "`" in text else text


def shown(text: str, start: int, end: int) -> str:
    """A piece of a text with a little around it, safe to be shown.

    Args:
        text: the whole text.
        start: where the piece begins.
        end: where it ends; only its first 60 characters are shown.
    """
    # Wide enough that what the context may show was seen whole by the patterns.
    before = redact(text[max(0, start - _SEEN) : start])
    after = redact(text[start : start + _SEEN])
    left = "…" if len(before) > _CONTEXT else ""
    size = min(end - start, 60) + _CONTEXT
    right = "…" if len(after) > size else ""
    piece = f"{left}{before[-_CONTEXT:]}{after[:size]}{right}"
    return ascii(piece) if not piece.isprintable() and not piece.isascii() else repr(piece)
