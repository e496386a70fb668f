"""Order of turns in conversations that can be used.

In: examples. Out: findings. Must not know: templates.
"""

from collections.abc import Sequence
from itertools import pairwise

from fettle.records.rows import Example, Finding


def find(examples: Sequence[Example]) -> list[Finding]:
    """One role_order warning for each conversation whose turns do not alternate."""
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
    return findings


def _fault(example: Example) -> str | None:
    roles = [turn.role for turn in example.messages]
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
    return None
