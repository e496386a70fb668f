"""Rendered text with the marks taken out, and what they said kept as character ranges.

In: a template's output, with the marks that ``messages`` and {% generation %} put there. Out: clean
text, the regions that a user wrote and that must stay text, the regions that the assistant wrote.
Must not know: templates, token ids.
"""

import re
from dataclasses import dataclass

from fettle.chat.messages import Marks
from fettle.chat.pieces import Region


@dataclass(frozen=True, slots=True)
class MarkedText:
    """One rendering, with the marks taken out."""

    text: str
    plain: tuple[Region, ...]
    """What users wrote that looks like a control token."""
    generated: tuple[Region, ...]
    """What stood between {% generation %} tags."""

    def begins_with(self, other: "MarkedText") -> bool:
        """Whether ``other`` is the beginning of this rendering, in text and in meaning."""
        size = len(other.text)
        return (
            self.text.startswith(other.text)
            and tuple(region for region in self.plain if region[0] < size) == other.plain
        )


def take_out(marked: str, marks: Marks, control: re.Pattern[str]) -> MarkedText:
    """Remove the marks and keep where they were.

    A pair around a control token makes it plain. A mark that a template's string methods parted
    from its partner still guards the control token next to it, and leaves an empty region: the text
    on either side of it never joins into a control token.
    """
    left, right = marks.text_start, marks.text_end
    pattern = f"{left}(?:{control.pattern}){right}|[{marks.all}]"
    ends_in_control = re.compile(f"(?:{control.pattern})\\Z")
    parts: list[str] = []
    plain: list[Region] = []
    generated: list[Region] = []
    opened: int | None = None
    size = done = 0
    for hit in re.finditer(pattern, marked):
        before, mark = marked[done : hit.start()], hit.group()
        parts.append(before)
        size += len(before)
        done = hit.end()
        if mark == marks.generation_start:
            opened = size
        elif mark == marks.generation_end:
            if opened is not None and opened < size:
                generated.append((opened, size))
            opened = None
        elif mark == left:
            guarded = control.match(marked, done)
            token = guarded.group() if guarded else ""
            parts.append(token)
            plain.append((size, size + len(token)))
            size += len(token)
            done += len(token)
        elif mark == right:
            tail = ends_in_control.search(before)
            plain.append((size - len(tail.group()) if tail else size, size))
        else:
            token = mark[1:-1]
            parts.append(token)
            plain.append((size, size + len(token)))
            size += len(token)
    parts.append(marked[done:])
    return MarkedText("".join(parts), tuple(plain), tuple(generated))
