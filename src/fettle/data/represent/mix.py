"""Mix shift: whether train and target hold the same slices in the same shares.

In: the slice of each row, such as its language, length or channel. Out: total variation distance
with an interval, and a permutation p-value. Must not know: where slices come from.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_NUM_DRAWS: Final = 1_999
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Share:
    """One slice."""

    name: str
    train: float
    """Share of the rows of train."""
    target: float


@dataclass(frozen=True, slots=True)
class MixShift:
    """How far apart the shares of the slices are."""

    slices: str
    """What is counted: label, length, language, or the name of a column."""
    distance: float
    """Total variation: half the sum of the absolute differences of shares; 0 to 1."""
    ci_low: float
    ci_high: float
    """95 %, basic bootstrap."""
    expected: float
    """Mean distance of two samples of this size with no shift at all."""
    p_value: float
    """Permutation test of chi-squared."""
    num_slices: int
    shares: tuple[Share, ...]
    """The slices that differ most."""


def mix_shift(
    name: str,
    train: Sequence[str],
    target: Sequence[str],
    seed: int = 0,
    num_draws: int = _NUM_DRAWS,
) -> MixShift:
    """Compare the slices of two sets of rows.

    Args:
        name: what the slices are.
        train: slice of each row of train.
        target: slice of each row of the target.
        seed: of bootstrap and permutations.
        num_draws: of each.
    """
    names = sorted({*train, *target})
    first, second = Counter(train), Counter(target)
    counts = np.array([[first[n] for n in names], [second[n] for n in names]], dtype=np.int64)
    sizes = counts.sum(axis=1)
    generator = np.random.default_rng(seed)
    # Permuting rows = drawing the target's rows from all, slice by slice.
    drawn = generator.multivariate_hypergeometric(
        counts.sum(axis=0), int(sizes[1]), size=num_draws, method="marginals"
    )
    permuted = np.stack([counts.sum(axis=0) - drawn, drawn], axis=1)
    observed = float(chi_squared(counts[None])[0])
    exceeding = int((chi_squared(permuted) >= observed - 1e-9).sum())
    again = np.stack(
        [
            generator.multinomial(size, row / size, size=num_draws)
            for size, row in zip(sizes, counts, strict=True)
        ],
        axis=1,
    )
    distance = float(distances(counts[None])[0])
    low, high = np.quantile(distances(again), [0.025, 0.975])
    shares = counts / sizes[:, None]
    order = np.argsort(-np.abs(shares[0] - shares[1]), kind="stable")[:_SHOWN].tolist()
    return MixShift(
        slices=name,
        distance=distance,
        ci_low=max(0.0, 2 * distance - float(high)),
        ci_high=min(1.0, max(2 * distance - float(low), distance)),
        expected=float(distances(permuted).mean()),
        p_value=(1 + exceeding) / (num_draws + 1),
        num_slices=len(names),
        shares=tuple(Share(names[i], float(shares[0, i]), float(shares[1, i])) for i in order),
    )


def distances(counts: Integers) -> Floats:
    """[D] total variation distances of tables [D, 2, L]."""
    shares = counts / counts.sum(axis=2, keepdims=True)
    found: Floats = np.abs(shares[:, 0] - shares[:, 1]).sum(axis=1) / 2
    return found


def chi_squared(counts: Integers) -> Floats:
    """[D] Pearson's statistic of tables [D, 2, L]; columns without rows add nothing."""
    columns = counts.sum(axis=1, keepdims=True)
    expected = counts.sum(axis=2, keepdims=True) * columns / counts.sum(axis=(1, 2), keepdims=True)
    parts = np.square(counts - expected) / np.where(expected > 0, expected, 1.0)
    found: Floats = parts.sum(axis=(1, 2))
    return found


def length_buckets(train: Sequence[int], target: Sequence[int]) -> tuple[list[str], list[str]]:
    """Five buckets that hold equal shares of train.

    Args:
        train: words in each row of train.
        target: words in each row of the target.
    """
    edges = sorted({int(edge) for edge in np.quantile(train, [0.2, 0.4, 0.6, 0.8])})
    names = [f"up to {edge} words" for edge in edges] + [f"over {edges[-1]} words"]

    def bucket(values: Sequence[int]) -> list[str]:
        found = np.searchsorted(np.array(edges), np.asarray(values), side="left")
        return [names[i] for i in found.tolist()]

    return bucket(train), bucket(target)
