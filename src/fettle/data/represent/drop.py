"""How many points of accuracy a target without labels may cost, before anything is trained.

A linear model that is trained on part of train says how sure it is on the rest and on the target.
The confidence below which the rest holds as many rows as the model gets wrong there is taken to the
target: the share of target rows below it is the expected share of errors.

In: texts and labels of train, texts of the target. Out: expected accuracies. Must not know: files,
language models.

Source: Garg et al. 2022, "Leveraging unlabeled data to predict out-of-distribution performance"
(average thresholded confidence; with the highest probability, which ranked the shifts of
bench/representativeness.py better than negative entropy did).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fettle.data.features.hashed import choose_landmarks, count_ngrams, fit_tfidf
from fettle.data.features.linear import chances_of, fit_fast

Floats = NDArray[np.float64]

NUM_FOLDS: Final = 5
_PENALTY = 0.1
_NUM_LANDMARKS = 600
_NUM_STEPS = 15


@dataclass(frozen=True, slots=True)
class Drop:
    """What a linear model expects of the target."""

    own_accuracy: float
    """On train, each row judged by a model that has not seen it."""
    target_accuracy: float
    """Expected on the target."""
    drop: float
    """The first minus the second; negative where the target is easier."""
    confidence_difference: float
    """Mean highest probability on train minus that on the target: a second opinion."""


def sureness(chances: NDArray[np.float32]) -> Floats:
    """[N] the highest one of probabilities [N, K]."""
    found: Floats = chances.max(axis=1).astype(np.float64)
    return found


def thresholded(own: Floats, right: NDArray[np.bool_], target: Floats) -> float:
    """Expected accuracy on the target.

    Args:
        own: [N] sureness on rows with labels.
        right: [N] whether the model is right there.
        target: [M] sureness on the target.
    """
    wrong = int((~right).sum())
    ordered = np.sort(own)
    threshold = ordered[wrong] if wrong < len(ordered) else np.inf
    return float((target >= threshold).mean())


def expected_drop(
    texts: Sequence[str],
    labels: Sequence[str],
    folds: NDArray[np.int64],
    targets: Sequence[Sequence[str]],
    seed: int = 0,
) -> list[Drop]:
    """What to expect of each of several targets.

    Args:
        texts: of train.
        labels: theirs, two or more different ones.
        folds: [N] fold of each row; near copies must lie in one.
        targets: the texts of each target.
        seed: of the choice of landmarks.
    """
    names = sorted(set(labels))
    column = {name: index for index, name in enumerate(names)}
    given = np.array([column[label] for label in labels])
    one_hot = np.eye(len(names), dtype=np.float32)[given]
    counts = count_ngrams(texts)
    weights = fit_tfidf(counts, min_rows=2)
    full = weights.transform(counts)
    landmarks = choose_landmarks(full, _NUM_LANDMARKS, seed)
    points = landmarks.coordinates(landmarks.reduce(full))
    asked = [
        landmarks.coordinates(landmarks.reduce(weights.transform(count_ngrams(rows))))
        for rows in targets
    ]
    own = np.zeros((len(texts), len(names)), dtype=np.float32)
    # Each model by itself: the mean of several is less sure than any of them.
    far: list[list[NDArray[np.float32]]] = [[] for _ in targets]
    for fold in range(int(folds.max()) + 1):
        rest = folds != fold
        model = fit_fast(points[rest], one_hot[rest], _PENALTY, _NUM_STEPS)
        own[~rest] = chances_of(points[~rest] @ model.weights + model.offsets, False)
        for index, rows in enumerate(asked):
            far[index].append(chances_of(rows @ model.weights + model.offsets, False))
    right = own.argmax(axis=1) == given
    found = []
    sure = sureness(own)
    share = float(right.mean())
    for all_chances in far:
        accuracy = float(np.mean([thresholded(sure, right, sureness(c)) for c in all_chances]))
        highest = float(np.mean([c.max(axis=1).mean() for c in all_chances]))
        apart = float(own.max(axis=1).mean()) - highest
        found.append(Drop(share, accuracy, share - accuracy, apart))
    return found
