"""How much an answer sounds like the brand: a classifier of its texts against others.

Each text is scored by a classifier that saw neither it nor a copy of it: texts are dealt into parts
by their content, and the classifier of a part is fitted on the other parts.

In: the brand's texts, other texts, answers, and a function that fits a classifier. Out: a ``Voice``
and predictions with a grade. Must not know: how features are made.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np

from fettle.errors import DataError
from fettle.metrics.auroc import placements
from fettle.records.outcomes import Prediction
from fettle.statistics.resampling import FloatArray

PARTS = 5
FEWEST = 20
"""Texts of either kind."""
USABLE = 0.8
"""Area under the curve, out of part, below which the classifier can't tell the voices apart."""
BRAND, OTHER = "brand", "other"


class Classifier(Protocol):
    """A fitted classifier of texts."""

    @property
    def labels(self) -> tuple[str, ...]:
        """In the order of its probabilities."""
        ...

    def predict_proba(self, texts: Sequence[str]) -> FloatArray:
        """[N, K] probabilities."""
        ...


Fit = Callable[[Sequence[str], Sequence[str]], Classifier]
"""Texts and labels -> a fitted classifier."""


@dataclass(frozen=True, slots=True)
class Voice:
    """Classifiers of the brand's voice, and how well they know it."""

    classifiers: tuple[Classifier, ...]
    auroc: float
    """Of the brand's texts against the others, each by the classifier that did not see it."""
    brand_texts: int
    other_texts: int

    @property
    def usable(self) -> bool:
        """Whether a verdict may rest on it."""
        return self.auroc >= USABLE

    @property
    def reason(self) -> str:
        """How far to trust it, in a sentence."""
        said = (
            f"out of {self.brand_texts:,} texts of the brand and {self.other_texts:,} others the"
            f" classifier ranks {self.auroc:.1%} of the pairs rightly, unseen"
        )
        return said if self.usable else f"{said}, below {USABLE:.0%}: no verdict may rest on it"

    def scores(self, texts: Sequence[str]) -> FloatArray:
        """[N] probability of the brand's voice, by the classifier that saw no copy of the text."""
        parts = np.array([part_of(text) for text in texts], dtype=np.int64)
        found = np.zeros(len(texts))
        for part, classifier in enumerate(self.classifiers):
            inside = np.flatnonzero(parts == part).tolist()
            if inside:
                column = classifier.labels.index(BRAND)
                chances = classifier.predict_proba([texts[i] for i in inside])
                found[inside] = chances[:, column]
        return found

    def to_json(self) -> dict[str, Any]:
        """For verdict.json's ``extra``."""
        record = asdict(replace(self, classifiers=()))
        record.pop("classifiers")
        return record | {"usable": self.usable, "reason": self.reason}


def learn_voice(brand: Sequence[str], other: Sequence[str], fit: Fit) -> Voice:
    """Fit the classifiers.

    Args:
        brand: texts in the brand's voice, such as the answers of the training rows.
        other: texts on the same matters in another voice, such as the untouched base's answers:
            where they differ in matter, it is the matter that the classifier learns.
        fit: texts and labels to a classifier.

    Raises:
        DataError: E1033, too few texts of a kind.
    """
    texts = [text for text in (*brand, *other) if text.strip()]
    num_brand = sum(bool(text.strip()) for text in brand)
    labels = [BRAND] * num_brand + [OTHER] * (len(texts) - num_brand)
    if min(num_brand, len(texts) - num_brand) < FEWEST:
        raise DataError(
            "E1033",
            f"{num_brand:,} texts of the brand and {len(texts) - num_brand:,} others are too few"
            " to learn a voice from",
            hint=f"give at least {FEWEST} of each",
        )
    parts = np.array([part_of(text) for text in texts])
    classifiers = []
    for part in range(PARTS):
        kept = np.flatnonzero(parts != part).tolist()
        chosen = [labels[i] for i in kept]
        if len(set(chosen)) < 2:
            raise DataError(
                "E1033",
                "the texts of one kind are all alike",
                hint=f"give at least {FEWEST} different texts of each kind",
            )
        classifiers.append(fit([texts[i] for i in kept], chosen))
    voice = Voice(tuple(classifiers), 0.0, num_brand, len(texts) - num_brand)
    own = np.array([label == BRAND for label in labels])
    return replace(voice, auroc=placements(voice.scores(texts), own)[1])


def voiced(voice: Voice, rows: Sequence[Prediction]) -> list[Prediction]:
    """Predictions with the grade that the metric ``brand_voice`` reads; rows without text get none.

    Args:
        voice: of the brand.
        rows: one arm.
    """
    known = [row.prediction for row in rows if row.prediction is not None]
    scores = iter(voice.scores(known).tolist())
    return [
        row
        if row.prediction is None
        else replace(row, scores={**(row.scores or {}), "brand_voice": next(scores)})
        for row in rows
    ]


def part_of(text: str) -> int:
    """Which part a text belongs to: copies, apart from case and whitespace, to the same."""
    plain = " ".join(text.casefold().split()).encode("utf-8", "surrogatepass")
    return hashlib.sha256(plain).digest()[0] % PARTS
