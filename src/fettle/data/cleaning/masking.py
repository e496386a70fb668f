"""Masks in the rows themselves, where the recipe asks for them (policy fix for personal data).

In: examples and policies. Out: examples with placeholders, what was masked in which row, findings.
Must not know: what counts as personal data, files.

The text before stays out of every file but the quarantine and the patch of a cleaned copy: a masked
row loses the tags that held its text before a repair.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from fettle.data.calls import changed_call, changed_texts
from fettle.data.cleaning.clean import repair
from fettle.data.meaning.normalize import BEFORE, answer_text, fixed_kinds
from fettle.data.sensitive import WORDS, mask
from fettle.recipe.policies import Policy, policy_of
from fettle.records.rows import Example, Finding

TEXT_ROLES = frozenset({"text", "prompt", "completion", "context", "messages", "system", "tools"})
"""Roles of columns whose texts are repaired and masked."""
_REMEDY = "masked for training and judging; the original comes back with `fettle restore`"


def mask_examples(
    examples: Sequence[Example], policies: Mapping[str, Policy]
) -> tuple[list[Example], list[Finding], dict[str, tuple[str, ...]]]:
    """Examples whose texts hold no personal data or no secrets, as the policies say.

    Args:
        examples: examples.
        policies: fix for personal_data, for secret, or for both.
    Returns:
        The examples in their order, a note for each row and kind, and row_id -> kinds.
    """
    personal, secrets = _wanted(policies)
    if not (personal or secrets):
        return list(examples), [], {}
    out: list[Example] = []
    findings: list[Finding] = []
    masked: dict[str, tuple[str, ...]] = {}
    for example in examples:
        changed, counts = _masked(example, personal, secrets)
        out.append(changed)
        if not counts:
            continue
        kinds = sorted({_kind(name) for name in counts})
        masked[example.row_id] = tuple(kinds)
        for kind in kinds:
            shown = ", ".join(
                f"{number} {WORDS.get(name, name.lower())}"
                for name, number in sorted(counts.items())
                if _kind(name) == kind
            )
            findings.append(changed.finding(kind, "note", shown, _REMEDY))
    return out, findings, masked


def masker_for(policies: Mapping[str, Policy], unescape: bool) -> Callable[[str], str]:
    """What a masked row's texts become, repairs first.

    Args:
        policies: of the recipe.
        unescape: whether literal escapes and HTML entities are decoded (texts to classify).
    """
    personal, secrets = _wanted(policies)
    kinds = fixed_kinds(policies)

    def change(text: str) -> str:
        return mask(repair(text, unescape, kinds)[0], personal, secrets)[0]

    return change


def _wanted(policies: Mapping[str, Policy]) -> tuple[bool, bool]:
    return policy_of("personal_data", policies) == "fix", policy_of("secret", policies) == "fix"


def _kind(name: str) -> str:
    return "secret" if name == "SECRET" else "personal_data"


def _masked(example: Example, personal: bool, secrets: bool) -> tuple[Example, Counter[str]]:
    counts: Counter[str] = Counter()

    def hide(text: str) -> str:
        after, spans = mask(text, personal, secrets)
        counts.update(span.name for span in spans)
        return after

    if example.text is not None:
        changed = replace(example, text=hide(example.text))
    else:
        turns = tuple(
            replace(
                turn,
                content=hide(turn.content),
                tool_calls=tuple(changed_call(call, hide) for call in turn.tool_calls),
            )
            for turn in example.messages
        )
        tools = tuple(changed_texts(tool, hide) for tool in example.tools)
        changed = replace(example, messages=turns, tools=tools)
        if turns:
            changed = replace(changed, target=answer_text(turns[-1]))
    if not counts:
        return example, counts
    tags = {name: value for name, value in example.tags.items() if not name.startswith(BEFORE)}
    return replace(changed, tags=tags), counts
