"""Rows that contradict each other: the same text, or nearly, with another answer.

In: examples, their input keys, pairs of inputs that are nearly the same. Out: findings, one for
each row that has an opponent. Must not know: how pairs are found, splits.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from typing import Final

import numpy as np

from fettle.data.deduplicate import normal_text
from fettle.records.rows import Example, Finding

NEAR: Final = 0.85
"""Inputs this alike (Jaccard) ask the same."""
UNLIKE: Final = 0.2
"""Answers less alike than this have nothing in common."""
MIN_ANSWERED_WORDS: Final = 4
"""Shorter prompts ("hello") have many good answers."""
NUMBERS_APART: Final = 0.5
"""Numbers of nearly the same text contradict each other from this many standard deviations on."""

_MAX_RELATED = 20
_GROUP = 20
"""Of more rows with one input, each is compared with so many only: one of each answer first."""
_SHORT_ANSWER = 25
_NEGATION = frozenset({"not", "no", "never", "without", "cannot", "nor", "none", "neither"})
_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_FINAL = re.compile(r"####\s*(-?\d[\d,]*(?:\.\d+)?)")
_YES_NO = re.compile(r"\W*(yes|no)\b")

KeyPair = tuple[str, str, float]
"""Two input keys and how alike their texts are."""


def find(
    examples: Sequence[Example], keys: Sequence[str], near: Iterable[KeyPair] = ()
) -> list[Finding]:
    """label_conflict for each row that another one contradicts.

    Args:
        examples: rows; those without target are passed over.
        keys: their input keys (``deduplicate.input_key``), in the same order.
        near: pairs of inputs that may be nearly the same; each is compared again here.
    """
    by_key: dict[str, list[Example]] = {}
    for example, key in zip(examples, keys, strict=True):
        if example.target is not None:
            by_key.setdefault(key, []).append(example)
    numbers = [e.number for rows in by_key.values() for e in rows if e.number is not None]
    spread = float(np.std(numbers)) if numbers else 0.0
    opponents: dict[str, dict[str, Example]] = {}
    said = _Said()
    some = {key: _some(rows) for key, rows in by_key.items()}
    for key, rows in by_key.items():
        if len({row.target for row in rows}) > 1:
            for one in rows:
                for other in some[key]:
                    if one is not other and _contradict(one, other, 0.0, said):
                        opponents.setdefault(one.row_id, {})[other.row_id] = other
    nearly = set()
    for left, right, _ in near:
        against = [
            (one, other)
            for one in some.get(left, ())
            for other in some.get(right, ())
            if left != right and _contradict(one, other, NUMBERS_APART * spread, said)
        ]
        # The rows of a key have one input.
        if against and ask_the_same(*against[0]):
            for one, other in against:
                opponents.setdefault(one.row_id, {})[other.row_id] = other
                opponents.setdefault(other.row_id, {})[one.row_id] = one
                nearly |= {one.row_id, other.row_id}
    return [
        _finding(example, list(opponents[example.row_id].values()), example.row_id in nearly)
        for rows in by_key.values()
        for example in rows
        if example.row_id in opponents
    ]


def ask_the_same(one: Example, other: Example) -> bool:
    """Whether two inputs are the same but for words that change nothing.

    Inputs with other numbers or another negation ask something else, however alike they are.
    """
    left, right = _input(one), _input(other)
    if left == right:
        return True
    if sorted(_NUMBER.findall(left)) != sorted(_NUMBER.findall(right)):
        return False
    first, second = set(_WORD.findall(left)), set(_WORD.findall(right))
    if any(word in _NEGATION or word.endswith("n't") for word in first ^ second):
        return False
    if left.count("n't") != right.count("n't"):
        return False
    return max(_jaccard(first, second), _jaccard(_runs(left), _runs(right))) >= NEAR


def _some(rows: Sequence[Example]) -> list[Example]:
    """The rows that others with this input are compared with, whatever their order."""
    if len(rows) == 1:
        return list(rows)
    seen: Counter[str | None] = Counter()
    ranked = []
    for row in sorted(rows, key=lambda row: row.row_id):
        ranked.append((seen[row.target], row.row_id, row))
        seen[row.target] += 1
    return [row for _, _, row in sorted(ranked, key=lambda item: item[:2])[:_GROUP]]


@dataclass(frozen=True, slots=True)
class _Answer:
    """What an answer says, as far as it is compared."""

    text: str
    words: frozenset[str]
    yes_no: str | None
    number: str | None


class _Said(dict[str, _Answer]):
    """Answers, each looked at once."""

    def __missing__(self, target: str) -> _Answer:
        text = normal_text(target)
        words = frozenset(_WORD.findall(text))
        self[target] = _Answer(text, words, _yes_no(text), _final_number(text))
        return self[target]


def _contradict(one: Example, other: Example, apart: float, said: _Said) -> bool:
    """Whether two answers to one question can't both be right.

    Args:
        one: a row with a target.
        other: the same.
        apart: numbers that differ by no more than this agree.
        said: answers that were looked at.
    """
    if one.number is not None and other.number is not None:
        return abs(one.number - other.number) > apart
    if one.text is not None:
        return one.target != other.target
    left, right = said[one.target or ""], said[other.target or ""]
    if left.text == right.text:
        return False
    if left.yes_no is not None and right.yes_no is not None:
        return left.yes_no != right.yes_no
    if left.number is not None and right.number is not None:
        return left.number != right.number
    if _jaccard(left.words, right.words) >= UNLIKE:
        return False
    return len(_WORD.findall(_input(one))) >= MIN_ANSWERED_WORDS


def _yes_no(answer: str) -> str | None:
    found = _YES_NO.match(answer)
    return found.group(1) if found else None


def _final_number(answer: str) -> str | None:
    """The number that an answer ends in, where it is marked or the answer is short."""
    marked = _FINAL.search(answer)
    if marked:
        return marked.group(1).replace(",", "")
    numbers = _NUMBER.findall(answer)
    if not numbers or len(_WORD.findall(answer)) > _SHORT_ANSWER:
        return None
    return str(numbers[-1]).replace(",", "").rstrip(".")


def _input(example: Example) -> str:
    if example.text is not None:
        return normal_text(example.text)
    return normal_text("\n".join(turn.content for turn in example.messages[:-1]))


def _runs(text: str) -> set[str]:
    return {text[i : i + 4] for i in range(max(len(text) - 3, 1))}


def _jaccard(one: Set[str], other: Set[str]) -> float:
    return len(one & other) / len(one | other) if one or other else 1.0


def _finding(example: Example, others: Sequence[Example], nearly: bool) -> Finding:
    related = tuple(other.row_id for other in others)[:_MAX_RELATED]
    same = "nearly the same text" if nearly else "the same text"
    if example.text is None:
        return example.finding(
            "label_conflict",
            "warning",
            f"{same} has an answer that contradicts this one",
            "decide for one answer",
            related,
        )
    targets = sorted({other.target or "" for other in [example, *others]})
    return example.finding(
        "label_conflict",
        "warning",
        f"{same} has the labels {', '.join(map(repr, targets[:5]))}",
        "decide for one label; until then the rows stay on one side of the split",
        related,
    )
