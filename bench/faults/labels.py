"""Faults of labels, put into clean rows on purpose: the answer key of the label checks.

In: texts and labels of clean rows, a seed. Out: the same with faults, and what was changed. Every
function is a pure function of its arguments. Must not know: how faults are found.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

SPELLINGS = ("case", "separator", "plural", "typo")
CONTRADICTIONS = ("label", "number", "yes_no", "answer")


@dataclass(frozen=True, slots=True)
class ChangedLabels:
    """Labels of which some are wrong."""

    labels: list[str]
    original: dict[int, str]
    """Index of each changed row → the label that it had."""


@dataclass(frozen=True, slots=True)
class AddedRows:
    """Rows of which some were added."""

    texts: list[str]
    labels: list[str]
    """Labels, numbers or answers."""
    partner: dict[int, int]
    """Index of each added row → index of the row that it contradicts."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """Rows from two sources."""

    texts: list[str]
    labels: list[str]
    foreign: list[bool]
    """Whether each row comes from the second source."""


def flip_uniformly(labels: Sequence[str], rate: float, seed: int) -> ChangedLabels:
    """Give a share of the rows another label, any one with equal chance.

    Args:
        labels: of the clean rows.
        rate: share of rows that change, rounded to whole rows.
        seed: of the draw.
    """
    generator = np.random.default_rng(seed)
    names = sorted(set(labels))
    found, original = list(labels), {}
    for index in generator.permutation(len(labels))[: round(rate * len(labels))].tolist():
        others = [name for name in names if name != labels[index]]
        found[index] = others[int(generator.integers(len(others)))]
        original[index] = labels[index]
    return ChangedLabels(found, original)


def flip_by_class(
    labels: Sequence[str], chances: Mapping[str, Mapping[str, float]], seed: int
) -> ChangedLabels:
    """Give rows another label with chances that depend on the true one.

    Args:
        labels: of the clean rows.
        chances: true label → wrong label → chance; what is not named does not happen.
        seed: of the draw.
    """
    generator = np.random.default_rng(seed)
    found, original = list(labels), {}
    for index, label in enumerate(labels):
        wrong = sorted(chances.get(label, {}).items())
        drawn = generator.random()
        for name, chance in wrong:
            drawn -= chance
            if drawn < 0.0:
                if name != label:
                    found[index], original[index] = name, label
                break
    return ChangedLabels(found, original)


def confusions(
    texts: Sequence[str], labels: Sequence[str], rate: float
) -> dict[str, dict[str, float]]:
    """Chances for ``flip_by_class``: each label is taken for the one whose words are most like it.

    Args:
        texts: of the clean rows.
        labels: theirs.
        rate: chance that a row is taken for its neighbour.
    """
    names = sorted(set(labels))
    words: dict[str, Counter[str]] = {name: Counter() for name in names}
    for text, label in zip(texts, labels, strict=True):
        words[label].update(set(_words(text)))
    spread: Counter[str] = Counter(word for found in words.values() for word in found)
    column = {word: index for index, word in enumerate(sorted(spread))}
    matrix = np.zeros((len(names), len(column)))
    for row, name in enumerate(names):
        for word, count in words[name].items():
            matrix[row, column[word]] = np.log1p(count) * np.log(1 + len(names) / spread[word])
    matrix /= np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)
    likeness = matrix @ matrix.T
    np.fill_diagonal(likeness, -1.0)
    return {
        name: {names[int(near)]: rate}
        for name, near in zip(names, likeness.argmax(axis=1), strict=True)
    }


def respell(
    labels: Sequence[str],
    num_labels: int,
    share: float,
    seed: int,
    kinds: Sequence[str] = SPELLINGS,
) -> ChangedLabels:
    """Write some labels another way on a share of their rows.

    Args:
        labels: of the clean rows.
        num_labels: how many labels get a second spelling.
        share: of the rows of such a label, at least one and never all.
        seed: of the draw.
        kinds: of spelling, taken in turn: case, separator, plural, typo.
    """
    generator = np.random.default_rng(seed)
    counts = Counter(labels)
    several = sorted(label for label, count in counts.items() if count > 1)
    chosen = [several[i] for i in generator.permutation(len(several))[:num_labels].tolist()]
    found, original = list(labels), {}
    taken = set(counts)
    for turn, label in enumerate(chosen):
        other = _respelled(label, kinds[turn % len(kinds)], generator)
        if other is None or other in taken:
            continue
        taken.add(other)
        rows = [index for index, name in enumerate(labels) if name == label]
        number = min(max(1, round(share * len(rows))), len(rows) - 1)
        for position in generator.permutation(len(rows))[:number].tolist():
            found[rows[position]], original[rows[position]] = other, label
    return ChangedLabels(found, original)


def add_unknown(labels: Sequence[str], count: int, seed: int) -> ChangedLabels:
    """Give rows labels that no other row has and that are no spelling of one that is known."""
    generator = np.random.default_rng(seed)
    found, original = list(labels), {}
    for number, index in enumerate(generator.permutation(len(labels))[:count].tolist()):
        found[index], original[index] = (
            f"zz{number} unseen {chr(97 + number % 26) * 3}",
            labels[index],
        )
    return ChangedLabels(found, original)


def make_rare(
    texts: Sequence[str], labels: Sequence[str], names: Sequence[str], keep: int, seed: int
) -> tuple[list[str], list[str]]:
    """Leave only a few rows of some labels.

    Args:
        texts: of the clean rows.
        labels: theirs.
        names: labels that become rare.
        keep: rows left of each.
        seed: of the draw.
    """
    generator = np.random.default_rng(seed)
    left: Counter[str] = Counter()
    stays = np.ones(len(labels), dtype=bool)
    for index in generator.permutation(len(labels)).tolist():
        if labels[index] in names:
            left[labels[index]] += 1
            stays[index] = left[labels[index]] <= keep
    kept = np.flatnonzero(stays).tolist()
    return [texts[i] for i in kept], [labels[i] for i in kept]


def contradict(
    texts: Sequence[str],
    answers: Sequence[str],
    count: int,
    seed: int,
    kind: str = "label",
    edits: int = 1,
) -> AddedRows:
    """Add rows with the same or nearly the same text and another answer.

    Args:
        texts: of the clean rows.
        answers: labels, numbers, sentences that begin with yes or no, or any sentences.
        count: rows to add; texts of eight words and more come first, so that one edited word
            leaves them alike.
        seed: of the draw.
        kind: "label" (another one that occurs), "number" (every number in the answer changed),
            "yes_no" (yes becomes no and the reverse), "answer" (another row's answer).
        edits: 0 = the same text; 1 = in turn a changed case, a changed ending, one word twice.
    """
    if kind not in CONTRADICTIONS:
        raise ValueError(f"kind must be one of {', '.join(CONTRADICTIONS)}")
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(texts)).tolist()
    order.sort(key=lambda index: len(_words(texts[index])) < 8)
    names = sorted(set(answers))
    new_texts, new_answers, partner = list(texts), list(answers), {}
    for index in order:
        if len(partner) == count:
            break
        other = _other_answer(answers[index], kind, names, generator)
        if other is None:
            continue
        partner[len(new_texts)] = index
        new_texts.append(_edited(texts[index], len(partner)) if edits else texts[index])
        new_answers.append(other)
    return AddedRows(new_texts, new_answers, partner)


def mix(
    first: tuple[Sequence[str], Sequence[str]],
    second: tuple[Sequence[str], Sequence[str]],
    share: float,
    number: int,
    seed: int,
) -> Mixture:
    """Rows of two sources in known shares, without replacement.

    Args:
        first: texts and labels of the usual source.
        second: texts and labels of the other one.
        share: of rows from the other one, rounded to whole rows.
        number: rows in all.
        seed: of the draw.
    """
    generator = np.random.default_rng(seed)
    foreign = round(share * number)
    rows = [
        (source[0][index], source[1][index], source is second)
        for source, wanted in ((first, number - foreign), (second, foreign))
        for index in generator.permutation(len(source[0]))[:wanted].tolist()
    ]
    if len(rows) < number:
        raise ValueError("the sources have too few rows")
    rows = [rows[i] for i in generator.permutation(len(rows)).tolist()]
    return Mixture([r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows])


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _respelled(label: str, kind: str, generator: np.random.Generator) -> str | None:
    """Another spelling; None where this kind changes nothing."""
    if kind == "case":
        other = label.upper() if label.islower() else label.lower()
    elif kind == "separator":
        if not re.search(r"[_\- ]", label):
            return None
        now = next(mark for mark in "_- " if mark in label)
        other = label.replace(now, str(generator.choice([m for m in "_- " if m != now])))
    elif kind == "plural":
        other = label[:-1] if label.endswith("s") and not label.endswith("ss") else label + "s"
    elif kind == "typo":
        other = _mistyped(label, generator)
    else:
        raise ValueError(f"kind of spelling must be one of {', '.join(SPELLINGS)}")
    return other if other != label else None


def _mistyped(label: str, generator: np.random.Generator) -> str:
    """One letter left out, doubled, or swapped with the next one; never the first of the label."""
    letters = [i for i in range(1, len(label) - 1) if label[i].isalpha()]
    if not letters:
        return label
    at = letters[int(generator.integers(len(letters)))]
    how = int(generator.integers(3))
    if how == 0:
        return label[:at] + label[at + 1 :]
    if how == 1:
        return label[:at] + label[at] + label[at:]
    return label[:at] + label[at + 1] + label[at] + label[at + 2 :]


def _edited(text: str, turn: int) -> str:
    """Nearly the same text."""
    if turn % 3 == 0:
        return text.upper() if not text.isupper() else text.lower()
    if turn % 3 == 1:
        return text.rstrip(".?! ") + (" please" if len(_words(text)) >= 8 else "!!")
    words = text.split()
    return " ".join([*words, words[-1]]) if len(words) >= 8 else f"  {text} "


def _other_answer(
    answer: str, kind: str, names: Sequence[str], generator: np.random.Generator
) -> str | None:
    if kind == "number":
        other = re.sub(
            r"\d+", lambda m: str(int(m.group()) + int(generator.integers(1, 90))), answer
        )
        return other if other != answer else None
    if kind == "yes_no":
        found = re.match(r"(yes|no)\b", answer, re.IGNORECASE)
        if found is None:
            return None
        other = "no" if found.group().lower() == "yes" else "yes"
        return (other.capitalize() if answer[0].isupper() else other) + answer[found.end() :]
    others = [name for name in names if name != answer]
    return others[int(generator.integers(len(others)))] if others else None
