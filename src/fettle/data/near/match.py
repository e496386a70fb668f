"""Rows that share keys -> pairs worth a closer look.

In: (key, row) entries. Out: pairs of rows with how many keys they share. Must not know: texts.

Everything is a function of the set of entries: rows are numbered by their content, so that neither
the order of a file nor the number of workers plays a part.
"""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]

_ALL_PAIRS = 16
"""Up to this many rows that share a key are paired each with each."""
_NEIGHBOURS = 8
"""In larger groups each row is paired with so many that follow, in a circle, and with so many of
the other side: the work stays linear, and a family of copies is still connected."""


def pairs_of(keys: NDArray[np.uint32], rows: Ints, other: NDArray[np.bool_]) -> Hashes:
    """Pairs of rows that share a key, smaller row in the upper 32 bits; one for each shared key.

    Args:
        keys: [E].
        rows: [E] below 2^32; a row may hold a key several times.
        other: [N] whether a row belongs to the other side; pairs across sides are looked for apart.
    """
    entries = _distinct((keys.astype(np.uint64) << np.uint64(32)) | rows.astype(np.uint64))
    key = (entries >> np.uint64(32)).astype(np.uint32)
    row = (entries & np.uint64(0xFFFFFFFF)).astype(np.int64)
    first, size = _groups(key)
    shared = np.flatnonzero(size > 1)
    first, size = first[shared], size[shared]
    # Where one side is small, its rows would hardly meet the other in a large group.
    both = [_within(row, first, size)]
    if other.any():
        both.append(_across(row, other, first, size))
    return np.concatenate(both)


def counted(pairs: Hashes, at_least: int) -> Hashes:
    """The pairs that come up so many times, each once, sorted."""
    pairs = np.sort(pairs)
    if not len(pairs):
        return pairs
    first = np.flatnonzero(np.concatenate([[True], pairs[1:] != pairs[:-1]]))
    counts = np.diff(np.concatenate([first, [len(pairs)]]))
    return pairs[first[counts >= at_least]]


def unpacked(pairs: Hashes) -> tuple[Ints, Ints]:
    """The smaller and the larger row of each pair."""
    return (
        (pairs >> np.uint64(32)).astype(np.int64),
        (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64),
    )


def packed(left: Ints, right: Ints) -> Hashes:
    """Pairs as ``pairs_of`` gives them."""
    low, high = np.minimum(left, right), np.maximum(left, right)
    return (low.astype(np.uint64) << np.uint64(32)) | high.astype(np.uint64)


def _distinct(values: Hashes) -> Hashes:
    # Sorting integers is several times as fast as the hash table of np.unique.
    values.sort()
    return values[np.concatenate([[True], values[1:] != values[:-1]])] if len(values) else values


def _groups(sorted_keys: NDArray[np.uint32]) -> tuple[Ints, Ints]:
    """Where each run of equal keys starts, and its length."""
    if not len(sorted_keys):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    new = np.flatnonzero(sorted_keys[1:] != sorted_keys[:-1]) + 1
    first = np.concatenate([[0], new])
    return first, np.diff(np.concatenate([first, [len(sorted_keys)]]))


def _within(row: Ints, first: Ints, size: Ints) -> Hashes:
    found = [np.zeros(0, np.uint64)]
    for step in range(1, _ALL_PAIRS):
        fit = (size > step) & ((size <= _ALL_PAIRS) | (step <= _NEIGHBOURS))
        starts, sizes = first[fit], size[fit]
        place = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        begin, length = np.repeat(starts, sizes), np.repeat(sizes, sizes)
        to = place + step
        circle = length > _ALL_PAIRS
        used = circle | (to < length)
        place, begin, length, to = place[used], begin[used], length[used], to[used]
        found.append(packed(row[begin + place], row[begin + to % length]))
    return np.concatenate(found)


def _across(row: Ints, other: NDArray[np.bool_], first: Ints, size: Ints) -> Hashes:
    large = size > _ALL_PAIRS
    first, size = first[large], size[large]
    group = np.repeat(np.arange(len(first)), size)
    place = np.arange(int(size.sum())) - np.repeat(np.cumsum(size) - size, size)
    rows = row[np.repeat(first, size) + place]
    theirs = other[rows]
    found = [np.zeros(0, np.uint64)]
    mine = np.flatnonzero(~theirs)
    counts = np.bincount(group[mine], minlength=len(first))
    begins = np.cumsum(counts) - counts
    asked = np.flatnonzero(theirs)
    asked = asked[counts[group[asked]] > 0]
    for step in range(_NEIGHBOURS):
        # The rows of a group are sorted: where the row would stand among those of the other side.
        at = np.searchsorted(mine, asked) - begins[group[asked]] + step
        partner = mine[begins[group[asked]] + at % counts[group[asked]]]
        found.append(packed(rows[asked], rows[partner]))
    return np.concatenate(found)
