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
        # Rows of about equal length; a row is filled up with its own last hash.
        end = start + max(1, _BLOCK // max(1, int(counts[order[start]])))
        rows = order[start:end]
        last = counts[rows] - 1
        steps = np.minimum(np.arange(int(last[-1]) + 1)[:, None], last[None, :])
        block = hashes[shingles.offsets[rows][None, :] + steps]
        work = np.empty_like(block)
        for band in range(NUM_BANDS):
            key = np.zeros(len(rows), np.uint64)
            for k in range(band * _BAND_SIZE, (band + 1) * _BAND_SIZE):
                np.bitwise_xor(block, xors[k], out=work)
                np.multiply(work, factors[k], out=work)
                key = key * np.uint64(MULTIPLIER) + work.min(axis=0)
            keys[band, rows] = mix(key) >> np.uint64(32)
        start = end
    return keys


def _constants() -> tuple[Keys, Keys]:
    values = mix(np.arange(1, 2 * NUM_BANDS * _BAND_SIZE + 1, dtype=np.uint64))
    drawn = (values >> np.uint64(32)).astype(np.uint32)
    half = NUM_BANDS * _BAND_SIZE
    return drawn[:half], drawn[half:] | np.uint32(1)
