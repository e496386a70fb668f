"""Order of turns in conversations that can be used, and turns without words.

In: examples. Out: findings. Must not know: templates.
"""

from collections.abc import Sequence
from itertools import pairwise

from fettle.records.rows import Example, Finding, Message


def find(examples: Sequence[Example]) -> list[Finding]:
    """role_order warnings for turns that do not alternate, empty errors for turns without words."""
    findings = []
    for example in examples:
        fault = _fault(example)
        if fault is not None:
            findings.append(
                example.finding(
                    "role_order",
                    "warning",
                    fault,
                    "check the conversation; some chat templates refuse it",
                )
            )
        blank = _blank(example.messages)
        if blank is not None:
            findings.append(
                example.finding("empty", "error", blank, "fill the turn in, or leave the row out")
            )
    return findings


def _fault(example: Example) -> str | None:
    turns = example.messages
    if len(turns) == 2 and turns[0].role == "user" and not turns[1].tool_calls:
        return None
    roles = [turn.role for turn in turns]
    if not roles:
        return None
    spoken = [role for role in roles if role not in ("system", "developer")]
    if any(role in ("system", "developer") for role in roles[1:]):
        return "a system turn stands inside the conversation"
    if spoken[0] == "assistant":
        return "the assistant speaks first"
    for number, (role, following) in enumerate(pairwise(spoken), start=1):
        if role == following and role in ("user", "assistant"):
            return f"turns {number} and {number + 1} are both from the {role}"
    return _tool_fault(turns)


def _tool_fault(turns: Sequence[Message]) -> str | None:
    """A result that no call asked for, or a call that no result follows."""
    open_calls: list[str | None] = []
    for number, turn in enumerate(turns, start=1):
        if turn.role == "tool":
            if not open_calls:
                return f"turn {number} is a tool's result that no call asked for"
            if turn.tool_call_id is None or None in open_calls:
                open_calls.pop()
            elif turn.tool_call_id in open_calls:
                open_calls.remove(turn.tool_call_id)
            else:
                return f"turn {number} is the result of a call that was not made"
            continue
        if open_calls and turn.role != "system":
            return f"the call before turn {number} has no result"
        open_calls = [_id_of(call.get("id")) for call in turn.tool_calls]
    return None


def _id_of(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _blank(turns: Sequence[Message]) -> str | None:
    for number, turn in enumerate(turns, start=1):
        if turn.role == "user" and not turn.content.strip():
            return f"turn {number} of the user is empty"
    return None
