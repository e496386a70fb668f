"""Which rows are worth a closer look: all texts of a chunk are searched at once.

In: examples, and words or a pattern of which one must stand in a text for a check to find anything.
Out: the examples that hold one. Must not know: findings.

A screen only leaves out what the closer look would leave out too, so that it may let too much
through but never too little. Searching a column of texts takes a microsecond a row for all words
together, where a loop over words takes that for each.
"""

import re
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fettle.data.calls import call_texts
from fettle.records.rows import Example

Mask = NDArray[np.bool_]


class Screen:
    """The texts of some examples, ready to be searched.

    Args:
        examples: all rows of a chunk.
    """

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = examples
        owners: list[int] = []
        self._texts: list[str] = []
        for row, example in enumerate(examples):
            if example.text is not None:
                owners.append(row)
                self._texts.append(example.text)
                continue
            for turn in example.messages:
                if turn.content:
                    owners.append(row)
                    self._texts.append(turn.content)
            inside = [text for _, text in call_texts(example)]
            owners.extend([row] * len(inside))
            self._texts.extend(inside)
        self._owners = np.array(owners, np.int64)

    def with_words(self, words: Sequence[str], any_case: bool = False) -> Mask:
        """[texts] those in which one of the words stands.

        Args:
            words: what is sought; in lower case if ``any_case``.
            any_case: search the texts in lower case (``str.lower``).
        """
        column = self._lower if any_case else self._column
        return _found(column, "|".join(map(re.escape, words)))

    def with_pattern(self, pattern: str) -> Mask:
        """[texts] those that hold a pattern, in the syntax of RE2.

        Its classes (``\\d``, ``\\s``, ``\\w``) and borders of words are those of ASCII alone.
        """
        return _found(self._column, pattern)

    def shorter_than(self, size: int) -> Mask:
        """[texts] those of fewer characters."""
        return self._sizes < size

    def rows(self, texts: Mask) -> list[int]:
        """The rows with one of these texts, in their order."""
        return list(map(int, np.unique(self._owners[texts])))

    def examples(self, texts: Mask) -> list[Example]:
        """The examples with one of these texts, in their order."""
        return [self._examples[row] for row in self.rows(texts)]

    @cached_property
    def _column(self) -> pa.Array:
        return _column(self._texts)

    @cached_property
    def _lower(self) -> pa.Array:
        return _column([text.lower() for text in self._texts])

    @cached_property
    def _sizes(self) -> NDArray[np.int64]:
        return np.fromiter(map(len, self._texts), np.int64, len(self._texts))

    @cached_property
    def beyond_ascii(self) -> Mask:
        """[texts] those with a character beyond ASCII."""
        return ~np.fromiter(map(str.isascii, self._texts), bool, len(self._texts))


def _found(column: pa.Array, pattern: str) -> Mask:
    return np.asarray(pc.match_substring_regex(column, pattern), bool)


def _column(texts: list[str]) -> pa.Array:
    try:
        return pa.array(texts, pa.large_string())
    except UnicodeEncodeError:
        # Halves of surrogate pairs, in texts that were not repaired; nothing sought holds one.
        whole = (t.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for t in texts)
        return pa.array(list(whole), pa.large_string())
