"""Which of many texts are nearly the same, or contain each other: found fast, verified exactly.

In: texts, perhaps on two sides. Out: pairs with an exact similarity. Must not know: examples,
splits, what is done about a pair.

1. Boilerplate, runs of eight words that many texts share, is taken out of all of them.
2. Long texts are looked up by MinHash bands and by shared runs of eight words, and each pair that
   comes up often enough is verified exactly. Short texts are joined exactly.
3. A pair is ``near`` when the Jaccard similarity of its word pairs or of its five-character runs is
   0.7 or more; ``contained`` when at least 25 % (80 % under 20 words) and three of the shorter
   one's runs of eight words stand in the longer one, or, as ``slight`` evidence, when the shorter
   one of 5 to 9 words stands whole in it; ``akin`` from 0.5 on. Pairs that differ in the
   slots of a template are ``template``: alike, but not the same.

Texts are numbered by their content, so the order in which they come plays no part, nor does the
number of threads.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np
import xxhash
from numpy.typing import NDArray

from fettle.data.near import match, short
from fettle.data.near.brief import brief_rows, standing_inside
from fettle.data.near.sketch import NUM_BANDS, band_keys
from fettle.data.near.slots import same_template
from fettle.data.near.tokens import (
    MULTIPLIER,
    Flat,
    Hashes,
    Ints,
    Words,
    characters,
    chosen_rows,
    distinct,
    mix,
    only,
    parse,
    plain,
    rows_of,
    runs,
)

_In = TypeVar("_In")
_Out = TypeVar("_Out")
Method = Literal["near", "contained", "akin", "template"]

NEAR = 0.7
AKIN = 0.5
CONTAINED = 0.25
CONTAINED_SHORT = 0.8
"""Of texts under 20 words nearly all: two short requests often share half their words."""
_MIN_RUNS = 3
"""Fewer shared runs of eight words (ten words in a row) are no evidence of a copy."""
_RUN = 8
SHORT_WORDS = 20
"""Texts with fewer words are joined by characters; any pair with a text of under 12 words is then
found, since the other one is at most 1 / 0.7 as long."""
_LONG_WORDS = 12
"""Texts with at least this many are looked up by words."""
_BEGINNING = 50
_CHUNK = 400_000
"""Characters in work at once."""
_SAMPLE = 4_000
_BOILERPLATE_SHARE = 0.05
_BOILERPLATE_ROWS = 50
_PARTS = 16
_VERIFIED = 4_000
"""Pairs verified at once."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts that have much in common."""

    left: int
    """Index of one text."""
    right: int
    """Index of the other; the one that comes first by content is ``left``."""
    similarity: float
    """Near, akin, template: Jaccard similarity. Contained: share of the shorter one's runs."""
    method: Method
    slight: bool = False
    """Few words: it counts only where more is known to agree, such as labels."""


@dataclass(frozen=True, slots=True)
class _Chunk:
    """What one stretch of texts adds to the index."""

    rows: Hashes
    """[N] one hash for all words of a text, in their order."""
    beginnings: Hashes
    """[N] the same for the first 50 words; 0 for shorter texts."""
    whole_beginnings: Hashes
    """[N] the same, boilerplate included."""
    num_words: Ints
    bands: NDArray[np.uint32]
    """[num bands, N]."""
    anchors: NDArray[np.uint32]
    """Keys of the runs of eight words."""
    anchor_counts: Ints
    briefs: Flat
    """Words of short texts, in their order; none for others."""
    shorts: Flat
    """Five-character runs of short texts; none for others."""


@dataclass(frozen=True, slots=True)
class Found:
    """What texts have to do with each other; they are named by their indices."""

    pairs: list[Pair]
    """Sorted by content."""
    beginnings: list[list[int]]
    """Texts that begin with the same 50 words, such as questions about one document."""
    common_beginnings: list[list[int]]
    """The same where boilerplate counts: what many texts begin with may be a document too."""


