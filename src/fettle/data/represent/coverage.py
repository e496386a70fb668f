"""Coverage: which rows of a target are unlike anything in train, and what they are about.

The likeness of a row is the mean of its three best cosines to reference rows of train. Rows of
train that are held out of the reference say how low it falls by chance: a target row below their
5th percentile is not covered.

In: sparse features of unit rows, texts. Out: likeness, shares with intervals, groups with keywords.
Must not know: labels, files.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.stats import hypergeom
from sklearn.cluster import KMeans

from fettle.statistics.single import wilson_interval

Floats = NDArray[np.float64]

NEIGHBOURS: Final = 3
QUANTILE: Final = 0.05
"""Share of train's own rows that counts as not covered."""

_CHUNK = 512
_MAX_GROUPS = 8
_ROWS_A_GROUP = 12
_MAX_DIMENSIONS = 64
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of the target that are not covered and have something in common."""

    rows: tuple[str, ...]
    """Their row ids, the least covered first."""
    keywords: tuple[str, ...]
    """Words that they use more than train does."""
    rows_to_collect: int
    """Rows like these with which train would have the share that the target has."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of the target is unlike train."""

    uncovered: int
    n: int
    """Rows of the target that were looked at."""
    share: float
    ci_low: float
    ci_high: float
    """Wilson, 95 %."""
    expected: float
    """Share of train's own held-out rows below the threshold; about 0.05."""
    p_value: float
    """One-sided Fisher exact test: more than among train's own rows."""
    threshold: float
    """Likeness below which a row is not covered."""
    calibration: int
    """Rows of train that were held out to set the threshold."""
    groups: tuple[Group, ...]


def likeness(features: csr_matrix, reference: csr_matrix) -> Floats:
    """Mean of the best three cosines of each row to the reference.

    Args:
        features: [N, F] rows of unit length.
        reference: [M, F] the same.
    """
    turned = reference.T.tocsr()
    best = min(NEIGHBOURS, reference.shape[0])
    found = np.zeros(features.shape[0])
    for start in range(0, features.shape[0], _CHUNK):
        products = (features[start : start + _CHUNK] @ turned).toarray()
        top = np.partition(products, products.shape[1] - best, axis=1)[:, -best:]
        found[start : start + _CHUNK] = top.mean(axis=1)
    return found


def fisher_more(hits: int, n: int, other_hits: int, other_n: int) -> float:
    """One-sided Fisher exact p-value that the first share is higher."""
    return float(hypergeom.sf(hits - 1, n + other_n, hits + other_hits, n))


def cover(target_likeness: Floats, own_likeness: Floats) -> tuple[Coverage, NDArray[np.bool_]]:
    """The uncovered share of the target (without groups), and which rows they are.

    Args:
        target_likeness: [N] of the target's rows to the reference.
        own_likeness: [C] of train's held-out rows to the same reference.
    """
    # The threshold is one of train's own values: k of C lie strictly below it.
    position = int(QUANTILE * len(own_likeness))
    threshold = float(np.sort(own_likeness)[position])
    below = target_likeness < threshold
    own = int((own_likeness < threshold).sum())
    hits, n = int(below.sum()), len(target_likeness)
    low, high = wilson_interval(hits, n)
    return Coverage(
        uncovered=hits,
        n=n,
        share=hits / n,
        ci_low=low,
        ci_high=high,
        expected=own / len(own_likeness),
        p_value=fisher_more(hits, n, own, len(own_likeness)),
        threshold=threshold,
        calibration=len(own_likeness),
        groups=(),
    ), below


def group_rows(
    features: csr_matrix,
    texts: Sequence[str],
    row_ids: Sequence[str],
    known: Counter[str],
    num_known: int,
    excess: float,
    num_train: int,
    seed: int,
) -> tuple[Group, ...]:
    """Uncovered rows by what they are about, the largest group first.

    Args:
        features: [N, F] of the uncovered rows, the least covered first.
        texts: theirs.
        row_ids: theirs.
        known: in how many rows of train each word stands.
        num_known: rows that were counted for ``known``.
        excess: share of the target that is not covered, beyond the share of train that is not; the
            rest of the target is taken as covered by train as it is.
        num_train: rows of train, which "rows to collect" is about.
        seed: of the grouping.
    """
    number = max(1, min(_MAX_GROUPS, len(texts) // _ROWS_A_GROUP))
    members = np.zeros(len(texts), dtype=np.int64)
    if number > 1:
        products = (features @ features.T).toarray()
        values, vectors = np.linalg.eigh(products)
        kept = min(_MAX_DIMENSIONS, len(texts))
        points = vectors[:, -kept:] * np.sqrt(np.maximum(values[-kept:], 0.0))
        members = KMeans(number, n_init=3, random_state=seed).fit_predict(points)
    groups = []
    for label in range(number):
        rows = np.flatnonzero(members == label).tolist()
        if rows:
            words = keywords([texts[i] for i in rows], known, num_known)
            share = excess * len(rows) / len(texts)
            wanted = math.ceil(share * num_train / max(1.0 - excess, 0.05))
            groups.append(Group(tuple(row_ids[i] for i in rows), words, wanted))
    return tuple(sorted(groups, key=lambda group: (-len(group.rows), group.rows)))


def word_rows(texts: Sequence[str]) -> Counter[str]:
    """In how many of the texts each word stands."""
    found: Counter[str] = Counter()
    for text in texts:
        found.update(set(_WORD.findall(text.lower())))
    return found


def keywords(
    texts: Sequence[str], known: Counter[str], num_known: int, number: int = 5
) -> tuple[str, ...]:
    """Words that these texts use more than others do, by log-likelihood ratio (G²).

    Args:
        texts: what is to be described.
        known: in how many of the other texts each word stands.
        num_known: how many others there are.
        number: how many words at most.

    Source: Dunning 1993, "Accurate methods for the statistics of surprise and coincidence".
    """
    here = word_rows(texts)
    scored = []
    for word, count in here.items():
        g2 = surprise(count, len(texts), known[word], num_known)
        if g2 > 0.0 and not word.isdigit():
            scored.append((-g2, word))
    return tuple(word for _, word in sorted(scored)[:number])


def surprise(count: int, n: int, other_count: int, other_n: int) -> float:
    """Signed G² of two shares; positive where the first is higher."""
    if not n or not other_n:
        return 0.0
    share = (count + other_count) / (n + other_n)
    g2 = 0.0
    for seen, size in ((count, n), (other_count, other_n)):
        for value, expected in ((seen, share * size), (size - seen, (1 - share) * size)):
            if value > 0:
                g2 += 2.0 * value * math.log(value / expected)
    return g2 if count / n > other_count / other_n else -g2
