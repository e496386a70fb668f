"""Whether a text says all that it was asked to say: slots and their values.

The input holds a meaning representation, alone or within a prompt:

    name[The Punter], food[Indian], familyFriendly[yes]            (E2E)
    inform(name=caerus 63;type=television;hasusbport=true)         (RNNLG)

In: predictions with ``input``. Out: metrics. Must not know: models, domains.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fettle.errors import UsageError
from fettle.metrics.metric import Graded, Metric, graded_metric, shown, text_of
from fettle.records.outcomes import Prediction

BRACKETS = re.compile(r"(\w+)\[([^\[\]]*)\]")
ACT = re.compile(r"\b(\w+)\(([^()]*)\)")
CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
WORD = re.compile(r"[^\W_]+|[+£$€¥%°#]")
YES, NO = {"yes", "true"}, {"no", "false"}
NOTHING = {"", "?", "dontcare", "dont_care", "none"}
"""Values that no text need say."""
NEGATIONS = {"no", "not", "non", "without", "isn", "aren", "doesn", "don", "never", "lacks", "t"}

Synonyms = Mapping[str, Mapping[str, list[str]]]
"""Slot -> value -> other ways to say it."""


@dataclass(frozen=True, slots=True)
class Realised:
    """What became of the slots of one row."""

    num_slots: int
    missing: tuple[str, ...]
    inserted: tuple[str, ...]
    """Values of other rows' slots that this text names without being asked to."""


def slot_coverage(synonyms: str = "") -> Metric:
    """Share of a row's slot values that its text says; the mean over rows.

    A value is said when its words occur one after the other, whatever their case and punctuation;
    a slot of yes or no when the slot's name does (``familyFriendly``: "family friendly"), or a
    synonym of its yes, with a negation within the four words before for no.

    Args:
        synonyms: JSON file of other ways to say values, {"slot": {"value": ["other", …]}}.

    Raises:
        UsageError: E1002, the file holds no such object.
    """
    known, digest = _synonyms(synonyms)

    def grade(row: Prediction) -> Graded:
        found = realised(row.input or "", text_of(row), known)
        if not found.num_slots:
            return Graded(None, "no slot with a value in its input")
        share = 1.0 - len(found.missing) / found.num_slots
        return Graded(share, _reason(found))

    return graded_metric("slot_coverage", grade, settings=f"synonyms:{digest}", also=("input",))


def slot_error_rate(synonyms: str = "") -> Metric:
    """Missing and inserted slot values of a row by the number of its slots; the mean over rows.

    Inserted are values that the synonyms list for slots that the row does not have, or as another
    value of one that it has; without a list of synonyms only missing ones can be seen.

    Args:
        synonyms: JSON file, {"slot": {"value": ["other way to say it", …]}}; it also names the
            values that may be inserted.

    Raises:
        UsageError: E1002, the file holds no such object.

    Source: Wen et al. 2015 (the slot error rate of RNNLG).
    """
    known, digest = _synonyms(synonyms)

    def grade(row: Prediction) -> Graded:
        found = realised(row.input or "", text_of(row), known)
        if not found.num_slots:
            return Graded(None, "no slot with a value in its input")
        errors = len(found.missing) + len(found.inserted)
        return Graded(errors / found.num_slots, _reason(found))

    return graded_metric(
        "slot_error_rate",
        grade,
        higher_is_better=False,
        unit="number",
        span=None,
        settings=f"synonyms:{digest}",
        also=("input",),
    )


def slots_of(text: str) -> list[tuple[str, str]]:
    """Slots and values in a meaning representation, in order; values in brackets, or act(a=b;c=d).

    Args:
        text: the representation, with other text around it or not.
    """
    found = [(name, value.strip()) for name, value in BRACKETS.findall(text)]
    if found:
        return [(name, value) for name, value in found if value.casefold() not in NOTHING]
    for _, inside in ACT.findall(text):
        for part in inside.split(";"):
            name, equals, value = part.partition("=")
            value = value.strip().strip("'\"")
            if equals and name.strip() and value.casefold() not in NOTHING:
                found.append((name.strip(), value))
    return found


