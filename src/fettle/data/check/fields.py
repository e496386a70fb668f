"""Fields that hold what belongs in the other: prompt and answer swapped, the answer in the prompt.

In: examples. Out: findings. Must not know: models, splits.

Swapped: a naive Bayes of the first words, their number and the last character tells prompts from
answers of this very set; a row is reported where both of its sides look like the other one. Where
the two cannot be told apart (paraphrases, small talk), nothing is said.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
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


def find(examples: Sequence[Example]) -> list[Finding]:
    """swapped_fields and answer_in_prompt warnings."""
    return [*_swapped(examples), *_answers_in_prompts(examples)]


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


def _swapped(examples: Sequence[Example]) -> list[Finding]:
    chats = [example for example in examples if example.messages]
    if len(chats) < _MIN_ROWS:
        return []
    pairs = [tuple(map(_features, _pair(example))) for example in chats]
    step = max(1, len(pairs) // _MOST_COUNTED)
    counts: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for pair in pairs[::step]:
        for side in (0, 1):
            counts[side].update(pair[side])
    weights = {
        feature: log((count + 0.5) / (counts[1][feature] + 0.5))
        for feature, count in counts[0].items()
        if count + counts[1][feature] >= _USUAL
    } | {
        feature: log((counts[0][feature] + 0.5) / (count + 0.5))
        for feature, count in counts[1].items()
        if count + counts[0][feature] >= _USUAL
    }
    scores = [
        tuple(
            _looks_like_prompt(features, weights, counts, side if number % step == 0 else None)
            for side, features in enumerate(pair)
        )
        for number, pair in enumerate(pairs)
    ]
    told_apart = sum(given > answered for given, answered in scores)
    if told_apart < _TELLABLE * len(scores):
        return []
    return [
        example.finding(
            "swapped_fields",
            "warning",
            "the prompt looks like the set's answers and the answer like its prompts:"
            f" {shown(_pair(example)[1], 0, 60)}",
            "swap them, or leave the row out",
        )
        for example, (given, answered) in zip(chats, scores, strict=True)
        if given < -_MARGIN
        and answered > _MARGIN
        and all(_known(text, counts) for text in _pair(example))
    ]


def _known(text: str, counts: tuple[Counter[str], Counter[str]]) -> bool:
    """Whether most words of a text come up elsewhere in the set: a foreign row is not swapped."""
    words = [feature for feature in _features(text) if feature[0] != "\0"]
    known = sum(counts[0][word] + counts[1][word] > 2 for word in words)
    return known >= 0.5 * len(words)


def _looks_like_prompt(
    features: Sequence[str],
    weights: Mapping[str, float],
    counts: tuple[Counter[str], Counter[str]],
    own: int | None,
) -> float:
    """Log likelihood ratio of prompt to answer, this row's own counts taken out."""
    score = 0.0
    for feature in features:
        weight = weights.get(feature)
        if weight is not None:
            score += weight  # one row more or less does not change what is usual
            continue
        given = counts[0][feature] - (own == 0)
        answered = counts[1][feature] - (own == 1)
        score += log((given + 0.5) / (answered + 0.5))
    return score


def _answers_in_prompts(examples: Sequence[Example]) -> list[Finding]:
    found: list[tuple[Example, bool, str]] = []
    for example in examples:
        if example.text is not None:
            told = example.target is not None and _is_told(example.text, example.target)
            if told:
                found.append(
                    (example, True, f"the text says its label: {shown(example.text, 0, 60)}")
                )
            continue
        asked = "\n".join(turn.content for turn in example.messages[:-1] if turn.role == "user")
        answer = example.messages[-1].content.strip()
        if not answer or not asked:
            continue
        if _contains(asked, answer):
            found.append(
                (example, False, f"the prompt holds the whole answer: {shown(answer, 0, 60)}")
            )
        elif _is_told(asked, answer):
            found.append(
                (example, True, f"the prompt ends with its answer: {shown(answer, 0, 60)}")
            )
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
