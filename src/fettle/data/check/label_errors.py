"""Labels that are probably wrong: confident learning on out-of-fold probabilities.

In: examples with labels; clusters of near copies; features or probabilities of a model where there
are any. Out: findings, or masks and scores for those who bring their own probabilities. Must not
know: files, splits, what is done about a finding.

Source: Northcutt, Jiang and Chuang 2021, "Confident learning: estimating uncertainty in dataset
labels" (JAIR 70).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import xxhash
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix

from fettle.data.features.hashed import Landmarks, choose_landmarks, count_ngrams, fit_tfidf
from fettle.data.features.linear import FastLinear, chances_of, fit_fast
from fettle.records.rows import Example, Finding

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]

Rule = Literal["noise_rate", "class", "both", "either", "confident"]

NUM_FOLDS: Final = 5
MIN_ROWS: Final = 50
"""Fewer labelled rows teach no classifier to be trusted."""
MIN_LABEL_ROWS: Final = 5
"""Rows of a rarer label are not judged: in some folds nothing would be known about it."""
MIN_ODDS: Final = 50.0
"""A row is named when another label is this many times as likely. With 5 % of the labels flipped,
nine of ten rows named on BANKING77 and CLINC150 were flipped ones (bench/label_noise.py)."""
MIN_SET_ODDS: Final = 20.0
"""The same where each label applies or not: two answers are never as far apart as many."""
MAX_SHARE: Final = 0.1
"""At most this share of the rows is named, the worst first."""
MAX_CELLS: Final = 50_000_000
"""Rows times labels that are looked through."""

_PENALTY: Final = 0.1
_SET_PENALTY: Final = 0.03
_DENSE_PENALTY: Final = 1.0
_NUM_STEPS: Final = 12
_NUM_SET_STEPS: Final = 20
_NUM_LANDMARKS: Final = (256, 1_000)
_FIT_WORK: Final = 2_000_000_000
"""Rows times labels times landmarks of one fold; keeps it within seconds."""
_FIT_ROWS: Final = 24_000
"""Of more rows, a sample teaches the classifier; all are judged."""
_CHUNK: Final = 8_192
_TOLERANCE: Final = 1e-6


@dataclass(frozen=True, slots=True)
class ConfidentJoint:
    """How often rows with one label look as if they had another."""

    thresholds: Floats
    """[K] mean probability of a label over the rows that have it."""
    counts: Integers
    """[K, K] confident rows: given label by label that they look like."""
    joint: Integers
    """[K, K] the same, scaled so that each row sums to the number of rows with the label."""
    looks_like: Integers
    """[N] the label that a row confidently looks like, or -1."""


def confident_joint(labels: ArrayLike, probabilities: ArrayLike) -> ConfidentJoint:
    """The counts from which label errors are estimated.

    A row counts for a label when its probability reaches the label's threshold; of several such
    labels the likeliest one counts. The diagonal is at least 1.

    Args:
        labels: [N] given labels 0 … K-1.
        probabilities: [N, K] out-of-fold probabilities.
    """
    given = np.asarray(labels, dtype=np.int64)
    chances = np.asarray(probabilities, dtype=np.float64)
    num_labels = chances.shape[1]
    rows = np.bincount(given, minlength=num_labels)
    own = chances[np.arange(len(given)), given]
    sums = np.bincount(given, weights=own, minlength=num_labels)
    # A label without rows is never reached.
    thresholds = np.where(rows > 0, sums / np.maximum(rows, 1), 1.0 + 2.0 * _TOLERANCE)
    reached = chances >= thresholds - _TOLERANCE
    several = reached.sum(axis=1) > 1
    looks_like = np.where(several, chances.argmax(axis=1), reached.argmax(axis=1))
    looks_like = np.where(reached.any(axis=1), looks_like, -1)
    counts = np.zeros((num_labels, num_labels), dtype=np.int64)
    sure = looks_like >= 0
    np.add.at(counts, (given[sure], looks_like[sure]), 1)
    np.fill_diagonal(counts, np.maximum(counts.diagonal(), 1))
    scaled = counts / counts.sum(axis=1, keepdims=True) * rows[:, None]
    return ConfidentJoint(thresholds, counts, _rounded_rows(scaled), looks_like)


def suspected(labels: ArrayLike, probabilities: ArrayLike, rule: Rule = "noise_rate") -> Mask:
    """Which labels are probably wrong.

    Args:
        labels: [N] given labels 0 … K-1.
        probabilities: [N, K] out-of-fold probabilities.
        rule: noise_rate = of each label, for each other one, as many rows as the joint says, those
            with the widest margin first; class = of each label as many rows as the joint says in
            all, the least probable first; both = rows that both name; either = rows that one of
            them names; confident = rows that confidently look like another label. A row whose own
            label is the likeliest is never named.
    """
    given = np.asarray(labels, dtype=np.int64)
    chances = np.asarray(probabilities, dtype=np.float64)
    joint = confident_joint(given, chances)
    own = chances[np.arange(len(given)), given]
    if rule == "confident":
        named = (joint.looks_like >= 0) & (joint.looks_like != given)
    elif rule == "noise_rate":
        named = _by_noise_rate(given, chances, joint.joint)
    elif rule == "class":
        named = _by_class(given, own, joint.joint)
    elif rule == "either":
        named = _by_noise_rate(given, chances, joint.joint) | _by_class(given, own, joint.joint)
    else:
        named = _by_noise_rate(given, chances, joint.joint) & _by_class(given, own, joint.joint)
    doubted: Mask = named & (own < chances.max(axis=1) - _TOLERANCE)
    return doubted


def error_scores(labels: ArrayLike, probabilities: ArrayLike) -> Floats:
    """[N] the likeliest other label's log probability minus the given one's; higher = worse."""
    given = np.asarray(labels, dtype=np.int64)
    logs = np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), 1e-12))
    own = logs[np.arange(len(given)), given].copy()
    logs[np.arange(len(given)), given] = -np.inf
    scores: Floats = logs.max(axis=1) - own
    return scores


def _by_noise_rate(given: Integers, chances: Floats, joint: Integers) -> Mask:
    named = np.zeros(len(given), dtype=bool)
    for label in np.flatnonzero(joint.sum(axis=1) - joint.diagonal() > 0).tolist():
        rows = np.flatnonzero(given == label)
        for other in np.flatnonzero(joint[label]).tolist():
            if other != label:
                margins = chances[rows, other] - chances[rows, label]
                order = np.argsort(-margins, kind="stable")[: joint[label, other]]
                named[rows[order]] = True
    return named


def _by_class(given: Integers, own: Floats, joint: Integers) -> Mask:
    named = np.zeros(len(given), dtype=bool)
    wrong = joint.sum(axis=1) - joint.diagonal()
    for label in np.flatnonzero(wrong > 0).tolist():
        rows = np.flatnonzero(given == label)
        named[rows[np.argsort(own[rows], kind="stable")[: wrong[label]]]] = True
    return named


def _rounded_rows(values: Floats) -> Integers:
    """Whole numbers with the same sum in each row: the largest remainders are rounded up.

    Of equal ones the later, as cleanlab has it: on few rows that decides what is named.
    """
    floors = np.floor(values + 1e-9)
    missing = np.rint(values.sum(axis=1) - floors.sum(axis=1)).astype(np.int64)
    remainders = np.round(values - floors, 9)[:, ::-1]
    ranks = np.argsort(np.argsort(-remainders, axis=1, kind="stable"), axis=1)[:, ::-1]
    whole: Integers = (floors + (ranks < missing[:, None])).astype(np.int64)
    return whole


def folds_of(labels: Sequence[str], clusters: Sequence[str], num_folds: int) -> Integers:
    """A fold for each row: a cluster is in one, and each label is spread over all.

    The answer does not depend on the order of the rows.

    Args:
        labels: one for each row.
        clusters: key of the cluster of each row.
        num_folds: how many folds.
    """
    first: dict[str, str] = {}
    for label, cluster in zip(labels, clusters, strict=True):
        first[cluster] = min(label, first.get(cluster, label))
    order = sorted(first, key=lambda key: (first[key], _digest(key), key))
    fold = {cluster: position % num_folds for position, cluster in enumerate(order)}
    return np.array([fold[cluster] for cluster in clusters], dtype=np.int64)


def _digest(key: str) -> int:
    return xxhash.xxh3_64_intdigest(key.encode("utf-8", "surrogatepass"))


def out_of_fold(
    texts: Sequence[str],
    targets: Floats32,
    folds: Integers,
    features: ArrayLike | None = None,
    seed: int = 0,
    several: bool = False,
) -> Floats32:
    """Probabilities of each row from a classifier that has not seen its fold.

    Args:
        texts: of the rows; TF-IDF of their n-grams is used unless there are features.
        targets: [N, K] zeros and ones.
        folds: [N] from ``folds_of``.
        features: [N, H] a model's own representations.
        seed: of the choice of landmarks and samples.
        several: any number of ones a row.

    Returns:
        [N, K] in row order.
    """
    if features is None:
        work = max(min(len(texts), _FIT_ROWS) * targets.shape[1], 1)
        few, many = _NUM_LANDMARKS
        penalty = _SET_PENALTY if several else _PENALTY
        space = _Space.of(texts, min(max(_FIT_WORK // work, few), many), seed, penalty)
    else:
        space = _Space.given(np.asarray(features))
    found = np.zeros(targets.shape, dtype=np.float32)
    generator = np.random.default_rng(seed)
    steps = _NUM_SET_STEPS if several else _NUM_STEPS
    for fold in range(int(folds.max()) + 1):
        known = np.flatnonzero(folds != fold)
        if len(known) > _FIT_ROWS:
            known = np.sort(generator.permutation(known)[:_FIT_ROWS])
        asked = np.flatnonzero(folds == fold)
        model = fit_fast(space.dense(known), targets[known], space.penalty, steps, several)
        space.predict_into(found, asked, model, several)
    return found


def find(
    examples: Sequence[Example],
    keys: Sequence[str],
    clusters: Mapping[str, str] | None = None,
    features: ArrayLike | None = None,
    seed: int = 0,
) -> list[Finding]:
    """One label_error_suspected for each row (of several labels: each label) in doubt.

    Args:
        examples: rows; those without text or label are passed over.
        keys: their input keys (``deduplicate.input_key``), in the same order.
        clusters: input key → cluster of near copies (``near.Clusters.cluster_of``); an input that
            it does not name is a cluster by itself.
        features: [N, H] a model's representations of the examples, in their order.
        seed: of the choice of landmarks.
    """
    chosen = [
        index
        for index, example in enumerate(examples)
        if example.text is not None and example.target is not None and example.number is None
    ]
    counts = Counter(label for index in chosen for label in examples[index].classes)
    names = sorted(label for label, number in counts.items() if number >= MIN_LABEL_ROWS)
    several = any(examples[index].labels is not None for index in chosen)
    if not several:
        known = set(names)
        chosen = [index for index in chosen if examples[index].target in known]
    if len(chosen) < MIN_ROWS or len(names) < (1 if several else 2):
        return []
    rows = [examples[index] for index in chosen]
    if len(rows) * len(names) > MAX_CELLS:
        return [_not_looked(rows[0], len(rows), len(names))]
    near = clusters or {}
    own = [near.get(keys[index], keys[index]) for index in chosen]
    column = {name: position for position, name in enumerate(names)}
    targets = np.zeros((len(rows), len(names)), dtype=np.float32)
    for position, row in enumerate(rows):
        targets[position, [column[label] for label in row.classes if label in column]] = 1.0
    firsts = [row.classes[0] if row.classes else "" for row in rows]
    folds = folds_of(firsts, own, NUM_FOLDS)
    given = None if features is None else np.asarray(features)[chosen]
    texts = [row.text or "" for row in rows]
    chances = out_of_fold(texts, targets, folds, given, seed, several)
    judge = _wrong_sets if several else _wrong_labels
    return judge(rows, names, targets, chances.astype(np.float64))


def _wrong_labels(
    rows: Sequence[Example], names: Sequence[str], targets: Floats32, chances: Floats
) -> list[Finding]:
    given = targets.argmax(axis=1)
    scores = error_scores(given, chances)
    named = suspected(given, chances, "either") & (scores >= np.log(MIN_ODDS))
    findings = []
    for index in _worst(named, scores):
        label, better = names[given[index]], names[int(chances[index].argmax())]
        findings.append(
            rows[index].finding(
                "label_error_suspected",
                "warning",
                f"label {label!r} looks like {better!r}: {_odds(scores[index])} by a classifier "
                f"that learned from the other rows (score {scores[index]:.2f})",
                f"read it; write {better!r} if that is what it is",
            )
        )
    return findings


def _wrong_sets(
    rows: Sequence[Example], names: Sequence[str], targets: Floats32, chances: Floats
) -> list[Finding]:
    """Each label by itself: it applies or it does not."""
    named = np.zeros(targets.shape, dtype=bool)
    scores = np.zeros(targets.shape)
    for column in range(len(names)):
        pair = np.column_stack([1.0 - chances[:, column], chances[:, column]])
        applies = targets[:, column].astype(np.int64)
        scores[:, column] = error_scores(applies, pair)
        likely = scores[:, column] >= np.log(MIN_SET_ODDS)
        named[:, column] = suspected(applies, pair, "either") & likely
    findings = []
    for cell in _worst(named.ravel(), scores.ravel(), len(rows)):
        row, column = divmod(cell, len(names))
        has = targets[row, column] > 0
        findings.append(
            rows[row].finding(
                "label_error_suspected",
                "warning",
                f"label {names[column]!r} {'is given but does not fit' if has else 'is missing'}: "
                f"{_odds(scores[row, column])} by a classifier that learned from the other rows "
                f"(score {scores[row, column]:.2f})",
                f"read it; {'take the label away' if has else 'add the label'} if that is right",
            )
        )
    return findings


def _worst(named: Mask, scores: Floats, num_rows: int | None = None) -> list[int]:
    """What is named, in row order; when it is too much, the worst of it."""
    found = np.flatnonzero(named)
    limit = max(1, int(MAX_SHARE * (len(named) if num_rows is None else num_rows)))
    if len(found) > limit:
        found = np.sort(found[np.argsort(-scores[found], kind="stable")[:limit]])
    listed: list[int] = found.tolist()
    return listed


def _odds(score: float) -> str:
    odds = float(np.exp(min(score, 20.0)))
    return f"odds of {odds:,.0f} to 1" if odds < 10_000 else "odds above 10,000 to 1"


def _not_looked(first: Example, num_rows: int, num_labels: int) -> Finding:
    return Finding(
        "",
        first.source,
        0,
        None,
        "label_error_suspected",
        "note",
        f"wrong labels were not looked for: {num_rows:,} rows times {num_labels:,} labels is more "
        f"than {MAX_CELLS:,}",
        "check a part of the rows by itself",
    )


@dataclass(slots=True)
class _Space:
    """Rows as the classifier sees them, sparse with landmarks or dense."""

    penalty: float
    sparse: csr_matrix | None = None
    landmarks: Landmarks | None = None
    whole: Floats32 | None = None
    """Coordinates of all rows, where there are few enough."""

    @classmethod
    def of(cls, texts: Sequence[str], num_landmarks: int, seed: int, penalty: float) -> "_Space":
        counts = count_ngrams(texts)
        full = fit_tfidf(counts, min_rows=2).transform(counts)
        landmarks = choose_landmarks(full, num_landmarks, seed)
        reduced = landmarks.reduce(full)
        few = len(texts) <= 2 * _FIT_ROWS
        whole = landmarks.coordinates(reduced) if few else None
        return cls(penalty, reduced, landmarks, whole)

    @classmethod
    def given(cls, features: NDArray[np.floating]) -> "_Space":
        values = features.astype(np.float64)
        spread = values.std(axis=0)
        scaled = (values - values.mean(axis=0)) / np.where(spread < 1e-12, 1.0, spread)
        return cls(_DENSE_PENALTY, whole=scaled.astype(np.float32))

    def dense(self, rows: Integers) -> Floats32:
        if self.whole is not None:
            return self.whole[rows]
        assert self.sparse is not None
        assert self.landmarks is not None
        return self.landmarks.coordinates(self.sparse[rows])

    def predict_into(
        self, found: Floats32, rows: Integers, model: FastLinear, several: bool
    ) -> None:
        weights = None
        if self.whole is None and self.landmarks is not None:
            weights = self.landmarks.weights(model.weights)
        for start in range(0, len(rows), _CHUNK):
            some = rows[start : start + _CHUNK]
            if self.whole is not None:
                logits = self.whole[some] @ model.weights
            else:
                assert self.sparse is not None
                logits = self.sparse[some] @ weights
            found[some] = chances_of(logits + model.offsets, several)
