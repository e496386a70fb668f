"""Exact duplicates: of a whole row, of its prompt alone, of its answer alone.

In: examples and their input keys. Out: findings. Must not know: what is done about them.

Two texts are the same when they differ only in case, width and spaces. Prompts and answers are
looked at in conversations only: a label is the same in many rows, and so is a short answer.
"""

from collections.abc import Sequence

from fettle.data.deduplicate import find_copies, find_repeats, normal_text
from fettle.records.rows import Example, Finding

MIN_ANSWER_WORDS = 8
"""Shorter answers repeat by chance."""


def find(examples: Sequence[Example], keys: Sequence[str], given_holdout: bool) -> list[Finding]:
    """Findings of the three kinds, each for every row beyond the first.

    exact_duplicate: same input and target. duplicate_prompt: same input, another answer.
    duplicate_answer: same answer to another input, of eight words or more.
    """
    copies = find_copies(examples, keys)
    by_id = {example.row_id: example for example in examples}
    remedy = (
        "kept: no row is taken out of a holdout that was given"
        if given_holdout
        else "the copy went to quarantine, one is kept"
    )
    findings = []
    for row_id, kept in copies.items():
        evidence = f"same input and target as {_place(by_id[kept])}"
        findings.append(by_id[row_id].finding("exact_duplicate", "note", evidence, remedy, (kept,)))
    chats = [
        (example, key)
        for example, key in zip(examples, keys, strict=True)
        if example.text is None and example.row_id not in copies
    ]
    rows = [example for example, _ in chats]
    for row_id, first in find_repeats(rows, [key for _, key in chats]).items():
        evidence = f"same prompt as {_place(by_id[first])}, with another answer"
        findings.append(
            by_id[row_id].finding(
                "duplicate_prompt",
                "note",
                evidence,
                "kept, on the same side of the split",
                (first,),
            )
        )
    long = [row for row in rows if len((row.target or "").split()) >= MIN_ANSWER_WORDS]
    for row_id, first in find_repeats(long, [normal_text(x.target or "") for x in long]).items():
        evidence = f"same answer as {_place(by_id[first])}, to another prompt"
        findings.append(
            by_id[row_id].finding(
                "duplicate_answer", "note", evidence, "kept; see whether it is meant", (first,)
            )
        )
    return findings


def _place(example: Example) -> str:
    return f"{example.source}:{example.line}" if example.line else f"record {example.record}"
