"""Intervals by inverting the sign-flip test: they hold where clusters are few or one is huge.

A t interval takes the spread of clusters as known from many of equal weight. With six of them, or
one that holds half of the rows, it covers the truth in 66 to 90 % of cases instead of 95. The
sign-flip test needs only that each cluster's deviation from the truth is as likely above as below,
whatever its size; so does the interval of all differences that the test does not reject.

In: per unit, the difference and its weight. Out: intervals of tuned - base.
Must not know: metrics.
"""

from collections.abc import Iterator
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


def sign_flip_interval(
    differences: FloatArray,
    denominators: FloatArray,
    *,
    groups: IntArray | None = None,
    num_draws: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """All values of sum(difference) / sum(denominator) that the sign-flip test does not reject.

    Flipping the signs of the deviations S_c - d w_c of some units makes the absolute sum as large
    as it is exactly when d lies between the ratio of those units and the ratio of the others. So
    each pattern of flips gives one such stretch, all of them hold the estimate, and the interval's
    ends are quantiles of theirs.

    Args:
        differences: [N] tuned - base, summed over the row (a score, or nats).
        denominators: [N] what the sum is divided by (1, or target tokens), above 0.
        groups: [N] cluster number of every row; None when rows are independent.
        num_draws: random patterns; all 2**C are enumerated for up to 12 units.
        confidence: two-sided level.
        seed: of the random generator.

    Returns:
        Lower and upper end; infinite where even the farthest value would not be rejected (up to 5
        units at 95 %).

    Raises:
        ValueError: no units.

    Source: Lehmann and Romano 2005, section 5.12 (intervals from randomization tests); subset means
    as ends: Hartigan 1969 (JASA 64:1303-1317), "typical values"; the +1 rule: Phipson and Smyth
    2010.
    """
    units = sum_by_unit(np.column_stack([differences, denominators]), groups)
    if not len(units):
        raise ValueError("an interval needs at least one unit")
    total, weight = units.sum(axis=0)
    exact = len(units) <= EXACT_UNITS
    lows, highs = [], []
    for chosen in _patterns(len(units), num_draws, seed):
        sums = chosen @ units
        with np.errstate(divide="ignore", invalid="ignore"):
            inside = sums[:, 0] / sums[:, 1]
            outside = (total - sums[:, 0]) / (weight - sums[:, 1])
        # All flipped, or none: as large for every value.
        whole = (chosen.sum(axis=1) == 0) | (chosen.sum(axis=1) == len(units))
        lows.append(np.where(whole, -np.inf, np.minimum(inside, outside)))
        highs.append(np.where(whole, np.inf, np.maximum(inside, outside)))
    if not exact:
        lows.append(np.array([-np.inf]))
        highs.append(np.array([np.inf]))
    low, high = np.concatenate(lows), np.concatenate(highs)
    # A value is rejected when at most this many patterns are as extreme. The slack: 0.05 as
    # 1 - 0.95 must not lose a pattern to rounding.
    allowed = int(np.floor((1.0 - confidence) * len(low) * (1.0 + 1e-9)))
    place = min(allowed, len(low) - 1)
    return (
        float(np.partition(low, place)[place]),
        float(-np.partition(-high, place)[place]),
    )


def pseudo_differences(
    base_units: FloatArray, tuned_units: FloatArray, weights: FloatArray, score: Score
) -> FloatArray:
    """What each unit adds to the difference of a metric that is no mean, times the weights' sum.

    For a mean or ratio whose denominators are the weights, these are the units' own differences.

    Args:
        base_units: [C, K] summed statistics of the base, one line per unit.
        tuned_units: [C, K] of the tuned model.
        weights: [C] size of each unit (its rows), above 0.
        score: the metric from summed statistics.

    Returns:
        [C] W d - (W - w_c) d_(-c): whole weight times the difference, less the same without the
        unit. Their sum over W is the difference, up to the metric's curvature.

    Source: Busing, Meijer and van der Leeden 1999 (Statistics and Computing 9:3-8), the
    delete-one-group jackknife for groups of unequal size, in weights instead of 1 / n.
    """
    base_total, tuned_total = base_units.sum(axis=0), tuned_units.sum(axis=0)
    whole = float(weights.sum())
    difference = float(score(tuned_total) - score(base_total))
    without = score(tuned_total - tuned_units) - score(base_total - base_units)
    found: FloatArray = whole * difference - (whole - weights) * without
    return found


def _patterns(num_units: int, num_draws: int, seed: int) -> Iterator[FloatArray]:
    if num_units <= EXACT_UNITS:
        yield np.array(list(product((0.0, 1.0), repeat=num_units)))
    else:
        yield from swap_counts(np.ones(num_units, dtype=np.int64), num_draws, seed)
