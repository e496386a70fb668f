"""The words of the page of `fettle check`: its first sentence, and what each kind of finding is.

In: counts, names of kinds. Out: text. Must not know: rows, HTML, how a fault is found.
"""

from collections.abc import Mapping

from fettle.report.words import VerdictStyle, plain

OUTCOMES: Mapping[str, VerdictStyle] = {
    "clean": VerdictStyle(
        "Clean", "✓", "good", "Nothing was found that would need a decision of yours."
    ),
    "warnings": VerdictStyle(
        "Warnings", "!", "warn", "Every row can be used; some of them deserve a look before."
    ),
    "quarantined": VerdictStyle(
        "Rows set aside",
        "!",
        "warn",
        "No error remains; some rows are in quarantine, with a reason, and can be brought back.",
    ),
    "blocked": VerdictStyle(
        "Errors remain",
        "✕",
        "bad",
        "Mend the rows, accept them with a reason (data.waivers), or choose what is done about "
        "their kind (data.policies).",
    ),
}
"""What the check came to → how it is shown."""

MEANINGS: Mapping[str, str] = {
    "malformed_row": "the record could not be read",
    "empty": "nothing is left to learn from",
    "template_refused": "the base's chat template refuses the conversation",
    "zero_weight": "nothing in the row counts in training",
    "role_order": "turns of a conversation in an order that can't be trained on as it stands",
    "encoding_error": "bytes or escapes that are no text",
    "mojibake": "text that was decoded with the wrong encoding",
    "control_characters": "characters that can't be seen and don't belong into a text",
    "html_or_url": "remains of web pages: tags, entities, addresses",
    "placeholder": "something stands where a value should be: N/A, lorem ipsum, {name}",
    "exact_duplicate": "the same input and the same answer as another row",
    "duplicate_prompt": "the same prompt as another row, with another answer",
    "duplicate_answer": "the same long answer as another row, to another prompt",
    "near_duplicate": "nearly the same text as another row on the same side",
    "similar_text": "much in common with another row; it may say the same",
    "same_template": "rows that differ in numbers, dates or names only",
    "split_leak": "the same input, or the same group, on two sides of the split",
    "split_leak_near": "nearly the same text on two sides of the split",
    "unused_holdout": "a sealed row of an earlier holdout, where another holdout was given",
    "label_conflict": "the same text, or nearly, with answers that contradict each other",
    "label_error_suspected": "a classifier that learned from the other rows expects another label",
    "label_variant": "a label that is another one in another spelling",
    "unknown_label": "a label of the holdout that no training row has",
    "personal_data": "e-mail addresses, phone and card numbers and the like; no names",
    "secret": "passwords, keys, tokens",
    "language_mismatch": "another language than nearly all other rows",
    "overlong": "more tokens than the base reads",
    "truncated": "a text that ends in the middle",
    "degenerate": "text that repeats itself, or is no text",
    "template_residue": "remains of a chat template or of a speaker's name inside a turn",
    "prompt_injection": "text that gives orders to a model that reads it",
    "swapped_fields": "input and answer seem to have changed places",
    "answer_in_prompt": "the answer already stands in the input",
    "imbalance": "labels with many rows beside labels with few",
    "holdout_too_small": "too few holdout rows to tell a usual difference",
    "unrepresentative": "training rows are unlike the rows that the model will meet",
    "time_order": "where the split by time lies, and rows for which it does not hold",
    "waiver_expired": "an accepted finding whose date is over counts again",
    "waiver_unused": "an accepted finding that is not there any more",
}
"""A kind of finding for someone who meets it for the first time."""

POLICY_WORDS: Mapping[str, str] = {
    "report": "told, rows kept",
    "fix": "mended or masked where it can be",
    "quarantine": "rows set aside",
    "error": "an error",
}

REASONS: Mapping[str, str] = {
    "hash": "drawn by the hash of its text",
    "group_hash": "drawn by the hash of its group",
    "cluster_hash": "drawn together with its near copies",
    "label_coverage": "moved so that every side has its label",
    "size_coverage": "moved so that the side is large enough",
    "time": "placed by its time, the latest rows in the holdout",
    "time_cluster": "placed by the earliest time of its group or near copies",
    "no_time": "trained on, since its time can't be read",
    "earlier_run": "where an earlier run or check had it",
    "eval_file": "in the file that was given as holdout",
    "split_column": "as the split column says",
}
"""Why a row is on its side, for the codes of splits.jsonl."""

_SIDES: Mapping[str, str] = {
    "train": "are for training",
    "validation": "for validation",
    "holdout": "in the holdout",
    "quarantine": "in quarantine",
}


def readable(code: str) -> str:
    """A kind or a reason as words: ``label_error_suspected`` → ``label error suspected``."""
    return plain(code).replace("_", " ")


def number_of(number: int, one: str, many: str = "") -> str:
    """A number with its noun: ``1 row``, ``2,310 rows``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(counts: Mapping[str, int]) -> str:
    """Counts in one line: ``3 errors, 1 note``; what there is none of is left out."""
    return ", ".join(number_of(number, name) for name, number in counts.items() if number)


def outcome_of(remaining: int, quarantined: int, warnings: int) -> str:
    """The outcome in one word: blocked, quarantined, warnings or clean.

    Args:
        remaining: errors that are neither waived nor gone; with --strict warnings too.
        quarantined: rows that were set aside.
        warnings: findings of severity warning that are not waived.
    """
    if remaining:
        return "blocked"
    if quarantined:
        return "quarantined"
    return "warnings" if warnings else "clean"


def summary(rows: int, counts: Mapping[str, int], findings: Mapping[str, int]) -> str:
    """The check in one sentence.

    Args:
        rows: input rows.
        counts: rows by side.
        findings: findings by severity that are not waived; severity as a noun.
    """
    sides = [f"{number:,} {_SIDES.get(side, side)}" for side, number in counts.items() if number]
    found = listed(findings) or "nothing"
    return f"Of {number_of(rows, 'input row')}, {', '.join(sides)}. Found: {found}."