def find(texts: Sequence[str], other: Sequence[bool] | None = None, workers: int = 1) -> Found:
    """All texts that are nearly the same, contain each other or begin alike.

    Args:
        texts: different texts.
        other: [N] which texts are of the other side, such as a holdout: pairs across are then
            looked for with more care. None = one side.
        workers: threads; the result does not depend on it.
    """
    digests = [_digest(text) for text in texts]
    order = sorted(range(len(texts)), key=digests.__getitem__)
    sides = np.zeros(len(texts), bool)
    if other is not None:
        sides[:] = [other[i] for i in order]
    if len(texts) < 2:
        return Found([], [], [])
    found = _find([plain(texts[i]) for i in order], sides, workers)
    return Found(
        [replace(p, left=order[p.left], right=order[p.right]) for p in found.pairs],
        *(
            [[order[i] for i in group] for group in groups]
            for groups in (found.beginnings, found.common_beginnings)
        ),
    )


def _find(texts: Sequence[str], other: NDArray[np.bool_], workers: int) -> Found:
    """``find`` over texts in the order of their content."""
    common = common_runs(texts)
    chunks = mapped(lambda c: _index(texts[slice(*c)], common), list(chunks_of(texts)), workers)
    num_words = np.concatenate([chunk.num_words for chunk in chunks])
    rows = np.concatenate([chunk.rows for chunk in chunks])
    beginnings = np.concatenate([chunk.beginnings for chunk in chunks])
    whole = np.concatenate([chunk.whole_beginnings for chunk in chunks])
    shorts = _joined([chunk.shorts for chunk in chunks])
    bands = np.concatenate([chunk.bands for chunk in chunks], axis=1)
    anchors = np.concatenate([chunk.anchors for chunk in chunks])
    counts = np.concatenate([chunk.anchor_counts for chunk in chunks])
    briefs = _joined([chunk.briefs for chunk in chunks])
    del chunks
    first, pairs = _same_words(texts, rows, num_words, other)
    by_bands = _by_bands(bands, np.flatnonzero((num_words >= _LONG_WORDS) & first), other)
    del bands
    by_anchors = _by_anchors(anchors, counts, first, other)
    candidates = match.counted(np.concatenate([by_bands, by_anchors]), 1)
    del anchors
    found = {(p.left, p.right): p for p in _inside(briefs, first)}
    found.update(((p.left, p.right), p) for p in _by_characters(texts, shorts, first))
    stretches = [candidates[i : i + _VERIFIED] for i in range(0, len(candidates), _VERIFIED)]
    for verified in mapped(lambda c: _verify(texts, c, common), stretches, workers):
        for pair in verified:
            known = found.get((pair.left, pair.right))
            if known is None or known.slight or known.similarity < pair.similarity:
                found[pair.left, pair.right] = pair
    found.update(_for_the_same(found.values(), pairs, other))
    found.update(((p.left, p.right), p) for p in pairs)
    pairs_found = [found[key] for key in sorted(found)]
    return Found(pairs_found, _groups(beginnings), _groups(whole) if len(common) else [])


def mapped(function: Callable[[_In], _Out], items: Sequence[_In], workers: int) -> list[_Out]:
    """The function of each item, in their order, on so many threads (numpy lets them run)."""
    if workers < 2 or len(items) < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(function, items))


# --- the index ----------------------------------------------------------------------------------


def _index(texts: Sequence[str], common: Hashes) -> _Chunk:
    parsed = parse(texts)
    words = without_common(parsed, common)
    counts = words.flat.counts
    eights = runs(words.flat, _RUN)
    few = np.flatnonzero((counts < SHORT_WORDS) & (counts > 0))
    grams = distinct(characters(rows_of(words, few), 5))
    sizes = np.zeros(len(counts), np.int64)
    sizes[few] = grams.counts
    brief = np.flatnonzero(brief_rows(counts))
    brief_sizes = np.where(brief_rows(counts), counts, 0)
    return _Chunk(
        *_row_hashes(words.flat),
        _row_hashes(parsed.flat)[1],
        counts,
        band_keys(runs(words.flat, 2)),
        (eights.values >> np.uint64(32)).astype(np.uint32),
        eights.counts,
        Flat(chosen_rows(words.flat, brief).values, np.concatenate([[0], np.cumsum(brief_sizes)])),
        Flat(grams.values, np.concatenate([[0], np.cumsum(sizes)])),
    )


def _row_hashes(flat: Flat) -> tuple[Hashes, Hashes]:
    """One hash for all words of each row, and one for its first 50."""
    counts = flat.counts
    place = np.arange(len(flat.values)) - np.repeat(flat.offsets[:-1], counts)
    values = mix(flat.values + place.astype(np.uint64) * np.uint64(MULTIPLIER))
    sums = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(values, out=sums[1:])
    start, end = flat.offsets[:-1], flat.offsets[1:]
    begins = np.where(counts >= _BEGINNING, sums[np.minimum(start + _BEGINNING, end)], sums[start])
    return sums[end] - sums[start], begins - sums[start]


