"""All pairs of short texts whose sets of five-character runs are alike: an exact join.

In: sets of hashes. Out: every pair with a Jaccard similarity of at least the threshold, none else.
Must not know: texts.

Prefix filter: with its values sorted from rare to frequent, two sets of similarity t or more share
one of the first n - ceil(t n) + 1 values of each. So only those rare values are joined, and what
they join is counted exactly.

Source: S. Chaudhuri, V. Ganti, R. Kaushik, A Primitive Operator for Similarity Joins, 2006; order
and length filter as in R. Bayardo, Y. Ma, R. Srikant, Scaling Up All Pairs, 2007.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from fettle.data.near.tokens import Flat

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
_WORK = 20_000_000
"""Products that one block of rows may need."""
_PAIRS = 50_000
"""Pairs counted at once."""


def similar(sets: Flat, threshold: float) -> tuple[Ints, Ints, Floats]:
    """Pairs of rows, the smaller first, and their similarity.

    Args:
        sets: distinct values of each row (``tokens.distinct``).
        threshold: above 0, at most 1.
    """
    matrix = as_matrix(sets)
    sizes = sets.counts
    prefix = _prefixes(matrix, sizes, threshold)
    across = prefix.T.tocsr()
    # What a row's product costs: the rows that share its rare values.
    cost = prefix @ np.diff(across.indptr)
    block_of = np.cumsum(cost) // _WORK
    lefts, rights, values = [], [], []
    for start, end in _stretches(block_of):
        found = (prefix[start:end] @ across).tocoo()
        left, right = found.row.astype(np.int64) + start, found.col.astype(np.int64)
        small, large = np.minimum(sizes[left], sizes[right]), np.maximum(sizes[left], sizes[right])
        fit = (left < right) & (small >= threshold * large - 1e-9)
        left, right = left[fit], right[fit]
        value = jaccard(matrix, left, right)
        alike = value >= threshold - 1e-9
        lefts.append(left[alike])
        rights.append(right[alike])
        values.append(value[alike])
    none = np.zeros(0, np.int64)
    return (
        np.concatenate([none, *lefts]),
        np.concatenate([none, *rights]),
        np.concatenate([np.zeros(0), *values]),
    )


def as_matrix(sets: Flat) -> csr_matrix:
    """Rows by values, 1 where a row has a value; columns from rare values to frequent ones."""
    values, column = np.unique(sets.values, return_inverse=True)
    # Ties by the hash: the order of rows plays no part.
    rank = np.empty(len(values), np.int64)
    rank[np.argsort(np.bincount(column, minlength=len(values)), kind="stable")] = np.arange(
        len(values)
    )
    shape = (len(sets.offsets) - 1, max(1, len(values)))
    matrix = csr_matrix(
        (np.ones(len(column), np.int32), rank[column].astype(np.int64), sets.offsets), shape=shape
    )
    matrix.sort_indices()
    return matrix


def shared(matrix: csr_matrix, left: Ints, right: Ints, other: csr_matrix | None = None) -> Ints:
    """How many values rows of the matrix share, pair by pair.

    Args:
        matrix: of ``as_matrix``.
        left: rows of ``matrix``.
        right: rows of ``other``.
        other: with the same columns; None = the same matrix.
    """
    other = matrix if other is None else other
    counts = [np.zeros(0, np.int64)]
    for start in range(0, len(left), _PAIRS):
        one, two = matrix[left[start : start + _PAIRS]], other[right[start : start + _PAIRS]]
        counts.append(np.diff(one.multiply(two).tocsr().indptr).astype(np.int64))
    return np.concatenate(counts)


def jaccard(matrix: csr_matrix, left: Ints, right: Ints) -> Floats:
    """Shared values over all values, pair by pair; 0 for two empty sets."""
    sizes = np.diff(matrix.indptr).astype(np.int64)
    common = shared(matrix, left, right)
    union = sizes[left] + sizes[right] - common
    return np.asarray(common / np.maximum(union, 1))


def _prefixes(matrix: csr_matrix, sizes: Ints, threshold: float) -> csr_matrix:
    length = np.where(sizes > 0, sizes - np.ceil(threshold * sizes - 1e-9).astype(np.int64) + 1, 0)
    place = np.arange(matrix.nnz) - np.repeat(matrix.indptr[:-1], sizes)
    kept = place < np.repeat(length, sizes)
    offsets = np.concatenate([[0], np.cumsum(length)])
    prefix = csr_matrix((matrix.data[kept], matrix.indices[kept], offsets), shape=matrix.shape)
    return prefix


def _stretches(labels: Ints) -> list[tuple[int, int]]:
    """Start and end of each run of equal labels."""
    if not len(labels):
        return []
    cuts = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
    return list(pairwise(cuts))
