"""Faults of examples, one file per family; each family is a function of the examples alone.

In: examples. Out: findings (kinds and severities: DESIGN section 5). Must not know: files, splits,
what is done about a finding. Faults that keep a row from becoming an example (malformed_row, empty,
role_order) and repairs (mojibake, control_characters, encoding_error) are found in ``normalize``,
where they occur; split_leak, split_leak_near and unknown_label in ``split``.
"""

from collections.abc import Sequence

from fettle.data.check import (
    conflicts,
    conversations,
    degenerate,
    duplicates,
    encoding,
    fields,
    label_errors,
    labels,
    language,
    markup,
    personal_data,
    placeholder,
    prompt_injection,
    secrets,
    template_residue,
)
from fettle.data.near import Clusters
from fettle.data.workers import map_chunks
from fettle.records.rows import Example, Finding


def check(
    examples: Sequence[Example],
    keys: Sequence[str],
    given_holdout: bool = False,
    near: Clusters | None = None,
    workers: int = 1,
) -> list[Finding]:
    """All findings about these examples.

    Args:
        examples: examples of one pool.
        keys: their input keys (``deduplicate.input_key``), in the same order.
        given_holdout: they are a holdout that the user gave, of which no row is ever taken out.
        near: clusters of their inputs; None = none are known.
        workers: processes for the checks of single rows; the result is the same.
    Returns:
        Findings, family by family.
    """
    links = [] if near is None else [(x.left, x.right, x.similarity) for x in near.links]
    clusters = None if near is None else near.cluster_of
    return [
        *duplicates.find(examples, keys, given_holdout),
        *conflicts.find(examples, keys, links),
        *labels.find(examples),
        *label_errors.find(examples, keys, clusters),
        *map_chunks(single_rows, examples, workers),
        *placeholder.find(examples, map_chunks(placeholder.rows, examples, workers)),
        *degenerate.find(examples, map_chunks(degenerate.rows, examples, workers)),
        *fields.find(examples),
        *language.find(examples, map_chunks(language.rows, examples, workers)),
    ]


def single_rows(examples: Sequence[Example]) -> list[Finding]:
    """Findings of the checks that look at each row by itself."""
    return [
        *markup.find(examples),
        *conversations.find(examples),
        *encoding.find(examples),
        *personal_data.find(examples),
        *secrets.find(examples),
        *prompt_injection.find(examples),
        *template_residue.find(examples),
    ]