def _same_words(
    texts: Sequence[str], rows: Hashes, num_words: Ints, other: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], list[Pair]]:
    """Texts of the same words in the same order (they differ in punctuation or case).

    Returns:
        Which texts are the first of their words on their side, the only ones that are looked up;
        and the pairs of the others with the first of each side.
    """
    first = np.ones(len(texts), bool)
    pairs = []
    for group in _groups(np.where(num_words > 0, rows, 0)):
        heads = {side: next(i for i in group if other[i] == side)
                 for side in {bool(other[i]) for i in group}}  # fmt: skip
        for i in group:
            first[i] = heads[bool(other[i])] == i
            for head in heads.values():
                if head < i or (head > i and other[head] != other[i]):
                    pairs.append(_pair(texts, min(i, head), max(i, head), 1.0, "near"))
    return first, pairs


def _for_the_same(
    found: Iterable[Pair], same: Sequence[Pair], other: NDArray[np.bool_]
) -> dict[tuple[int, int], Pair]:
    """What holds across the sides for a text holds for those of the same words on its side."""
    by_head: dict[int, list[int]] = {}
    for pair in same:
        if other[pair.left] == other[pair.right]:
            by_head.setdefault(pair.left, []).append(pair.right)
    more = {}
    for pair in found:
        if other[pair.left] == other[pair.right]:
            continue
        for head, partner in ((pair.left, pair.right), (pair.right, pair.left)):
            for i in by_head.get(head, ()):
                key = min(i, partner), max(i, partner)
                more[key] = Pair(*key, pair.similarity, pair.method, pair.slight)
    return more


def _groups(labels: Hashes) -> list[list[int]]:
    """Rows with equal labels other than 0, where there are at least two."""
    order = np.argsort(labels, kind="stable")
    order = order[labels[order] != 0]
    if not len(order):
        return []
    starts = np.flatnonzero(np.concatenate([[True], np.diff(labels[order]) != 0]))
    ends = np.concatenate([starts[1:], [len(order)]])
    several = ends - starts > 1
    return [
        order[start:end].tolist() for start, end in zip(starts[several], ends[several], strict=True)
    ]


def _by_bands(bands: NDArray[np.uint32], rows: Ints, other: NDArray[np.bool_]) -> Hashes:
    found = [match.pairs_of(bands[band, rows], rows, other) for band in range(NUM_BANDS)]
    return match.counted(np.concatenate(found), 2)


def _by_anchors(
    anchors: NDArray[np.uint32],
    counts: Ints,
    first: NDArray[np.bool_],
    other: NDArray[np.bool_],
) -> Hashes:
    rows = np.repeat(np.arange(len(counts), dtype=np.uint32), counts)
    found = []
    # In parts, so that what is sorted at once stays small.
    part = (anchors >> np.uint32(28)).astype(np.uint8)
    for number in range(_PARTS):
        chosen = np.flatnonzero(part == number)
        chosen = chosen[first[rows[chosen]]]
        found.append(match.pairs_of(anchors[chosen], rows[chosen].astype(np.int64), other))
    return match.counted(np.concatenate(found), _MIN_RUNS)


# --- verification -------------------------------------------------------------------------------


def _by_characters(texts: Sequence[str], shorts: Flat, first: NDArray[np.bool_]) -> list[Pair]:
    rows = np.flatnonzero((shorts.counts > 0) & first)
    left, right, value = short.similar(chosen_rows(shorts, rows), NEAR)
    return [
        _pair(texts, int(rows[i]), int(rows[j]), float(v), "near")
        for i, j, v in zip(left, right, value, strict=True)
    ]


def _inside(briefs: Flat, first: NDArray[np.bool_]) -> list[Pair]:
    rows = np.flatnonzero((briefs.counts > 0) & first)
    found = standing_inside(chosen_rows(briefs, rows))
    one, two = rows[found.shorter], rows[found.longer]
    return [
        Pair(int(i), int(j), 1.0, "contained", True)
        for i, j in zip(np.minimum(one, two), np.maximum(one, two), strict=True)
    ]


