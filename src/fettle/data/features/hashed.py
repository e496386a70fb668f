"""Hashed n-grams of many texts at once: words, pairs of words and 3 to 5 characters, as TF-IDF.

No vocabulary is kept and nothing is looped over in Python but the texts themselves, so that ten
thousand rows take about a second. Unlike ``features``, columns have no names.

In: texts. Out: sparse matrices [N, BUCKETS]. Must not know: labels, files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack

from fettle.data.deduplicate import normal_text

Floats32 = NDArray[np.float32]
Hashes = NDArray[np.uint64]

BUCKETS: Final = 1 << 18
"""Columns for words, and as many for characters."""
MAX_CHARACTERS: Final = 2_000
"""Of a longer text its first part counts."""
CHARACTERS: Final = (3, 4, 5)

_CHUNK: Final = 2_000_000
"""Characters hashed at a time; keeps the arrays within some 200 MB."""
_PRIME: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX: Final = np.uint64(0xD6E8FEB86659FD93)


@dataclass(frozen=True, slots=True)
class Counts:
    """How often each n-gram occurs in each text."""

    words: csr_matrix
    """[N, BUCKETS] words and pairs of words."""
    characters: csr_matrix
    """[N, BUCKETS] 3 to 5 characters, with a space at both ends of the text."""


@dataclass(frozen=True, slots=True)
class HashedTfidf:
    """Weights of n-grams, learned from texts."""

    word_weights: Floats32
    """[BUCKETS]; 0 where an n-gram has none."""
    character_weights: Floats32

    def transform(self, counts: Counts) -> csr_matrix:
        """Features [N, 2 BUCKETS] of unit length; all zero for a text without known n-grams."""
        halves = [
            _weighted(counts.words, self.word_weights),
            _weighted(counts.characters, self.character_weights),
        ]
        return _unit_rows(csr_matrix(hstack(halves, format="csr")))


def count_ngrams(texts: Sequence[str]) -> Counts:
    """n-grams of each text, after case and white space are made the same.

    Args:
        texts: any; an empty one gives a row of zeros.
    """
    words, characters = [], []
    start = 0
    plain = [normal_text(text[:MAX_CHARACTERS]) for text in texts]
    while start < len(plain):
        end, size = start, 0
        while end < len(plain) and (end == start or size + len(plain[end]) <= _CHUNK):
            size += len(plain[end]) + 2
            end += 1
        codes, rows = _codes(plain[start:end])
        words.append(_matrix(*_word_hashes(codes, rows), end - start))
        characters.append(_matrix(*_character_hashes(codes, rows), end - start))
        start = end
    if not words:
        empty = csr_matrix((0, BUCKETS), dtype=np.float32)
        return Counts(empty, empty)
    return Counts(_stack(words), _stack(characters))


def fit_tfidf(counts: Counts, min_rows: int = 1) -> HashedTfidf:
    """Weights from these texts: ln((1 + N) / (1 + df)) + 1, as scikit-learn's smooth idf.

    Args:
        counts: of the texts.
        min_rows: an n-gram in fewer of them has no weight; 0 = one that none of them has weighs as
            much as one can, so that a text full of such n-grams is unlike all of them.
    """
    return HashedTfidf(_idf(counts.words, min_rows), _idf(counts.characters, min_rows))


def tfidf(texts: Sequence[str]) -> csr_matrix:
    """Features [N, 2 BUCKETS] of texts by their own weights."""
    counts = count_ngrams(texts)
    return fit_tfidf(counts).transform(counts)


def _codes(texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Code points of the texts, a space before and a zero after each, and their rows."""
    joined = "".join(f" {text} \0" for text in texts)
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    lengths = np.fromiter((len(text) + 3 for text in texts), dtype=np.int64, count=len(texts))
    return codes, np.repeat(np.arange(len(texts)), lengths)


def _mixed(values: Hashes) -> Hashes:
    """Spread the bits, so that the upper ones depend on all."""
    values = (values ^ (values >> np.uint64(32))) * _MIX
    return values ^ (values >> np.uint64(29))


def _character_hashes(
    codes: NDArray[np.uint32], rows: NDArray[np.int64]
) -> tuple[Hashes, NDArray[np.int64]]:
    letters = _mixed(codes.astype(np.uint64) + np.uint64(1))
    ends = np.flatnonzero(codes == 0)
    # Distance to the end of the text: an n-gram that would reach over it is none.
    left = ends[np.searchsorted(ends, np.arange(len(codes)))] - np.arange(len(codes))
    hashes, owners = [], []
    rolled = letters.copy()
    for order in range(2, CHARACTERS[-1] + 1):
        rolled = rolled[:-1] * _PRIME + letters[order - 1 :] if len(rolled) > 1 else rolled[:0]
        if order in CHARACTERS:
            whole = left[: len(rolled)] >= order
            hashes.append(_mixed(rolled[whole] + np.uint64(order)))
            owners.append(rows[: len(rolled)][whole])
    return np.concatenate(hashes), np.concatenate(owners)


_IS_WORD = np.array([chr(code).isalnum() or chr(code) == "_" for code in range(128)])


