"""One record's conversation, in any of the usual spellings -> messages.

In: a value of a raw field. Out: ``Message`` values, or why there are none. Must not know: files,
templates.

Understood: OpenAI ``messages`` (role, content as text or list of text parts, name, tool_calls,
function_call, tool_call_id, weight), ShareGPT (from, value), and turns with speaker, author or
sender and text, utterance or message.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from fettle.records.rows import Message, Role

ROLE_KEYS = ("role", "from", "speaker", "author", "sender")
CONTENT_KEYS = ("content", "value", "text", "utterance", "message")
_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "human": "user",
    "customer": "user",
    "client": "user",
    "caller": "user",
    "patient": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "agent": "assistant",
    "ai": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "tool_response": "tool",
    "function_response": "tool",
    "observation": "tool",
    "ipython": "tool",
}


MAX_WEIGHT = 1_000_000
"""Most that one turn may count; more would leave nothing of the other rows of a step."""


class ConversationError(ValueError):
    """Why a value is no conversation; becomes the reason of a quarantined row."""


class EmptyTurnError(ConversationError):
    """A turn to learn from has no words."""


def find_turns(value: Any) -> list[Mapping[str, Any]] | None:
    """The turns in a value (a list of objects, or that list as JSON text); None if it has none."""
    if isinstance(value, str):
        if not value.startswith("[{"):
            return None
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if not isinstance(value, list) or not value or not all(isinstance(v, dict) for v in value):
        return None
    turns = cast("list[Mapping[str, Any]]", value)
    return turns if all(_key(turn, ROLE_KEYS) for turn in turns) else None


def turn_keys(turn: Mapping[str, Any]) -> list[str]:
    """The names under which a turn has its speaker and its words."""
    return [key for key in (_key(turn, ROLE_KEYS), _key(turn, CONTENT_KEYS)) if key is not None]


def role_of(turn: Mapping[str, Any]) -> Role | None:
    """Who speaks, in our words; None for a speaker that is not known."""
    return _ROLES.get(_speaker(turn))


def parse_messages(value: Any, roles: Mapping[str, str]) -> tuple[Message, ...]:
    """A conversation from a field's value.

    Args:
        value: list of turns, or such a list as JSON text.
        roles: readings that differ from the usual ones, role to role.
    Raises:
        ConversationError: with the turn and the reason.
    """
    turns = find_turns(value)
    if turns is None:
        raise ConversationError("no list of turns with a speaker each")
    return tuple(_message(turn, number, roles) for number, turn in enumerate(turns, start=1))


def parse_tools(value: Any) -> tuple[Mapping[str, Any], ...]:
    """Tool descriptions, as OpenAI has them; bare functions are wrapped."""
    if isinstance(value, str):
        if not value.strip():
            return ()
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ConversationError(f"tools are not JSON: {error}") from error
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise ConversationError("tools are not a list of objects")
    return tuple(
        tool if "function" in tool or "type" in tool else {"type": "function", "function": tool}
        for tool in value
    )


def _message(turn: Mapping[str, Any], number: int, roles: Mapping[str, str]) -> Message:
    role = role_of(turn)
    if role is None:
        raise ConversationError(f"turn {number} has the unknown speaker '{_speaker(turn)[:40]}'")
    role = cast(Role, roles.get(role, role))
    calls = _tool_calls(turn, number)
    content = _content(turn, number)
    if not content and not calls and role == "assistant" and turn.get("weight", 1) != 0:
        raise EmptyTurnError(f"turn {number} of the assistant is empty")
    name = turn.get("name")
    call_id = turn.get("tool_call_id")
    return Message(
        role=role,
        content=content,
        name=name if isinstance(name, str) and name else None,
        tool_calls=calls,
        tool_call_id=call_id if isinstance(call_id, str) and call_id else None,
        weight=_weight(turn, number),
    )


def _content(turn: Mapping[str, Any], number: int) -> str:
    key = _key(turn, CONTENT_KEYS)
    value = turn.get(key) if key is not None else None
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(_part(part, number) for part in value)
    raise ConversationError(f"turn {number} has content that is not text")


def _part(part: Any, number: int) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and isinstance(part.get("text"), str):
        return cast(str, part["text"])
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    raise ConversationError(f"turn {number} has a part '{kind}' that is not text")


def _tool_calls(turn: Mapping[str, Any], number: int) -> tuple[Mapping[str, Any], ...]:
    calls = turn.get("tool_calls")
    if calls:
        if not isinstance(calls, Sequence) or not all(isinstance(call, dict) for call in calls):
            raise ConversationError(f"turn {number} has tool_calls that are not a list of objects")
        return tuple(calls)
    call = turn.get("function_call")
    if isinstance(call, dict):
        return ({"type": "function", "function": call},)
    return ()


def _weight(turn: Mapping[str, Any], number: int) -> float:
    weight = turn.get("weight")
    if weight is None:
        return 1.0
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise ConversationError(f"turn {number} has the weight {weight!r}, which is no number")
    if not 0 <= weight <= MAX_WEIGHT:
        raise ConversationError(
            f"turn {number} has the weight {weight!r}; it must be 0 to {MAX_WEIGHT:,}"
        )
    return float(weight)


def _speaker(turn: Mapping[str, Any]) -> str:
    key = _key(turn, ROLE_KEYS)
    return str(turn[key]).strip().lower() if key is not None else ""


def _key(turn: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    return next((key for key in keys if key in turn), None)
