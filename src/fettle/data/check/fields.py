"""Fields that hold what belongs in the other: prompt and answer swapped, the answer in the prompt.

In: examples. Out: findings. Must not know: models, splits.

Swapped: a naive Bayes of the first words, their number and the last character tells prompts from
answers of this very set; a row is reported where both of its sides look like the other one. Where
the two cannot be told apart (paraphrases, small talk), nothing is said.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Final

from fettle.data.check.places import shown
from fettle.data.deduplicate import normal_text
from fettle.records.rows import Example, Finding

_NUM_WORDS: Final = 16
_MIN_ROWS: Final = 50
_TELLABLE: Final = 0.93
"""Share of rows whose sides must be told apart before any is said to be swapped."""
_MARGIN: Final = 2.0
"""How much likelier, in nats, each side must be as the other one."""
_MOST_COUNTED: Final = 20_000
_USUAL: Final = 20
"""Rows in which a feature stands from which its weight is taken as the same for all rows."""
_MIN_ANSWER: Final = 20
_EXTRACTIVE: Final = 0.15
"""Beyond this share of rows, answers are meant to be found in their prompts."""
_TOLD = (
    r"(?:answer|solution|output|response|gold|label|result|category|intent|class|sentiment|target)"
    r"\W{0,3}(?:is|:|=|->)\W{0,4}"
)


@dataclass(frozen=True, slots=True)
class Sides:
    """What prompts and answers of a set look like."""

    counts: tuple[Counter[str], Counter[str]]
    """In how many prompts, and in how many answers, each feature stands."""
    weights: Mapping[str, float]
    """Log likelihood ratio of prompt to answer, of every feature that was counted."""
    step: int
    """Every so many of the set's conversations were counted."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What some rows show by themselves."""

    told_apart: int
    """Rows whose prompt looks more like a prompt than their answer does."""
    swapped: Sequence[int]
    """Rows that look swapped, by their place among these."""
    given_away: Sequence[tuple[int, bool, str]]
    """(place, whether the answer is announced, evidence) of rows whose prompt holds the answer."""


def find(
    examples: Sequence[Example],
    sides: Sides | None = None,
    seen: Sequence[tuple[int, Seen]] | None = None,
) -> list[Finding]:
    """swapped_fields and answer_in_prompt warnings.

    Args:
        examples: all rows.
        sides: ``sides_of`` them, where that was done before.
        seen: ``look`` at parts of them, each with the place where it begins, where that was done.
    """
    if seen is None:
        sides = sides_of(examples)
        seen = [(0, look(examples, sides, 0))]
    return [*_swapped(examples, sides, seen), *_answers_in_prompts(examples, seen)]


