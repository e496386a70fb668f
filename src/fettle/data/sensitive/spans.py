"""Pieces of a text, and which of them stay where they overlap.

In: spans. Out: spans. Must not know: what is in them.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import NamedTuple


class Span(NamedTuple):
    """A piece of a text."""

    start: int
    end: int
    name: str
    """What it is: the word in the placeholder."""


def first_of_overlapping(found: Iterable[Span]) -> list[Span]:
    """Of spans that overlap, those that come first; the surer kinds are looked for first.

    Args:
        found: spans of at least one character, in order of preference.
    Returns:
        Those that stay, in the order of the text.
    """
    kept: list[Span] = []
    for span in found:
        if not kept or kept[-1].end <= span.start:  # as a rule they come in order
            kept.append(span)
            continue
        # Those that stay do not overlap, so that only the neighbours can be in the way.
        place = bisect_left(kept, span.start, key=lambda other: other.end - 1)
        if place == len(kept) or kept[place].start >= span.end:
            insort(kept, span)
    return kept
