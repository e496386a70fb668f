"""Short texts that stand whole in another one: cut off, or wrapped in a few words more.

In: the words of texts. Out: every pair of which the shorter one, of 5 to 9 words, is a run of the
longer one's words. Must not know: texts, labels.

So few words are no evidence of a copy by themselves ("how do I get my card" / "... to work"): what
is found here counts only where more agrees. Texts of ten words and more are found by their runs of
eight.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fettle.data.near.tokens import MULTIPLIER, Flat, Ints

SIZES = range(5, 10)
"""Words of the shorter text."""
SHARES = {5: 0.6}
"""Least share of the longer text's words that the shorter one has; for other sizes ``SHARE``."""
SHARE = 0.2
MOST = 100
"""A text that stands in more others than this is a phrase."""


@dataclass(frozen=True, slots=True)
class Inside:
    """Pairs of rows."""

    shorter: Ints
    longer: Ints


def standing_inside(words: Flat) -> Inside:
    """All pairs of rows of which one's words are a run of the other's.

    Args:
        words: hashed words of each row, in their order.
    """
    counts = words.counts
    row_of = np.repeat(np.arange(len(counts)), counts)
    room = np.repeat(words.offsets[1:], counts) - np.arange(len(words.values))
    values = words.values.copy()
    none = np.zeros(0, np.int64)
    shorter, longer = [none], [none]
    for size in range(2, SIZES.stop):
        # The hash of the run of so many words that starts here; it may reach into the next row.
        values = values[:-1] * np.uint64(MULTIPLIER) + words.values[size - 1 :]
        if size not in SIZES or not len(values):
            continue
        least = SHARES.get(size, SHARE)
        rows = np.flatnonzero(counts == size)
        whole = values[words.offsets[rows]]
        order = np.argsort(whole, kind="stable")
        rows, whole = rows[order], whole[order]
        inner = room[: len(values)] >= size
        long = counts[row_of[: len(values)]]
        places = np.flatnonzero(inner & (long > size) & (size >= least * long))
        first = np.searchsorted(whole, values[places], "left")
        number = np.searchsorted(whole, values[places], "right") - first
        hit = np.repeat(places, number)
        step = np.arange(len(hit)) - np.repeat(np.cumsum(number) - number, number)
        short = rows[np.repeat(first, number) + step]
        pairs = np.unique(np.stack([short, row_of[hit]], axis=1), axis=0)
        often = np.bincount(pairs[:, 0], minlength=len(counts))[pairs[:, 0]] > MOST
        shorter.append(pairs[~often, 0])
        longer.append(pairs[~often, 1])
    return Inside(np.concatenate(shorter), np.concatenate(longer))


def brief_rows(counts: Ints) -> NDArray[np.bool_]:
    """[N] rows that may be one of such a pair."""
    return (counts >= SIZES.start) & (counts <= SIZES[-1] / SHARE)
