"""Rendered conversations with the trained part marked, for a person to look at before training.

In: examples, a template. Out: text for a terminal, with [[ ]] around what is trained, or
in colour as rich markup. Must not know: how templates render, how the terminal prints.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final

from fettle.chat.render import ChatTemplate, Rendered, Turns
from fettle.records.rows import Example

MAX_SHOWN: Final = 1_200
"""Characters of one part that are shown; the middle of a longer part is left out."""
_BRACKET = re.compile(r"(\\*)\[([a-z#/@][^[]*?\])?")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def preview_chat(
    examples: Sequence[Example],
    template: ChatTemplate,
    count: int = 3,
    markup: bool = False,
    turns: Turns = "all",
    redact: Callable[[str], str] = str,
) -> str:
    """The first examples as the model sees them.

    Args:
        examples: rows with ``messages``.
        template: renders them.
        count: how many to show.
        markup: rich markup (trained text in bold green) instead of plain text.
        turns: which answers are trained; see ChatTemplate.render_training.
        redact: takes out what may not be shown; called with whole parts, before any is shortened.

    Returns:
        Text of several lines, safe to print: control characters are spelled out.

    Raises:
        DataError, UsageError: see ChatTemplate.render_training.
    """
    shown = []
    for number, example in enumerate(examples[:count], start=1):
        place = example.line if example.line is not None else f"record {example.record}"
        where = f"{example.source}:{place}"
        rendered = template.render_training(
            example.messages, example.tools, where=f"{where}, row {example.row_id}", turns=turns
        )
        counts = (
            f"{sum(weight > 0 for weight in rendered.mask)} of {len(rendered.ids)} tokens trained"
        )
        title = _escape(f"example {number}, {where}: {counts}", markup)
        shown.append(f"{title}\n{mark_trained(rendered, markup, redact)}")
    return "\n\n".join(shown)


def mark_trained(
    rendered: Rendered, markup: bool = False, redact: Callable[[str], str] = str
) -> str:
    """One conversation's text with the trained part marked.

    Args:
        rendered: from ChatTemplate.render_training.
        markup: rich markup instead of [[ and ]].
        redact: takes out what may not be shown; half of an address would not be known as one.
    """

    def part(text: str) -> str:
        return _escape(_shorten(redact(text)), markup)

    before, after = ("[bold green]", "[/bold green]") if markup else ("[[", "]]")
    parts: list[str] = []
    done = 0
    for start, end in rendered.spans:
        parts.append(part(rendered.text[done:start]))
        parts.append(before + part(rendered.text[start:end]) + after)
        done = end
    parts.append(part(rendered.text[done:].rstrip()))
    return "".join(parts)


def _shorten(text: str) -> str:
    if len(text) <= MAX_SHOWN:
        return text
    half = MAX_SHOWN // 2
    return f"{text[:half]} … ({len(text) - 2 * half:,} characters) … {text[-half:]}"


def _escape(text: str, markup: bool) -> str:
    # A row may hold terminal escape sequences.
    safe = _CONTROL.sub(lambda hit: f"\\x{ord(hit.group()):02x}", text)
    return _escape_markup(safe) if markup else safe


def _escape_markup(text: str) -> str:
    # rich.markup.escape loses a backslash before a bracket that opens no tag.
    escaped = _BRACKET.sub(_escape_bracket, text)
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return escaped + "\\" * trailing


def _escape_bracket(hit: re.Match[str]) -> str:
    slashes, tag = hit[1], hit[2]
    if tag:
        return 2 * slashes + "\\[" + tag
    return slashes + slashes[:1] + "["
