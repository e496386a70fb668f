"""Exact duplicates: the same input with the same target.

In: examples and their input keys. Out: findings. Must not know: what is done about them.
"""

from collections.abc import Sequence

from fettle.data.deduplicate import find_copies
from fettle.records.rows import Example, Finding


def find(examples: Sequence[Example], keys: Sequence[str], given_holdout: bool) -> list[Finding]:
    """One exact_duplicate finding for every copy beyond the one that stays."""
    copies = find_copies(examples, keys)
    by_id = {example.row_id: example for example in examples}
    remedy = (
        "kept: no row is taken out of a holdout that was given"
        if given_holdout
        else "the copy went to quarantine, one is kept"
    )
    findings = []
    for row_id, kept in copies.items():
        example, other = by_id[row_id], by_id[kept]
        place = f"{other.source}:{other.line}" if other.line else f"record {other.record}"
        findings.append(
            example.finding(
                "exact_duplicate",
                "note",
                f"same input and target as {place}",
                remedy,
                (kept,),
            )
        )
    return findings
