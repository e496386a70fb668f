"""What may be done about each kind of finding, and what is done unless the recipe says otherwise.

In: nothing. Out: ``POLICIES``, the one table of kinds. Must not know: rows, files, how a fault is
found.

    report      the finding alone; the row stays as it is
    fix         the text is changed; the value before is kept and comes back with `fettle restore`
    quarantine  the row is set aside; a row of a holdout that was given never is, it goes to a list
                for a person (holdout_review.jsonl)
    error       the finding is an error: check exits 3, run stops
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Policy = Literal["report", "fix", "quarantine", "error"]


@dataclass(frozen=True, slots=True)
class KindPolicy:
    """What holds for one kind of finding."""

    default: Policy
    allowed: tuple[Policy, ...]
    fix: str = ""
    """What fix does to the text."""
    refused: Mapping[Policy, str] = field(default_factory=dict)
    """Why a policy that is not allowed can't be."""


_NO_FIX: Mapping[Policy, str] = {"fix": "There is no change of the text that would mend it"}
_WHOLE: Mapping[Policy, str] = {
    "fix": "It is about all rows; no text can be mended",
    "quarantine": "It is about all rows; there is no row to set aside",
}
_UNUSABLE: Mapping[Policy, str] = {
    "fix": "What is missing in the row can't be known",
    "report": "Such a row can't be trained on or judged, so it can't stay",
}


def _suspected(default: Policy = "report", why: str = "") -> KindPolicy:
    """A doubt about a row: told, or the row set aside, or an error."""
    refused: Mapping[Policy, str] = {"fix": why} if why else _NO_FIX
    return KindPolicy(default, ("report", "quarantine", "error"), refused=refused)


def _repaired(fix: str) -> KindPolicy:
    return KindPolicy("fix", ("report", "fix", "quarantine", "error"), fix)


def _whole() -> KindPolicy:
    return KindPolicy("report", ("report", "error"), refused=_WHOLE)


def _unusable(report: str = _UNUSABLE["report"]) -> KindPolicy:
    refused: Mapping[Policy, str] = {**_UNUSABLE, "report": report}
    return KindPolicy("quarantine", ("quarantine", "error"), refused=refused)


_MASKED = "the places that were found are replaced by their kind in brackets, such as [EMAIL]"
_LABEL = "The right label is not known; a guess would be trained on as if it were true"

POLICIES: Mapping[str, KindPolicy] = {
    "malformed_row": _unusable(),
    "empty": _unusable(),
    "template_refused": _unusable("The base's template can't render it"),
    "zero_weight": _unusable("Its label has the weight 0"),
    # Unusable conversations go to quarantine whatever is said here; these are odd ones.
    "role_order": _suspected(),
    "encoding_error": _repaired(
        "literal \\uXXXX escapes are decoded, half surrogates become U+FFFD"
    ),
    "mojibake": _repaired("the text is decoded as it was meant"),
    "control_characters": _repaired("they are taken out"),
    "html_or_url": _repaired("HTML entities in a text to classify are decoded; addresses stay"),
    "placeholder": _suspected(),
    "exact_duplicate": _suspected("quarantine"),
    "duplicate_prompt": _suspected(),
    "duplicate_answer": _suspected(),
    "near_duplicate": _suspected(),
    "similar_text": _suspected(),
    "same_template": _whole(),
    "split_leak": _unusable("The model would be judged on rows that it was trained on"),
    "split_leak_near": _suspected(),
    "unused_holdout": _unusable("It was sealed to judge with, and another holdout was given"),
    "label_conflict": _suspected(why=_LABEL),
    "label_error_suspected": _suspected(why=_LABEL),
    "label_variant": _suspected(why="Two spellings may be two classes; write one of them yourself"),
    "unknown_label": KindPolicy(
        "report",
        ("report", "error"),
        refused={
            "fix": _LABEL,
            "quarantine": "Such rows judge the model; without them the holdout would shrink",
        },
    ),
    "personal_data": KindPolicy("report", ("report", "fix", "quarantine", "error"), _MASKED),
    "secret": KindPolicy("report", ("report", "fix", "quarantine", "error"), _MASKED),
    "language_mismatch": _suspected(),
    "overlong": KindPolicy(
        "report",
        ("report", "error"),
        refused=dict.fromkeys(("fix", "quarantine"), "train.overlong decides about such rows"),
    ),
    "truncated": _suspected(),
    "degenerate": _suspected(),
    "template_residue": _suspected(),
    "prompt_injection": _suspected(),
    "swapped_fields": _suspected(),
    "answer_in_prompt": _suspected(),
    "imbalance": _whole(),
    "holdout_too_small": _whole(),
    "unrepresentative": _whole(),
    "time_order": _whole(),
    "waiver_expired": _whole(),
    "waiver_unused": _whole(),
}
"""Kind of finding -> what holds for it."""


def policy_of(kind: str, chosen: Mapping[str, Policy]) -> Policy:
    """What is done about a kind: the recipe's word, else the default; an unknown kind is told."""
    known = POLICIES.get(kind)
    return chosen.get(kind) or (known.default if known is not None else "report")