def sides_of(examples: Sequence[Example]) -> Sides | None:
    """What tells the prompts of a set from its answers; None for few conversations, or texts."""
    chats = [example for example in examples if example.messages]
    if len(chats) < _MIN_ROWS or len(chats) < len(examples):
        return None
    step = max(1, len(chats) // _MOST_COUNTED)
    counts: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for example in chats[::step]:
        for side, text in zip(counts, _pair(example), strict=True):
            side.update(_features(text))
    weights = {
        feature: log((counts[0][feature] + 0.5) / (counts[1][feature] + 0.5))
        for feature in (counts[0] | counts[1])
    }
    return Sides(counts, weights, step)


def look(examples: Sequence[Example], sides: Sides | None, start: int) -> Seen:
    """What each row shows by itself: the part that may be done chunk by chunk.

    Args:
        examples: some rows of a set.
        sides: of the whole set.
        start: the place of the first of them in the set.
    """
    told_apart = 0
    swapped: list[int] = []
    given_away: list[tuple[int, bool, str]] = []
    for place, example in enumerate(examples):
        hit = _given_away(example)
        if hit is not None:
            given_away.append((place, *hit))
        if sides is None:
            continue
        counted = (start + place) % sides.step == 0
        asked, answer = _pair(example)
        given = _looks_like_prompt(_features(asked), sides, 0 if counted else None)
        answered = _looks_like_prompt(_features(answer), sides, 1 if counted else None)
        told_apart += given > answered
        looks_swapped = given < -_MARGIN and answered > _MARGIN
        if looks_swapped and all(_known(text, sides.counts) for text in (asked, answer)):
            swapped.append(place)
    return Seen(told_apart, swapped, given_away)


def _pair(example: Example) -> tuple[str, str]:
    """The first prompt and its answer."""
    asked = next((turn.content for turn in example.messages if turn.role == "user"), "")
    answer = next((turn.content for turn in example.messages if turn.role == "assistant"), "")
    return asked, answer


def _features(text: str) -> list[str]:
    words = text[: 12 * _NUM_WORDS].lower().split()[:_NUM_WORDS]
    signs = [f"\0length {len(text).bit_length()}", f"\0last {text.rstrip()[-1:]!r}"]
    signs += [f"\0first {words[0]}"] if words else []
    return [
        *set(words),
        *signs,
        f"\0question {'?' in text}",
        f"\0lines {min(text.count(chr(10)), 3)}",
    ]


def _swapped(
    examples: Sequence[Example], sides: Sides | None, seen: Sequence[tuple[int, Seen]]
) -> list[Finding]:
    told_apart = sum(one.told_apart for _, one in seen)
    if sides is None or told_apart < _TELLABLE * len(examples):
        return []
    chats = [examples[start + place] for start, one in seen for place in one.swapped]
    return [
        example.finding(
            "swapped_fields",
            "warning",
            "the prompt looks like the set's answers and the answer like its prompts:"
            f" {shown(_pair(example)[1], 0, 60)}",
            "swap them, or leave the row out",
        )
        for example in chats
    ]


def _known(text: str, counts: tuple[Counter[str], Counter[str]]) -> bool:
    """Whether most words of a text come up elsewhere in the set: a foreign row is not swapped."""
    words = [feature for feature in _features(text) if feature[0] != "\0"]
    known = sum(counts[0][word] + counts[1][word] > 2 for word in words)
    return known >= 0.5 * len(words)


def _looks_like_prompt(features: Sequence[str], sides: Sides, own: int | None) -> float:
    """Log likelihood ratio of prompt to answer, this row's own counts taken out."""
    weights = sides.weights
    if own is None:
        return sum([weights.get(feature, 0.0) for feature in features])
    score = 0.0
    prompts, answers = sides.counts
    for feature in features:
        given, answered = prompts.get(feature, 0), answers.get(feature, 0)
        if given + answered >= _USUAL:
            score += weights[feature]  # one row more or less does not change what is usual
        else:
            score += log((given - (own == 0) + 0.5) / (answered - (own == 1) + 0.5))
    return score


def _given_away(example: Example) -> tuple[bool, str] | None:
    """(whether the answer is announced, evidence) where what is given holds it."""
    if example.text is not None:
        if example.target is None or not _is_told(example.text, example.target):
            return None
        return True, f"the text says its label: {shown(example.text, 0, 60)}"
    asked = "\n".join(turn.content for turn in example.messages[:-1] if turn.role == "user")
    answer = example.messages[-1].content.strip()
    if not answer or not asked:
        return None
    if _contains(asked, answer):
        return False, f"the prompt holds the whole answer: {shown(answer, 0, 60)}"
    if _is_told(asked, answer):
        return True, f"the prompt ends with its answer: {shown(answer, 0, 60)}"
    return None


def _answers_in_prompts(
    examples: Sequence[Example], seen: Sequence[tuple[int, Seen]]
) -> list[Finding]:
    found = [
        (examples[start + place], told, evidence)
        for start, one in seen
        for place, told, evidence in one.given_away
    ]
    contained = sum(not told for _, told, _ in found)
    extractive = contained > max(_EXTRACTIVE * len(examples), 5)
    return [
        example.finding(
            "answer_in_prompt",
            "warning",
            evidence,
            "take the answer out of the prompt, or leave the row out",
        )
        for example, told, evidence in found
        if told or not extractive
    ]


def _contains(asked: str, answer: str) -> bool:
    """Whether a prompt holds an answer of some length, and something else besides."""
    if len(answer) < _MIN_ANSWER or len(answer) >= len(asked) or answer.count(" ") < 3:
        return False
    if answer in asked:
        return True
    # Spaces and case apart: the first words decide whether the rest is looked at.
    head = " ".join(answer.split(None, 3)[:3]).lower()
    return head in asked.lower() and normal_text(answer) in normal_text(asked)


def _is_told(asked: str, answer: str) -> bool:
    """Whether a prompt ends with "Answer: <the answer>"."""
    if len(answer) > 400 or not answer.strip():
        return False
    tail = asked.rstrip().rstrip(".")[-len(answer) - 40 :]
    plain = answer.rstrip(".")
    if not tail.lower().endswith(plain.lower()):
        return False
    before = tail[: len(tail) - len(plain)]
    return re.search(_TOLD + "$", before, re.IGNORECASE) is not None
