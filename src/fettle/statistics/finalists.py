"""Several finalists against one base on the same rows: max-T with shared sign flips.

In: [N, K] sufficient statistics of the base and of each finalist. Out: p-values, plain and adjusted
for having looked at all of them. Must not know: what a finalist is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from fettle.statistics.resampling import (
    EXACT_UNITS,
    FloatArray,
    IntArray,
    Score,
    sum_by_unit,
    swap_counts,
)


@dataclass(frozen=True, slots=True)
class FinalistTest:
    """One finalist against the base."""

    difference: float
    """finalist - base."""
    p_value: float
    """Two-sided, as if it were the only one."""
    p_adjusted: float
    """Bounds the chance of any false claim among the finalists."""


def max_t(
    base_sums: FloatArray,
    finalist_sums: Sequence[FloatArray],
    score: Score,
    *,
    groups: IntArray | None = None,
    num_draws: int = 10_000,
    seed: int = 0,
) -> list[FinalistTest]:
    """Test k finalists at once; swaps of the arms are shared, so that their dependence counts.

    Finalists of one base have correlated differences: max-T loses less power than Holm. Each
    difference is divided by its spread over the swaps, so that a noisy finalist hides no other.

    Args:
        base_sums: [N, K] sufficient statistics of the base, one line per row.
        finalist_sums: [N, K] of each finalist, with columns of the same meaning.
        score: the metric from summed statistics, [..., K] -> [...].
        groups: [N] cluster number of every row; None when rows are independent.
        num_draws: random patterns; all 2**C are enumerated for up to 12 units.
        seed: of the random generator.

    Returns:
        One result per finalist, in the order given; adjusted p-values step down.

    Source: Westfall and Young 1993, algorithm 4.1 (free step-down max-T); the +1 rule: Phipson and
    Smyth 2010.
    """
    if not finalist_sums:
        return []
    base_units = sum_by_unit(base_sums, groups)
    finalists = [sum_by_unit(sums, groups) for sums in finalist_sums]
    base_total = base_units.sum(axis=0)
    totals = [units.sum(axis=0) for units in finalists]
    changes = [units - base_units for units in finalists]
    observed = np.array([float(score(total) - score(base_total)) for total in totals])
    exact = len(base_units) <= EXACT_UNITS
    blocks = []
    for swapped in _patterns(len(base_units), num_draws, seed):
        found = np.empty((len(swapped), len(finalists)))
        for number, (total, change) in enumerate(zip(totals, changes, strict=True)):
            moved = swapped @ change
            found[:, number] = score(total - moved) - score(base_total + moved)
        blocks.append(found)
    null = np.abs(np.concatenate(blocks))
    spread = np.sqrt(np.mean(null**2, axis=0))
    spread = np.where(spread > 0.0, spread, 1.0)
    null, seen = null / spread, np.abs(observed) / spread
    extra = 0 if exact else 1
    # Rounding must not decide whether a pattern ties with the observed one.
    bound = seen - 1e-10 * np.maximum(1.0, seen)
    alone = (np.sum(null >= bound, axis=0) + extra) / (len(null) + extra)
    order = np.argsort(-seen, kind="stable")
    # Largest statistic among a finalist and all that are weaker.
    reach = np.maximum.accumulate(null[:, order[::-1]], axis=1)[:, ::-1]
    adjusted = (np.sum(reach >= bound[order], axis=0) + extra) / (len(null) + extra)
    adjusted = np.maximum.accumulate(adjusted)
    back = np.empty(len(order), dtype=np.int64)
    back[order] = np.arange(len(order))
    return [
        FinalistTest(float(value), float(one), float(all_of_them))
        for value, one, all_of_them in zip(observed, alone, adjusted[back], strict=True)
    ]


def _patterns(num_units: int, num_draws: int, seed: int) -> Iterator[FloatArray]:
    if num_units <= EXACT_UNITS:
        yield np.array(list(product((0.0, 1.0), repeat=num_units)))
    else:
        yield from swap_counts(np.ones(num_units, dtype=np.int64), num_draws, seed)
