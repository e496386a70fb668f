"""Distinguishability: how well a classifier tells train from target, and weights against it.

In: sparse features of unit rows, texts. Out: AUC with a permutation p-value, telling words, row
weights. Must not know: labels, files.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, vstack
from scipy.stats import norm, rankdata

from fettle.data.features.hashed import Counts, choose_landmarks
from fettle.data.features.linear import chances_of, fit_fast
from fettle.data.represent.coverage import surprise
from fettle.records.tokens import TokenizedExample

Floats = NDArray[np.float64]

CLOSE: Final = 0.60
"""An AUC whose interval ends below it is called close."""
MAX_WEIGHT: Final = 10.0
"""Weights lie between 1 / 10 and 10 before they are brought to a mean of 1."""

_NUM_FOLDS = 5
_PENALTY = 1.0
_NUM_PERMUTATIONS = 499
_NUM_LANDMARKS = 600
_NUM_STEPS = 15


@dataclass(frozen=True, slots=True)
class Word:
    """A word that tells the two apart."""

    word: str
    train_share: float
    """Share of the rows with the word."""
    target_share: float


@dataclass(frozen=True, slots=True)
class Distinguishability:
    """How well target rows are told from train rows."""

    auc: float
    ci_low: float
    ci_high: float
    """95 %; from the larger one of the Mann-Whitney and the permutation standard error."""
    p_value: float
    """Permutation test of AUC above 1/2."""
    close: bool
    """The interval's upper end is at most 0.60: practically the same."""
    num_train: int
    num_target: int
    """Rows compared."""
    words: tuple[Word, ...]


def tell_apart(
    train: csr_matrix,
    target: csr_matrix,
    seed: int = 0,
    num_permutations: int = _NUM_PERMUTATIONS,
) -> Distinguishability:
    """Cross-validated kernel ridge regression, and the same on permuted sides.

    A prediction is linear in the sides (S y), so that all permutations take one product of
    matrices, and each goes through the same folds.

    Args:
        train: [N, F] features of unit rows.
        target: [M, F] the same; about as many rows.
        seed: of folds and permutations.
        num_permutations: draws.

    Source: Lopez-Paz and Oquab 2017 (classifier two-sample tests), with a permutation p-value.
    """
    features = csr_matrix(vstack([train, target], format="csr"))
    number, num_target = features.shape[0], target.shape[0]
    generator = np.random.default_rng(seed)
    products = (features @ features.T).toarray().astype(np.float64)
    smoother = _smoother(products, generator.permutation(number) % _NUM_FOLDS)
    is_target = np.zeros(number)
    is_target[train.shape[0] :] = 1.0
    sides = np.empty((number, num_permutations + 1))
    sides[:, 0] = is_target
    for draw in range(1, num_permutations + 1):
        sides[:, draw] = generator.permutation(is_target)
    scores = smoother @ (sides - num_target / number)
    found = aucs(scores, sides)
    spread = max(float(found[1:].std()), auc_error(scores[:, 0], is_target))
    auc, half = float(found[0]), float(norm.isf(0.025)) * spread
    return Distinguishability(
        auc=auc,
        ci_low=max(0.0, auc - half),
        ci_high=min(1.0, auc + half),
        p_value=float((1 + (found[1:] >= auc - 1e-12).sum()) / (num_permutations + 1)),
        close=auc + half <= CLOSE,
        num_train=number - num_target,
        num_target=num_target,
        words=(),
    )


def _smoother(products: Floats, folds: NDArray[np.int64]) -> Floats:
    """[N, N] S such that S y are predictions of each fold from the other ones."""
    found = np.zeros_like(products)
    for fold in range(_NUM_FOLDS):
        inside, outside = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        kernel = products[np.ix_(outside, outside)] + _PENALTY * np.eye(len(outside))
        found[np.ix_(inside, outside)] = np.linalg.solve(
            kernel, products[np.ix_(outside, inside)]
        ).T
    return found


def aucs(scores: Floats, sides: Floats) -> Floats:
    """Area under the ROC curve of each column; ties count half.

    Args:
        scores: [N, P].
        sides: [N, P] zeros and ones, the same number of ones in each column.
    """
    ones = sides[:, 0].sum()
    ranks = rankdata(scores, axis=0)
    found: Floats = ((ranks * sides).sum(axis=0) - ones * (ones + 1) / 2) / (
        ones * (len(sides) - ones)
    )
    return found


