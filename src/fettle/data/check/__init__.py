"""Faults of examples, one file per family; each family is a function of the examples alone.

In: examples. Out: findings (kinds and severities: DESIGN section 5). Must not know: files, splits,
what is done about a finding. Faults that keep a row from becoming an example (malformed_row, empty,
role_order) and repairs (mojibake, control_characters, encoding_error) are found in ``normalize``,
where they occur; split_leak and unknown_label in ``split``.
"""

from collections.abc import Sequence

from fettle.data.check import conversations, duplicates, labels, markup
from fettle.records.rows import Example, Finding


def check(
    examples: Sequence[Example], keys: Sequence[str], given_holdout: bool = False
) -> list[Finding]:
    """All findings about these examples.

    Args:
        examples: examples of one pool.
        keys: their input keys (``deduplicate.input_key``), in the same order.
        given_holdout: they are a holdout that the user gave, of which no row is ever taken out.
    Returns:
        Findings, family by family.
    """
    return [
        *duplicates.find(examples, keys, given_holdout),
        *labels.find(examples, keys),
        *markup.find(examples),
        *conversations.find(examples),
    ]
