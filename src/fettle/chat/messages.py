"""Messages as a chat template sees them, with control tokens in users' texts marked.

In: records' Message values and tool schemas. Out: plain JSON data in which every control token that
a user's text spells stands between two marks, so that the renderer can tell it from the template's
own. Must not know: templates, token ids.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from fettle.errors import DataError
from fettle.records.rows import Message, Role

ROLES: tuple[str, ...] = get_args(Role)
_PRIVATE = re.compile("[\U000f0000-\U000ffffd]")


@dataclass(frozen=True, slots=True)
class Marks:
    """Four characters that occur in no text of the conversation."""

    text_start: str
    text_end: str
    generation_start: str
    generation_end: str

    @property
    def all(self) -> str:
        """The four, as one string."""
        return self.text_start + self.text_end + self.generation_start + self.generation_end


@dataclass(frozen=True, slots=True)
class Conversation:
    """What is handed to a template."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None
    marks: Marks
    weights: tuple[float, ...]
    """One for each message; 0 = never trained on."""

    @property
    def assistants(self) -> list[int]:
        """Positions of the assistant's turns."""
        return [i for i, message in enumerate(self.messages) if message["role"] == "assistant"]


def as_conversation(
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]],
    control: re.Pattern[str],
    special: re.Pattern[str],
    where: str = "",
) -> Conversation:
    """Check messages and turn them into template data with marks.

    Args:
        messages: the conversation; never empty.
        tools: JSON schemas of tools.
        control: finds the tokens that only a template may write.
        special: finds those that no answer may contain either. Tokens that are added but not
            special (<think>, <tool_call>) are what a model itself writes: they stay tokens in an
            assistant's turn, and are marked everywhere else.
        where: named in errors (a row id).

    Returns:
        The data.

    Raises:
        DataError: E0706, a message that can't be rendered.
    """
    if not messages:
        raise _invalid("a conversation without messages", where)
    plain = [_as_data(message, where) for message in messages]
    schemas = [dict(tool) for tool in tools]
    text = json.dumps([plain, schemas], ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise _invalid("half of a surrogate pair, which is no text", where) from None
    marks = _free_marks(text)
    marked = [
        {
            "role": message["role"],
            **_mark(
                {key: value for key, value in message.items() if key != "role"},
                special if message["role"] == "assistant" else control,
                marks,
            ),
        }
        for message in plain
    ]
    return Conversation(
        messages=marked,
        tools=_mark(schemas, control, marks) if schemas else None,
        marks=marks,
        weights=tuple(message.weight for message in messages),
    )


def _as_data(message: Message, where: str) -> dict[str, Any]:
    if message.role not in ROLES:
        raise _invalid(f"the role {message.role!r}", where, f"known roles are {', '.join(ROLES)}")
    if not isinstance(message.content, str):
        raise _invalid(f"a message whose content is a {type(message.content).__name__}", where)
    data = message.to_json()
    if "tool_calls" in data:
        data["tool_calls"] = [_with_arguments(call) for call in data["tool_calls"]]
    return data


def _with_arguments(call: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI writes a call's arguments as a JSON string; templates expect the object."""
    function = call.get("function")
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
        return dict(call)
    try:
        arguments = json.loads(function["arguments"])
    except (ValueError, RecursionError):
        return dict(call)
    if not isinstance(arguments, dict):
        return dict(call)
    return {**call, "function": {**function, "arguments": arguments}}


def _free_marks(text: str) -> Marks:
    used = set(_PRIVATE.findall(text))
    free = (chr(code) for code in range(0xF0000, 0xFFFFE) if chr(code) not in used)
    return Marks(next(free), next(free), next(free), next(free))


def _mark(value: Any, pattern: re.Pattern[str], marks: Marks) -> Any:
    if isinstance(value, str):
        return pattern.sub(lambda hit: f"{marks.text_start}{hit.group()}{marks.text_end}", value)
    if isinstance(value, Mapping):
        return {key: _mark(item, pattern, marks) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_mark(item, pattern, marks) for item in value]
    return value


def _invalid(what: str, where: str, why: str = "") -> DataError:
    return DataError(
        "E0706",
        f"a chat template can't be filled with {what}",
        where=where,
        why=why,
        hint="correct the row, or take it out of the file",
    )
