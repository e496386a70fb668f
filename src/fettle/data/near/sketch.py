"""MinHash sketches, cut into bands: rows with similar sets of hashes share a band.

In: hashed shingles of rows. Out: a key for each row and band. Must not know: texts, pairs.

Two rows whose sets have the Jaccard similarity J share one band of four with the probability J^4,
and at least one of 32 bands with 1 - (1 - J^4)^32: .9998 at .7, .87 at .5, .23 at .3. What is
found is verified exactly elsewhere; the sketch decides only what is looked at.

Source: A. Broder, On the resemblance and containment of documents, 1997; bands as in Leskovec,
Rajaraman, Ullman, Mining of Massive Datasets, section 3.4.
"""

import numpy as np
from numpy.typing import NDArray

from fettle.data.near.tokens import MULTIPLIER, Flat, mix

NUM_BANDS = 32
_BAND_SIZE = 4
_BLOCK = 1 << 15
"""Hashes in work at once: with their copy they stay in a core's cache."""

Keys = NDArray[np.uint32]


def band_keys(shingles: Flat) -> Keys:
    """Keys [num bands, N] of the rows' sets; of rows without a shingle they mean nothing.

    The k-th minimum of a row is taken over (hash xor r_k) * a_k modulo 2^32, with fixed random r_k
    and odd a_k. Repeated hashes play no part.
    """
    counts = shingles.counts
    keys = np.zeros((NUM_BANDS, len(counts)), np.uint32)
    order = np.argsort(counts, kind="stable")
    order = order[counts[order] > 0]
    if not len(order):
        return keys
    hashes = (shingles.values >> np.uint64(32)).astype(np.uint32)
    xors, factors = _constants()
    start = 0
    while start < len(order):
        if counts[order[start]] > _BLOCK:
            rows = order[start : start + 1]
            begin = shingles.offsets[rows[0]]
            least = _least_of_long(hashes[begin : begin + counts[rows[0]]], xors, factors)
        else:
            # Rows of about equal length; a row is filled up with its own last hash.
            rows = order[start : start + _BLOCK // int(counts[order[start]])]
            rows = rows[counts[rows] <= _BLOCK]
            last = counts[rows] - 1
            steps = np.minimum(np.arange(int(last[-1]) + 1)[:, None], last[None, :])
            least = _least(hashes[shingles.offsets[rows][None, :] + steps], xors, factors)
        for band in range(NUM_BANDS):
            key = np.zeros(len(rows), np.uint64)
            for minimum in least[band * _BAND_SIZE : (band + 1) * _BAND_SIZE]:
                key = key * np.uint64(MULTIPLIER) + minimum
            keys[band, rows] = mix(key) >> np.uint64(32)
        start += len(rows)
    return keys


def _least(block: Keys, xors: Keys, factors: Keys) -> Keys:
    """The minima [K, N] of hashes [L, N], one under each of K functions."""
    work = np.empty_like(block)
    least = np.empty((len(xors), block.shape[1]), np.uint32)
    for k, (xor, factor) in enumerate(zip(xors, factors, strict=True)):
        np.bitwise_xor(block, xor, out=work)
        np.multiply(work, factor, out=work)
        least[k] = work.min(axis=0)
    return least


def _least_of_long(hashes: Keys, xors: Keys, factors: Keys) -> Keys:
    """The same [K, 1] for one row of many hashes; each distinct one is looked at once."""
    values = np.unique(hashes)
    # Side by side, because numpy is slow on a single column.
    parts = [values[at : at + _BLOCK] for at in range(0, len(values), _BLOCK)]
    found = [_least(np.resize(part, (-(-len(part) // 64), 64)), xors, factors) for part in parts]
    least: Keys = np.min([part.min(axis=1) for part in found], axis=0)[:, None]
    return least


def _constants() -> tuple[Keys, Keys]:
    values = mix(np.arange(1, 2 * NUM_BANDS * _BAND_SIZE + 1, dtype=np.uint64))
    drawn = (values >> np.uint64(32)).astype(np.uint32)
    half = NUM_BANDS * _BAND_SIZE
    return drawn[:half], drawn[half:] | np.uint32(1)