def _verify(texts: Sequence[str], candidates: Hashes, common: Hashes) -> list[Pair]:
    """The pairs of these that hold, each with its similarity."""
    left, right = match.unpacked(candidates)
    rows = np.unique(np.concatenate([left, right]))
    one, two = np.searchsorted(rows, left), np.searchsorted(rows, right)
    words = without_common(parse([texts[i] for i in rows]), common)
    alike = short.jaccard(short.as_matrix(distinct(runs(words.flat, 2))), one, two)
    # Characters may see what words miss; only pairs that could still reach it are compared.
    unsure = np.flatnonzero((alike < NEAR) & (alike >= AKIN - 0.1))
    if len(unsure):
        grams = short.as_matrix(distinct(characters(words, 5)))
        value = short.jaccard(grams, one[unsure], two[unsure])
        alike[unsure] = np.maximum(alike[unsure], value)
    inside = _containment(words, one, two)
    found = []
    for i, j, value, share in zip(left, right, alike, inside, strict=True):
        if value >= NEAR:
            found.append(_pair(texts, int(i), int(j), float(value), "near"))
        elif share > 0:
            found.append(_pair(texts, int(i), int(j), float(share), "contained"))
        elif value >= AKIN:
            found.append(_pair(texts, int(i), int(j), float(value), "akin"))
    return found


def _containment(words: Words, one: Ints, two: Ints) -> NDArray[np.float64]:
    """Share of the shorter text's runs of eight words that the longer one has; 0 = too few."""
    eights = distinct(runs(words.flat, _RUN))
    fewest = np.minimum(eights.counts[one], eights.counts[two])
    both = short.shared(short.as_matrix(eights), one, two)
    share = both / np.maximum(fewest, 1)
    enough = np.where(fewest <= SHORT_WORDS - _RUN, CONTAINED_SHORT, CONTAINED)
    return np.where((both >= _MIN_RUNS) & (share >= enough), share, 0.0)


def _pair(texts: Sequence[str], left: int, right: int, similarity: float, method: Method) -> Pair:
    if method != "akin" and same_template(texts[left], texts[right]):
        method = "template"
    return Pair(left, right, similarity, method)


# --- boilerplate --------------------------------------------------------------------------------


def common_runs(texts: Sequence[str]) -> Hashes:
    """Runs of eight words that more than 5 % of the texts share, and more than 50; sorted.

    The texts are in the order of their content, so that the first ones are a fair sample.
    """
    sample = texts[:_SAMPLE]
    limit = max(_BOILERPLATE_ROWS, _BOILERPLATE_SHARE * len(sample))
    if len(sample) <= limit:
        return np.zeros(0, np.uint64)
    eights = distinct(runs(parse(sample).flat, _RUN))
    values, counts = np.unique(eights.values, return_counts=True)
    return values[counts > limit]


def without_common(words: Words, common: Hashes) -> Words:
    """The words that no boilerplate covers.

    Args:
        words: of texts.
        common: of ``common_runs``.
    """
    if not len(common):
        return words
    eights = runs(words.flat, _RUN)
    found = _contains(common, eights.values)
    if not found.any():
        return words
    # A run that starts at a word covers it and the seven behind it.
    shift = np.repeat(words.flat.offsets[:-1] - eights.offsets[:-1], eights.counts)
    first = np.flatnonzero(found) + shift[found]
    change = np.zeros(len(words.flat.values) + 1, np.int64)
    np.add.at(change, first, 1)
    np.add.at(change, first + _RUN, -1)
    return only(words, np.cumsum(change[:-1]) == 0)


def _contains(sorted_values: Hashes, wanted: Hashes) -> NDArray[np.bool_]:
    at = np.minimum(np.searchsorted(sorted_values, wanted), len(sorted_values) - 1)
    return np.asarray(sorted_values[at] == wanted)


def chunks_of(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    start = size = 0
    for index, text in enumerate(texts):
        size += len(text) + 1
        if size >= _CHUNK:
            yield start, index + 1
            start, size = index + 1, 0
    if start < len(texts):
        yield start, len(texts)


def _joined(flats: Sequence[Flat]) -> Flat:
    counts = np.concatenate([flat.counts for flat in flats])
    values = np.concatenate([flat.values for flat in flats])
    return Flat(values, np.concatenate([[0], np.cumsum(counts)]))


def _digest(text: str) -> bytes:
    return xxhash.xxh3_128_digest(text.encode("utf-8", "surrogatepass"))
