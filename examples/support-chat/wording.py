"""Phrases with choices and slots, ways of typing, and what is too near to something said before.

In: lines of `phrases.toml`, values for their slots, dice. Out: texts, and sets of shingles. Must
not know: the company and its facts.
"""

import math
import random
import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any, TypeVar

T = TypeVar("T")
SLOT = re.compile(r"\{(\w+)\}")
CHOICE = re.compile(r"\[([^\[\]]*)\]")
GUARD = re.compile(r"<([\w,]+)> ")


class Dice:
    """Choices from random() alone, whose sequence for a seed is the same in every Python."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random

    def below(self, number: int) -> int:
        """A whole number from 0 to number - 1."""
        return int(self._random() * number)

    def chance(self, share: float) -> bool:
        """True in this share of the calls."""
        return self._random() < share

    def one(self, values: Sequence[T]) -> T:
        """One of the values, each as likely."""
        return values[self.below(len(values))]

    def some(self, values: Sequence[T], number: int) -> list[T]:
        """Up to that many different ones of the values, in a drawn order."""
        rest = list(values)
        return [rest.pop(self.below(len(rest))) for _ in range(min(number, len(rest)))]


def lines_for(text: str, context: dict[str, str]) -> list[str]:
    """The lines of a block whose guard, if any, names the bike, plan or kind of customer."""
    known = {context["bike"], context["plan"], context["who"]}
    found = []
    for line in text.strip().splitlines():
        guard = GUARD.match(line)
        if guard is None:
            found.append(line)
        elif known & set(guard[1].split(",")):
            found.append(line[guard.end() :])
    return found


def spoken(line: str, context: dict[str, str], dice: Dice) -> str:
    """One wording of a line, with its slots filled and a capital at its beginning."""
    while (choice := CHOICE.search(line)) is not None:
        line = line[: choice.start()] + dice.one(choice[1].split("|")) + line[choice.end() :]
    line = " ".join(SLOT.sub(lambda slot: context[slot[1]], line).split())
    return re.sub(r" (?=[.,;:?!])", "", line)  # an empty choice leaves its space


def upper_first(text: str) -> str:
    return text[:1].upper() + text[1:]


def lower_first(text: str, kept: Collection[str]) -> str:
    """The text as it goes on after a comma or a colon: "I" and what is kept keep their capital."""
    word = re.split(r"[^\w-]", text, maxsplit=1)[0]
    return text if word in kept or word == "I" else text[:1].lower() + text[1:]


def jaccard(one: set[Any], other: set[Any]) -> float:
    """Shared members by all members."""
    both = len(one & other)
    return both / (len(one) + len(other) - both)


class Seen:
    """Sets of shingles, and whether a new one overlaps any of them too much."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.sets: list[set[Any]] = []
        self.holders: defaultdict[object, list[int]] = defaultdict(list)

    def near(self, shingles: set[Any]) -> bool:
        """Whether the Jaccard similarity to one of the sets reaches the limit.

        A set that is near shares limit x size shingles at least, so it holds one of any others.
        """
        rarest = sorted(shingles, key=lambda shingle: len(self.holders.get(shingle, ())))
        others = rarest[: len(rarest) - math.ceil(self.limit * len(rarest)) + 1]
        found = {number for shingle in others for number in self.holders.get(shingle, ())}
        most, size = len(shingles) / self.limit, len(shingles) * self.limit
        return any(
            jaccard(shingles, self.sets[number]) >= self.limit
            for number in found
            if size <= len(self.sets[number]) <= most
        )

    def add(self, shingles: set[Any]) -> None:
        """Remembers a set."""
        for shingle in shingles:
            self.holders[shingle].append(len(self.sets))
        self.sets.append(shingles)


def pieces(text: str) -> set[str]:
    """The 5-grams of characters, without case and with single spaces."""
    text = " ".join(text.lower().split())
    return {text[i : i + 5] for i in range(max(1, len(text) - 4))}


def word_pairs(texts: Sequence[str]) -> set[tuple[str, str]]:
    """The pairs of neighbouring words of a conversation."""
    words = re.findall(r"\w+", " ".join(texts).lower())
    return set(pairwise(words))


def tired(text: str, dice: Dice) -> str:
    """One or two typing errors in ordinary words."""
    words = text.split(" ")
    places = [i for i, w in enumerate(words) if len(w) > 4 and w.isascii() and w.isalpha()
              and w[0].islower()]  # fmt: skip
    for place in dice.some(places, 1 + dice.below(2)):
        word = words[place]
        at = 1 + dice.below(len(word) - 2)
        words[place] = dice.one(
            (
                word[:at] + word[at + 1] + word[at] + word[at + 2 :],
                word[:at] + word[at + 1 :],
                word[:at] + word[at] + word[at:],
            )
        )
    return " ".join(words)


def in_style(text: str, style: str, dice: Dice) -> str:
    """The text as this customer types."""
    if style == "lower":
        return text.lower().rstrip(".")
    text = upper_first(text)
    if style == "tired":
        return tired(text, dice)
    return text