def realised(source: str, text: str, synonyms: Synonyms) -> Realised:
    """Which slots of an input a text says.

    Args:
        source: holds the meaning representation.
        text: the answer.
        synonyms: slot -> value -> other ways to say it.
    """
    slots = slots_of(source)
    words = _words(text)
    missing = [
        f"{name}={value}" for name, value in slots if not _said(name, value, words, synonyms)
    ]
    # What is asked for may be said in the words of another slot: that is no insertion.
    wanted = {part for name, value in slots for part in _ways(name, value, synonyms)}
    given = {name for name, _ in slots}
    inserted = []
    for name, values in synonyms.items():
        for value, others in values.items():
            if (name, value) in slots or (name in given and value.casefold() in YES | NO):
                continue
            ways = {tuple(_words(way)) for way in others} - {()}
            if any(_occurs(way, words) and not _part_of(way, wanted) for way in ways):
                inserted.append(f"{name}={value}")
    return Realised(len(slots), tuple(missing), tuple(inserted))


def _said(name: str, value: str, words: list[str], synonyms: Synonyms) -> bool:
    if any(_occurs(way, words) for way in _ways(name, value, synonyms)):
        return True
    kind = value.casefold()
    if kind not in YES | NO:
        return False
    label = CAMEL.sub(" ", name).replace("_", " ")
    positive = [way for value in YES for way in synonyms.get(name, {}).get(value, [])]
    for way in (label, *positive):
        for start in _places(tuple(_words(way)), words):
            denied = not NEGATIONS.isdisjoint(words[max(0, start - 4) : start])
            if denied == (kind in NO):
                return True
    return False


def _ways(name: str, value: str, synonyms: Synonyms) -> set[tuple[str, ...]]:
    others = synonyms.get(name, {}).get(value, [])
    kind = value.casefold()
    # Of a yes only what stands without a negation before it tells: ``_said`` looks at that.
    said = [] if kind in YES else others if kind in NO else [value, *others]
    return {tuple(_words(way)) for way in said} - {()}


def _words(text: str) -> list[str]:
    return WORD.findall(text.casefold())


def _places(part: tuple[str, ...], words: list[str]) -> list[int]:
    size = len(part)
    if not size:
        return []
    return [i for i in range(len(words) - size + 1) if tuple(words[i : i + size]) == part]


def _occurs(part: tuple[str, ...], words: list[str]) -> bool:
    return bool(_places(part, words))


def _part_of(way: tuple[str, ...], wanted: set[tuple[str, ...]]) -> bool:
    return any(_occurs(way, list(other)) for other in wanted)


def _reason(found: Realised) -> str:
    parts = []
    if found.missing:
        parts.append(f"missing {', '.join(found.missing)}")
    if found.inserted:
        parts.append(f"inserted {', '.join(found.inserted)}")
    return "; ".join(parts)


def _synonyms(file: str) -> tuple[dict[str, dict[str, list[str]]], str]:
    if not file:
        return {}, "none"
    try:
        content = Path(file).read_text(encoding="utf-8")
        found: Any = json.loads(content)
        return {
            str(name): {str(value): _texts(others) for value, others in values.items()}
            for name, values in found.items()
        }, _digest(content)
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError(
            "E1002",
            f"{shown(file)} holds no synonyms: {error}",
            hint='write a JSON file such as {"familyFriendly": {"yes": ["for kids"]}}',
        ) from error


def _texts(others: Any) -> list[str]:
    if not isinstance(others, list) or not all(isinstance(other, str) for other in others):
        raise ValueError("the ways to say a value are a list of texts")
    return others


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode("utf-8")).hexdigest()[:16]