def auc_error(scores: Floats, side: Floats) -> float:
    """Standard error of an AUC.

    Source: DeLong, DeLong and Clarke-Pearson 1988.
    """
    high, low = scores[side > 0], scores[side == 0]
    if len(high) < 2 or len(low) < 2:
        return 0.5
    both = rankdata(np.concatenate([high, low]))
    above = (both[: len(high)] - rankdata(high)) / len(low)
    under = 1.0 - (both[len(high) :] - rankdata(low)) / len(high)
    variance = above.var(ddof=1) / len(high) + under.var(ddof=1) / len(low)
    return float(np.sqrt(variance))


def telling_words(
    train: Counter[str], num_train: int, target: Counter[str], num_target: int, number: int = 10
) -> tuple[Word, ...]:
    """Words whose share of rows differs most (G²), in both directions.

    Args:
        train: in how many rows of train each word stands.
        num_train: of so many.
        target: the same of the target.
        num_target: of so many.
        number: how many words.
    """
    scored = sorted(
        (-abs(surprise(target[word], num_target, train[word], num_train)), word)
        for word in train.keys() | target.keys()
    )
    return tuple(
        Word(word, train[word] / max(num_train, 1), target[word] / max(num_target, 1))
        for _, word in scored[:number]
    )


def importance_weights(train: csr_matrix, target: csr_matrix, seed: int = 0) -> Floats:
    """[N] weights of mean 1 with which train counts as the target would.

    The odds of a classifier that tells them apart, each row judged by one that has not seen it,
    kept between 1/10 and 10.

    Args:
        train: [N, F] features of unit rows.
        target: [M, F] the same.
        seed: of folds and landmarks.

    Source: Bickel, Brückner and Scheffer 2009, "Discriminative learning under covariate shift".
    """
    features = csr_matrix(vstack([train, target], format="csr"))
    landmarks = choose_landmarks(features, _NUM_LANDMARKS, seed)
    points = landmarks.coordinates(landmarks.reduce(features))
    is_target = np.zeros((features.shape[0], 1), dtype=np.float32)
    is_target[train.shape[0] :] = 1.0
    folds = np.random.default_rng(seed).permutation(features.shape[0]) % _NUM_FOLDS
    chances = np.zeros(train.shape[0])
    for fold in range(_NUM_FOLDS):
        rest = folds != fold
        model = fit_fast(points[rest], is_target[rest], 1.0, _NUM_STEPS, several=True)
        rows = np.flatnonzero(folds[: train.shape[0]] == fold)
        chances[rows] = chances_of(points[rows] @ model.weights + model.offsets, True)[:, 0]
    odds = chances / np.maximum(1.0 - chances, 1e-6) * train.shape[0] / target.shape[0]
    weights = np.clip(odds, 1.0 / MAX_WEIGHT, MAX_WEIGHT)
    scaled: Floats = weights / weights.mean()
    return scaled


def effective_rows(weights: Floats) -> float:
    """How many equal rows weigh as surely as these: (sum w)² / sum w² (Kish 1965)."""
    return float(weights.sum() ** 2 / np.square(weights).sum())


def log_importance(train: Counts, target: Counts) -> Floats:
    """[N] log of how much likelier each train row's words are in the target.

    Args:
        train: n-grams of train.
        target: n-grams of the target.

    Source: Xie et al. 2023, "Data selection for language models via importance resampling".
    """
    logs = []
    for counts in (target, train):
        totals = np.asarray(counts.words.sum(axis=0), dtype=np.float64).ravel() + 1.0
        logs.append(np.log(totals / totals.sum()))
    found: Floats = np.asarray(train.words @ (logs[0] - logs[1])).ravel()
    return found


def select_like(train: Counts, target: Counts, number: int, seed: int = 0) -> NDArray[np.int64]:
    """Indices of train rows drawn so that together they are like the target.

    Args:
        train: n-grams of train.
        target: n-grams of the target.
        number: rows to draw, without replacement.
        seed: of the draw.

    Source: Xie et al. 2023 (Gumbel top-k over the log importance).
    """
    noise = np.random.default_rng(seed).gumbel(size=train.words.shape[0])
    order = np.argsort(-(log_importance(train, target) + noise), kind="stable")
    return np.sort(order[:number])


def weighed_by(
    rows: Sequence[TokenizedExample], weights: Mapping[str, float]
) -> list[TokenizedExample]:
    """Training rows whose weight is multiplied by that of their row id; 1 where there is none."""
    return [replace(row, weight=row.weight * weights.get(row.row_id, 1.0)) for row in rows]