def _word_hashes(
    codes: NDArray[np.uint32], rows: NDArray[np.int64]
) -> tuple[Hashes, NDArray[np.int64]]:
    """Words (runs of letters, digits and all that is not ASCII) and pairs of neighbours."""
    inside = np.where(codes < 128, _IS_WORD[np.minimum(codes, 127)], True)
    before = np.concatenate([[False], inside[:-1]])
    starts = np.flatnonzero(inside & ~before)
    if not len(starts):
        return np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64)
    position = np.arange(len(codes))
    begin = np.maximum.accumulate(np.where(inside & ~before, position, 0))
    powers = _powers(int((position - begin)[inside].max()) + 1)
    values = np.where(
        inside,
        _mixed(codes.astype(np.uint64) + np.uint64(7)) * powers[(position - begin) * inside],
        0,
    ).astype(np.uint64)
    words = _mixed(np.add.reduceat(values, starts))
    owners = rows[starts]
    paired = owners[:-1] == owners[1:]
    pairs = _mixed(words[:-1][paired] * _PRIME + words[1:][paired])
    return np.concatenate([words, pairs]), np.concatenate([owners, owners[:-1][paired]])


def _powers(number: int) -> Hashes:
    found = np.full(number, _PRIME, dtype=np.uint64)
    found[0] = 1
    return np.multiply.accumulate(found)


def _matrix(hashes: Hashes, rows: NDArray[np.int64], num_rows: int) -> csr_matrix:
    """Counts [num_rows, BUCKETS] of hashed n-grams."""
    keys = rows * BUCKETS + (hashes >> np.uint64(64 - 18)).astype(np.int64)
    unique, counts = np.unique(keys, return_counts=True)
    pointer = np.searchsorted(unique, np.arange(num_rows + 1) * BUCKETS)
    return csr_matrix(
        (counts.astype(np.float32), (unique % BUCKETS).astype(np.int32), pointer.astype(np.int32)),
        shape=(num_rows, BUCKETS),
    )


def _stack(parts: Sequence[csr_matrix]) -> csr_matrix:
    if len(parts) == 1:
        return parts[0]
    data = np.concatenate([part.data for part in parts])
    indices = np.concatenate([part.indices for part in parts])
    sizes = np.concatenate([np.diff(part.indptr) for part in parts])
    pointer = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    return csr_matrix((data, indices, pointer), shape=(len(sizes), BUCKETS))


def _idf(counts: csr_matrix, min_rows: int) -> Floats32:
    rows = np.bincount(counts.indices, minlength=BUCKETS)
    weights = np.log((1 + counts.shape[0]) / (1 + rows)) + 1
    return np.where(rows >= min_rows, weights, 0).astype(np.float32)


def _weighted(counts: csr_matrix, weights: Floats32) -> csr_matrix:
    """(1 + ln count) times weight, in rows of unit length."""
    data = (1 + np.log(counts.data)) * weights[counts.indices]
    matrix = csr_matrix((data, counts.indices, counts.indptr), shape=counts.shape)
    matrix.eliminate_zeros() if not data.all() else None
    return _unit_rows(matrix)


def _unit_rows(matrix: csr_matrix) -> csr_matrix:
    squares = np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel()
    lengths = np.sqrt(np.where(squares > 0, squares, 1)).astype(np.float32)
    scale = np.repeat(1 / lengths, np.diff(matrix.indptr))
    return csr_matrix((matrix.data * scale, matrix.indices, matrix.indptr), shape=matrix.shape)


@dataclass(frozen=True, slots=True)
class Landmarks:
    """A map into the space that some of the rows span, where dense arithmetic is possible."""

    rows: csr_matrix
    """[M, F] features of the landmarks, without the columns that none of them has."""
    columns: NDArray[np.int64]
    """[F] which columns of the full features those are."""
    map: Floats32
    """[M, H]: products with the landmarks → coordinates."""

    def reduce(self, features: csr_matrix) -> csr_matrix:
        """The columns that count, of full features."""
        return features[:, self.columns]

    def coordinates(self, reduced: csr_matrix) -> Floats32:
        """[N, H], whose products are about those of the features."""
        found: Floats32 = (reduced @ self.rows.T).toarray() @ self.map
        return found

    def weights(self, dense: Floats32) -> Floats32:
        """Linear weights [H, K] on coordinates as weights [F, K] on reduced features."""
        found: Floats32 = self.rows.T @ (self.map @ dense)
        return found


def choose_landmarks(features: csr_matrix, number: int, seed: int) -> Landmarks:
    """The Nyström map of randomly chosen rows.

    Args:
        features: [N, F] with rows of unit length.
        number: rows to choose; at most N.
        seed: of the choice.

    Source: Williams and Seeger 2001, "Using the Nyström method to speed up kernel machines".
    """
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.permutation(features.shape[0])[:number])
    rows = features[chosen]
    columns = np.unique(rows.indices).astype(np.int64)
    rows = csr_matrix(rows[:, columns])
    values, vectors = np.linalg.eigh((rows @ rows.T).toarray().astype(np.float64))
    # Directions this weak are copies of others, and dividing by their root is noise.
    strong = values > 1e-3
    return Landmarks(
        rows, columns, (vectors[:, strong] / np.sqrt(values[strong])).astype(np.float32)
    )
