"""Texts that are alike but for the slots of a template: another number, name, date or place.

In: two texts. Out: whether they say different things in the same words. Must not know: rows.

"Where is order 51?" and "Where is order 62?" are two questions, however many words they share, and
so are two calculations with other numbers. Two texts are of one template when somewhere a number
(or a code with a digit in it) stands in place of another one, or when all that differs are such
pairs of months, weekdays, number words or names: words with a capital inside a sentence.
What can't be seen: a name in a text without capitals.
"""

import re
from collections import Counter
from collections.abc import Collection
from difflib import SequenceMatcher

_WORD = re.compile(r"\w+")
_THOUSANDS = re.compile(r"(?<=\d)[.,](?=\d{3}\b)")
_SENTENCE_END = re.compile(r"[.!?:\n\"'(\[]\s*$")
_LISTED = frozenset(
    (
        *("january", "february", "march", "april", "may", "june", "july", "august"),
        *("september", "october", "november", "december"),
        *("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"),
        *("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
        *("eleven", "twelve", "first", "second", "third", "fourth", "fifth", "sixth"),
        *("seventh", "eighth", "ninth", "tenth"),
    )
)
_MAX_SLOT = 4
"""A slot is at most so many words."""
_MAX_DIFFERENT = 8
"""Where more words than this are of one text only, more than names differ."""
_MAX_NAMES = 0.5
"""Where more of the words inside sentences have a capital, capitals mark no names."""
_MAX_CHARACTERS = 10_000
"""Of longer texts the beginnings are compared."""
_MAX_WORDS = 300
"""So many words from the first that differs are laid beside each other: that takes their square."""


def same_template(one: str, two: str) -> bool:
    """Whether the texts differ in what a template leaves open."""
    one, two = (_THOUSANDS.sub("", text[:_MAX_CHARACTERS]) for text in (one, two))
    left, right = _WORD.findall(one.lower()), _WORD.findall(two.lower())
    count_left, count_right = Counter(left), Counter(right)
    only_left, only_right = count_left - count_right, count_right - count_left
    if not only_left or not only_right:
        return False
    numbers = any(map(_has_digit, only_left)) and any(map(_has_digit, only_right))
    if numbers and sum(map(_has_digit, left)) == sum(map(_has_digit, right)):
        return True
    left_open = _LISTED | _names(one, only_left)
    right_open = _LISTED | _names(two, only_right)
    names = all(_has_digit(word) or word in left_open for word in only_left) and all(
        _has_digit(word) or word in right_open for word in only_right
    )
    if not numbers and not names:
        return False
    others = False
    left, right = _differing(left, right)
    is_cut = max(len(left), len(right)) > _MAX_WORDS
    left, right = left[:_MAX_WORDS], right[:_MAX_WORDS]
    matcher = SequenceMatcher(None, left, right, autojunk=False)
    for how, a, b, c, d in matcher.get_opcodes():
        # What stands at the cut may have its counterpart behind it.
        if how == "equal" or (is_cut and (b == len(left) or d == len(right))):
            continue
        slot = how == "replace" and max(b - a, d - c) <= _MAX_SLOT
        if slot:
            old, new = _number(left[a:b]), _number(right[c:d])
            if old and new and old != new:
                return True
            slot = all(_has_digit(word) or word in left_open for word in left[a:b]) and all(
                _has_digit(word) or word in right_open for word in right[c:d]
            )
        others |= not slot
    return not others


def _differing(left: list[str], right: list[str]) -> tuple[list[str], list[str]]:
    """The words between what the two begin with and what they end in."""
    shorter = min(len(left), len(right))
    start = next((i for i in range(shorter) if left[i] != right[i]), shorter)
    room = shorter - start
    end = next((i for i in range(room) if left[-1 - i] != right[-1 - i]), room)
    return left[start : len(left) - end], right[start : len(right) - end]


def _names(text: str, words: Collection[str]) -> set[str]:
    """The words that have a capital inside a sentence, where not most words have one."""
    if len(words) > _MAX_DIFFERENT or not any(word.capitalize() in text for word in words):
        return set()
    names, num_words, num_capitals = set(), 0, 0
    for found in _WORD.finditer(text):
        num_words += 1
        word, start = found[0], found.start()
        if len(word) < 2 or not start or not word[0].isupper():
            continue
        if not _SENTENCE_END.search(text, max(0, start - 4), start):
            num_capitals += 1
            names.add(word.lower())
    return names if num_capitals <= _MAX_NAMES * num_words else set()


def _has_digit(word: str) -> bool:
    return any(map(str.isdigit, word))


def _number(words: list[str]) -> str:
    """The words with digits as one."""
    return "".join(filter(_has_digit, words))
