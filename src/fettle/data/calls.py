"""The texts inside tool calls and tools: arguments, descriptions, values that are allowed.

In: messages, tools. Out: their texts, or copies with other ones. Must not know: what is sought.

Names, ids and types are no texts. Arguments are often JSON in a string: its own texts are what
counts, since in the string a line break before a word is two more letters.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fettle.records.rows import Example

ARGUMENTS = "arguments"
_NO_TEXTS = frozenset({"id", "type", "name"})
"""Keys of a call beside its arguments."""


def call_texts(example: Example) -> Iterator[tuple[str, str]]:
    """(place, text) for each text of the tool calls and the tools of a conversation."""
    for number, turn in enumerate(example.messages, start=1):
        for call in turn.tool_calls:
            yield from ((f"turn {number} (tool call)", text) for text in _texts(call, _NO_TEXTS))
    for tool in example.tools:
        yield from (("the tools", text) for text in _texts(tool))


def changed_call(call: Mapping[str, Any], change: Callable[[str], str]) -> Mapping[str, Any]:
    """A tool call whose arguments are changed, text by text."""
    return {
        key: value
        if key in _NO_TEXTS
        else changed_call(value, change)
        if isinstance(value, Mapping) and key != ARGUMENTS
        else changed_texts(value, change)
        for key, value in call.items()
    }


def changed_texts(value: Any, change: Callable[[str], str]) -> Any:
    """A value with every text in it changed, those of JSON in a text one by one."""
    if isinstance(value, str):
        inner = _parsed(value)
        if inner is None:
            return change(value)
        after = changed_texts(inner, change)
        return value if after == inner else json.dumps(after, ensure_ascii=False)
    if isinstance(value, list):
        return [changed_texts(item, change) for item in value]
    if isinstance(value, Mapping):
        return {key: changed_texts(item, change) for key, item in value.items()}
    return value


def _texts(value: Any, without: frozenset[str] = frozenset()) -> Iterator[str]:
    if isinstance(value, str):
        inner = _parsed(value)
        if inner is not None:
            yield from _texts(inner)
        elif value:
            yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if key not in without:
                yield from _texts(item, frozenset() if key == ARGUMENTS else without)


def _parsed(text: str) -> Any:
    """The object or list that a text holds as JSON; None where it holds none."""
    if text[:1] not in ("{", "["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None
