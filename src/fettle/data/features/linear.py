"""Linear models of several labels a row and of numbers: cheap alternatives and probes.

In: texts or features, with sets of labels or numbers. Out: fitted models. Must not know: files,
splits, language models.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_matrix
from scipy.special import expit
from sklearn.linear_model import LogisticRegression, Ridge

from fettle.data.features.features import PROBE_STRENGTHS, Floats, TfidfFeatures, fit_logistic

_TEXT_STRENGTH: Final = 3.0
_TEXT_PENALTY: Final = 1.0
_MAX_WEIGHTS: Final = 20_000_000
_MAX_FEATURES: Final = 60_000
RIDGE_PENALTIES: Final = (0.1, 1.0, 10.0, 100.0, 1_000.0, 10_000.0)
"""Penalties among which the probe of numbers chooses; features are standardised, so that a
penalty as large as the number of rows halves a weight."""


@dataclass(frozen=True, slots=True)
class LabelSetModel:
    """One logistic regression for each label."""

    labels: tuple[str, ...]
    models: tuple[LogisticRegression | float, ...]
    """A number where the label applied to all training rows or to none: its share of them."""

    def predict_proba(self, features: Floats | csr_matrix) -> Floats:
        """Probabilities [N, K] in the order of ``labels``, each by itself."""
        number = features.shape[0]
        columns = [
            np.full(number, model)
            if isinstance(model, float)
            else np.asarray(model.predict_proba(features))[:, 1]
            for model in self.models
        ]
        return np.column_stack(columns) if columns else np.zeros((number, 0))


def fit_label_sets(
    features: Floats | csr_matrix,
    sets: Sequence[Collection[str]],
    strength: float,
    seed: int = 0,
) -> LabelSetModel:
    """One against the rest, label by label.

    Args:
        features: [N, F].
        sets: the labels of each row.
        strength: inverse regularisation (C).
        seed: of the solver.
    """
    labels = tuple(sorted({label for found in sets for label in found}))
    models: list[LogisticRegression | float] = []
    for label in labels:
        applies = np.asarray([label in found for found in sets])
        if applies.all():
            models.append(1.0)
        else:
            models.append(fit_logistic(features, applies, strength, seed))
    return LabelSetModel(labels, tuple(models))


@dataclass(frozen=True, slots=True)
class TextLabelSets:
    """TF-IDF with one logistic regression for each label."""

    features: TfidfFeatures
    model: LabelSetModel

    def predict(self, texts: Sequence[str]) -> list[set[str]]:
        """The labels of each text whose probability is at least one half."""
        if not texts:
            return []
        chances = self.model.predict_proba(self.features.transform(texts))
        return [{self.model.labels[k] for k in np.flatnonzero(row >= 0.5)} for row in chances]


def fit_text_label_sets(texts: Sequence[str], sets: Sequence[Collection[str]]) -> TextLabelSets:
    """The TF-IDF baseline for rows with any number of labels."""
    num_labels = len({label for found in sets for label in found})
    features = TfidfFeatures(min(_MAX_FEATURES, max(2_000, _MAX_WEIGHTS // max(num_labels, 1))))
    matrix = features.fit_transform(texts)
    return TextLabelSets(features, fit_label_sets(matrix, sets, _TEXT_STRENGTH))


@dataclass(frozen=True, slots=True)
class TextNumbers:
    """TF-IDF with ridge regression."""

    features: TfidfFeatures
    model: Ridge

    def predict(self, texts: Sequence[str]) -> list[float]:
        """One number a text."""
        if not texts:
            return []
        found: list[float] = self.model.predict(self.features.transform(texts)).tolist()
        return found


def fit_text_numbers(texts: Sequence[str], numbers: Sequence[float]) -> TextNumbers:
    """The TF-IDF baseline for numbers."""
    features = TfidfFeatures()
    matrix = features.fit_transform(texts)
    return TextNumbers(features, _ridge(matrix, np.asarray(numbers), _TEXT_PENALTY))


@dataclass(frozen=True, slots=True)
class FeatureScale:
    """Mean and spread of each feature on the training rows."""

    mean: Floats
    spread: Floats

    def __call__(self, features: Floats) -> Floats:
        """Standardised features."""
        scaled: Floats = (np.asarray(features, dtype=np.float64) - self.mean) / self.spread
        return scaled


def probe_label_sets(
    train: Floats,
    sets: Sequence[Collection[str]],
    validation: Floats,
    validation_sets: Sequence[Collection[str]],
    features: Floats,
    seed: int = 0,
) -> list[dict[str, float]]:
    """What given features say about sets of labels.

    Args:
        train: features of the training rows [N, H].
        sets: their labels.
        validation: features [M, H] of rows that choose the regularisation, by micro F1 and, where
            that is equal, by the mean log-likelihood.
        validation_sets: their labels.
        features: [L, H] of the rows to predict.
        seed: of the solver.

    Returns:
        For each of those label → probability.
    """
    scale = _feature_scale(train)
    fits = [
        fit_label_sets(scale(train), sets, strength, seed)
        for strength in (PROBE_STRENGTHS if len(validation_sets) else (1.0,))
    ]
    best = max(fits, key=lambda fit: _label_set_score(fit, scale(validation), validation_sets))
    chances = best.predict_proba(scale(features))
    return [dict(zip(best.labels, row, strict=True)) for row in chances.tolist()]


def probe_numbers(
    train: Floats,
    numbers: Sequence[float],
    validation: Floats,
    validation_numbers: Sequence[float],
    features: Floats,
) -> list[float]:
    """What given features say about numbers: ridge regression.

    Args:
        train: features of the training rows [N, H].
        numbers: their numbers.
        validation: features [M, H] of rows that choose the penalty by mean absolute error.
        validation_numbers: their numbers.
        features: [L, H] of the rows to predict.

    Returns:
        One number a row.
    """
    scale = _feature_scale(train)
    wanted = np.asarray(validation_numbers)
    penalties = RIDGE_PENALTIES if len(wanted) else (100.0,)
    fits = [_ridge(scale(train), np.asarray(numbers), penalty) for penalty in penalties]
    best = min(
        fits,
        key=lambda fit: (
            float(np.abs(fit.predict(scale(validation)) - wanted).mean()) if len(wanted) else 0.0
        ),
    )
    found: list[float] = best.predict(scale(features)).tolist()
    return found


def _label_set_score(
    fit: LabelSetModel, features: Floats, sets: Sequence[Collection[str]]
) -> tuple[float, float]:
    if not len(sets):
        return 0.0, 0.0
    chances = fit.predict_proba(features)
    applies = np.asarray([[label in found for label in fit.labels] for found in sets])
    said = chances >= 0.5
    total = said.sum() + sum(map(len, sets))
    own = np.where(applies, chances, 1.0 - chances)
    f1 = 2.0 * float((said & applies).sum()) / float(total) if total else 1.0
    return f1, float(np.log(np.maximum(own, 1e-12)).mean())


def _feature_scale(train: Floats) -> FeatureScale:
    matrix = np.asarray(train, dtype=np.float64)
    spread = matrix.std(axis=0)
    spread[spread < 1e-12] = 1.0
    return FeatureScale(matrix.mean(axis=0), spread)


def _ridge(matrix: Floats | csr_matrix, numbers: Floats, penalty: float) -> Ridge:
    return Ridge(alpha=penalty, random_state=0).fit(matrix, numbers)


@dataclass(frozen=True, slots=True)
class FastLinear:
    """Softmax regression, or one logistic regression a column, by a fixed number of steps."""

    weights: NDArray[np.float32]
    """[H, K]."""
    offsets: NDArray[np.float32]
    """[K], from the shares of the columns; not penalised, not learned."""


def fit_fast(
    features: NDArray[np.float32],
    targets: NDArray[np.float32],
    penalty: float,
    num_steps: int,
    several: bool = False,
) -> FastLinear:
    """Logistic regression in dense matrix products: much faster than a solver on sparse rows.

    Steps of Newton's method with a bound of the curvature in place of the curvature itself, so
    that one factorisation serves all of them, with Nesterov's momentum.

    Args:
        features: [N, H], some hundred columns of about unit rows.
        targets: [N, K] zeros and ones; one 1 a row unless ``several``.
        penalty: lambda of (lambda / 2) |W|^2 against the sum of the losses.
        num_steps: how many steps.
        several: each column by itself (any number of ones a row).

    Source: Böhning 1992, "Multinomial logistic regression algorithm" (the bound 1/2 Z'Z; 1/4 Z'Z
    for one column by itself).
    """
    # Of no rows at all the share is 0 as well.
    shares = np.clip(targets.sum(axis=0) / max(1, len(targets)), 1e-6, 1.0 - 1e-6)
    logits = np.log(shares / (1.0 - shares)) if several else np.log(shares)
    offsets = logits.astype(np.float32)
    curvature = (0.25 if several else 0.5) * (features.T @ features)
    curvature[np.diag_indices_from(curvature)] += np.float32(penalty)
    factor = cho_factor(curvature, overwrite_a=True, check_finite=False)
    weights = np.zeros((features.shape[1], targets.shape[1]), dtype=np.float32)
    ahead, momentum = weights.copy(), 1.0
    for _ in range(num_steps):
        errors = chances_of(features @ ahead + offsets, several)
        errors -= targets
        slope = features.T @ errors + np.float32(penalty) * ahead
        moved = ahead - cho_solve(factor, slope, overwrite_b=True, check_finite=False)
        following = (1.0 + np.sqrt(1.0 + 4.0 * momentum * momentum)) / 2.0
        ahead = moved + np.float32((momentum - 1.0) / following) * (moved - weights)
        weights, momentum = moved, following
    return FastLinear(weights, offsets)


def chances_of(logits: NDArray[np.float32], several: bool) -> NDArray[np.float32]:
    """Probabilities of logits [N, K], in place: by row, or each by itself when ``several``."""
    if several:
        expit(logits, out=logits)
        return logits
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return logits
