"""Texts -> hashed words, in whole arrays: no loop over words.

In: texts. Out: 64-bit hashes of their words, runs of words and runs of characters. Must not know:
examples, pairs, thresholds.

A word is a run of letters, marks and digits in any case; accents, letters that look like Latin ones
and invisible characters make no other word. Of scripts that are written without spaces
(Han, kana, Thai, ...) each character is a word. Punctuation, white space and case are not seen.
The hash of a word is a polynomial of its code points modulo 2^64, taken from one running sum over
all texts, and mixed. Two different words share a hash with a probability of about 2^-64.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from fettle.data.deduplicate import normal_text

Hashes = NDArray[np.uint64]
Ints = NDArray[np.int64]

MULTIPLIER = 0x9E3779B97F4A7C15
"""Odd, so that it has an inverse modulo 2^64."""
_MASKED = re.compile(r"(?<!\w)@\w+|(?:https?://|www\.)\S+|\bhttps?\b")
_ACCENTED = ((0x00C0, 0x024F), (0x0370, 0x052F), (0x1E00, 0x1FFF))
"""Latin, Greek, Cyrillic."""
_INVISIBLE = ((0x00AD, 0x00AD), (0x0300, 0x036F), (0x200B, 0x200F), (0x202A, 0x202E),
              (0x2060, 0x2064), (0xFEFF, 0xFEFF))  # fmt: skip
"""Soft hyphens, accents by themselves, zero-width characters, marks of direction."""
_ALIKE = ("авекмнорстухіјѕԁԛԝαβεηικμνορτυχωøłđħı", "abekmhopctyxijsdqwabenikmvoptuxwoldhi")
"""Cyrillic, Greek and barred letters, in lower case, and the Latin ones that they look like."""
_INVERSE = pow(MULTIPLIER, -1, 2**64)
_WORD, _SINGLE = 1, 2
_TABLE_SIZE = 0x20000
"""Code points above are rare ideographs: each is a word."""
_SINGLES = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF),
            (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF))  # fmt: skip
"""Thai and Lao, Myanmar, Khmer, kana, Han."""


@dataclass(frozen=True, slots=True)
class Flat:
    """Hashes of several rows in one array."""

    values: Hashes
    """[T], row after row."""
    offsets: Ints
    """[N + 1]: row i has values[offsets[i]:offsets[i + 1]]."""

    @property
    def counts(self) -> Ints:
        """[N] values of each row."""
        return np.diff(self.offsets)


@dataclass(frozen=True, slots=True)
class Words:
    """The words of several texts, with the characters that they are made of."""

    flat: Flat
    """Hashes of the words."""
    codes: NDArray[np.generic]
    """Code points of all texts, case folded."""
    starts: Ints
    """[T] where each word starts in ``codes``."""
    ends: Ints
    """[T] the places behind their last characters."""


def parse(texts: Sequence[str]) -> Words:
    """The words of each text, in their order."""
    codes, row_ends = _codes(texts)
    starts, ends = _bounds(codes)
    offsets = _offsets(np.searchsorted(starts, row_ends))
    return Words(Flat(mix(_spans(codes, starts, ends)), offsets), codes, starts, ends)


def only(words: Words, kept: NDArray[np.bool_]) -> Words:
    """The words for which ``kept`` [T] is true."""
    before = _offsets(np.cumsum(kept))
    flat = Flat(words.flat.values[kept], before[words.flat.offsets])
    return Words(flat, words.codes, words.starts[kept], words.ends[kept])


def rows_of(words: Words, rows: Ints) -> Words:
    """The words of some of the texts, in the order of ``rows``."""
    at, offsets = _places(words.flat, rows)
    flat = Flat(words.flat.values[at], offsets)
    return Words(flat, words.codes, words.starts[at], words.ends[at])


def chosen_rows(flat: Flat, rows: Ints) -> Flat:
    """Some of the rows, in the order of ``rows``."""
    at, offsets = _places(flat, rows)
    return Flat(flat.values[at], offsets)


def runs(flat: Flat, size: int) -> Flat:
    """Each run of ``size`` neighbours in a row as one hash, in their order, repeats included.

    Args:
        flat: hashed words.
        size: a power of two; a row with fewer words has no run.
    """
    values, width = flat.values, 1
    while width < size:
        # Twice as wide each time: a run of 8 words is two runs of 4.
        values = mix(values[:-width] * np.uint64(MULTIPLIER) + values[width:]) if len(
            values) > width else values[:0]  # fmt: skip
        width *= 2
    counts = np.maximum(flat.counts - size + 1, 0)
    offsets = _offsets(np.cumsum(counts))
    shift = np.repeat(flat.offsets[:-1] - offsets[:-1], counts)
    return Flat(values[np.arange(offsets[-1]) + shift], offsets)


def characters(words: Words, size: int) -> Flat:
    """Each run of ``size`` characters of the words, joined by one space; repeats included.

    A text with fewer characters is one run; a text without a word has none.
    """
    # One code more for each word: the space behind it. Those of the rows' last words are cut off.
    lengths = words.ends - words.starts + 1
    before = _offsets(np.cumsum(lengths))
    total = int(before[-1])
    source = np.arange(total) + np.repeat(words.starts - before[:-1], lengths)
    packed = words.codes[np.minimum(source, len(words.codes) - 1)].astype(np.uint64)
    packed[before[1:] - 1] = 32
    begins, ends = before[words.flat.offsets[:-1]], before[words.flat.offsets[1:]] - 1
    num_chars = np.maximum(ends - begins, 0)
    counts = np.where(num_chars > 0, np.maximum(num_chars - size + 1, 1), 0)
    offsets = _offsets(np.cumsum(counts))
    at = np.arange(offsets[-1]) + np.repeat(begins - offsets[:-1], counts)
    last = np.repeat(ends, counts)
    values = np.zeros(len(at), np.uint64)
    for step in range(size):
        place = at + step
        code = packed[np.minimum(place, total - 1)] + np.uint64(1)
        values = values * np.uint64(MULTIPLIER) + np.where(place < last, code, np.uint64(0))
    return Flat(mix(values), offsets)


def distinct(flat: Flat) -> Flat:
    """The values of each row sorted, each once."""
    rows = np.repeat(np.arange(len(flat.offsets) - 1), flat.counts)
    order = np.lexsort((flat.values, rows))
    values, rows = flat.values[order], rows[order]
    new = np.ones(len(values), bool)
    new[1:] = (values[1:] != values[:-1]) | (rows[1:] != rows[:-1])
    counts = np.bincount(rows[new], minlength=len(flat.offsets) - 1)
    return Flat(values[new], _offsets(np.cumsum(counts)))


def plain(text: str) -> str:
    """The text without web addresses and @names, which data sets often mask; never empty for it."""
    if "@" not in text and "http" not in text and "www." not in text:
        return text
    found = _MASKED.sub(" ", text)
    return found if found.strip() else text


def mix(values: Hashes) -> Hashes:
    """Every bit of the result depends on every bit of the value (finaliser of splitmix64)."""
    values = values ^ (values >> np.uint64(30))
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def _places(flat: Flat, rows: Ints) -> tuple[Ints, Ints]:
    counts = flat.counts[rows]
    offsets = _offsets(np.cumsum(counts))
    return np.arange(offsets[-1]) + np.repeat(flat.offsets[rows] - offsets[:-1], counts), offsets


def _codes(texts: Sequence[str]) -> tuple[NDArray[np.generic], Ints]:
    """Code points of all texts, folded, a line break behind each; where each text ends."""
    joined = "\n".join(texts) + "\n"
    if joined.isascii():
        codes: NDArray[np.generic] = np.frombuffer(joined.lower().encode("ascii"), np.uint8)
    else:
        # Only texts that need it: Unicode's folding is slow.
        texts = [
            text.lower() if text.isascii() else normal_text(text).translate(_looks())
            for text in texts
        ]
        joined = "\n".join(texts) + "\n"
        codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
    ends = np.cumsum(np.fromiter((len(text) + 1 for text in texts), np.int64, len(texts)))
    return codes, ends


@cache
def _looks() -> dict[int, str | None]:
    """What characters beyond ASCII look like: letters without accents, of another script, nothing.

    No two letters of one script become one, but for their accents, so that nothing but a disguise
    is lost in texts of that script.
    """
    table: dict[int, str | None] = {code: None for low, high in _INVISIBLE
                                    for code in range(low, high + 1)}  # fmt: skip
    for low, high in _ACCENTED:
        for code in range(low, high + 1):
            whole = unicodedata.normalize("NFD", chr(code))
            if len(whole) > 1 and all(0x0300 <= ord(mark) <= 0x036F for mark in whole[1:]):
                table[code] = whole[0]
    table |= {ord(letter): latin for letter, latin in zip(_ALIKE[0], _ALIKE[1], strict=True)}
    for code, letter in table.items():
        if letter is not None and ord(letter) in table and code != ord(letter):
            table[code] = table[ord(letter)]
    return table


def _bounds(codes: NDArray[np.generic]) -> tuple[Ints, Ints]:
    """Where words start and where they end (the place behind)."""
    kinds = _kinds()[codes if codes.dtype == np.uint8 else np.minimum(codes, _TABLE_SIZE)]
    before = np.empty_like(kinds)
    before[0], before[1:] = 0, kinds[:-1]
    run = kinds == _WORD
    was_run = before == _WORD
    single = kinds == _SINGLE
    was_single = before == _SINGLE
    starts = np.flatnonzero((run & ~was_run) | single)
    # The last code is a line break, so that every word ends within the array.
    ends = np.flatnonzero((was_run & ~run) | was_single)
    return starts, ends


def _spans(codes: NDArray[np.generic], starts: Ints, ends: Ints) -> Hashes:
    """The polynomial of each span: sum over its codes c_k of (c_k + 1) * base^k."""
    powers, inverse = _powers(1 << int(len(codes) - 1).bit_length())
    sums = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum((codes.astype(np.uint64) + np.uint64(1)) * powers[: len(codes)], out=sums[1:])
    return (sums[ends] - sums[starts]) * inverse[starts]


@cache
def _kinds() -> NDArray[np.uint8]:
    table = np.zeros(_TABLE_SIZE + 1, np.uint8)
    for code in range(_TABLE_SIZE):
        if unicodedata.category(chr(code))[0] in "LMN":
            table[code] = _WORD
    for low, high in _SINGLES:
        table[low : high + 1][table[low : high + 1] == _WORD] = _SINGLE
    table[_TABLE_SIZE] = _SINGLE
    return table


@cache
def _powers(size: int) -> tuple[Hashes, Hashes]:
    both = []
    for base in (MULTIPLIER, _INVERSE):
        powers = np.full(size, base, np.uint64)
        powers[0] = 1
        both.append(np.cumprod(powers))
    return both[0], both[1]


def _offsets(ends: Ints) -> Ints:
    return np.concatenate([np.zeros(1, np.int64), ends])
