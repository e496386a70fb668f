"""Faults of examples, one file per family; each family is a function of the examples alone.

In: examples. Out: findings (kinds and severities: DESIGN section 5). Must not know: files, splits,
what is done about a finding. Faults that keep a row from becoming an example (malformed_row, empty,
role_order) and repairs (mojibake, control_characters, encoding_error) are found in ``normalize``,
where they occur; split_leak, split_leak_near and unknown_label in ``split``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
from fettle.data.check.screen import Screen
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
    sides = fields.sides_of(examples)
    seen = map_chunks(look, examples, sides, workers)
    return [
        *duplicates.find(examples, keys, given_holdout),
        *conflicts.find(examples, keys, links),
        *labels.find(examples),
        *label_errors.find(examples, keys, clusters),
        *[finding for _, chunk in seen for finding in chunk.findings],
        *placeholder.find(examples, [one for _, chunk in seen for one in chunk.placeholders]),
        *degenerate.find(examples, [one for _, chunk in seen for one in chunk.answers]),
        *fields.find(examples, sides, [(start, chunk.fields) for start, chunk in seen]),
        *language.find(examples, [one for _, chunk in seen for one in chunk.languages]),
    ]


@dataclass(frozen=True, slots=True)
class Seen:
    """What the rows of a chunk show by themselves."""

    findings: list[Finding]
    placeholders: list[placeholder.Seen]
    answers: list[degenerate.Seen]
    fields: fields.Seen
    languages: list[tuple[language.Guess, language.Guess]]


def look(examples: Sequence[Example], sides: fields.Sides | None, start: int) -> Seen:
    """All that the checks of single rows see in a chunk.

    Args:
        examples: the rows of the chunk.
        sides: what prompts and answers of the whole set look like.
        start: the place of the first row in the set.
    """
    screen = Screen(examples)
    return Seen(
        [
            *markup.find(examples, screen),
            *conversations.find(examples),
            *encoding.find(examples, screen),
            *personal_data.find(examples, screen),
            *secrets.find(examples, screen),
            *prompt_injection.find(examples, screen),
            *template_residue.find(examples, screen=screen),
        ],
        placeholder.rows(examples, screen),
        degenerate.rows(examples, screen),
        fields.look(examples, sides, start),
        language.rows(examples),
    )
