"""One arm on its own: intervals for a share and for any metric of the whole set.

In: counts, or one row of sufficient statistics per row. Out: intervals of the value itself. Must
not know: what a row or a metric is. The interval of a mean or a ratio is in ``clustered``.
"""

import numpy as np
from scipy.stats import norm

from fettle.statistics.paired import widened_tail
from fettle.statistics.resampling import (
    FloatArray,
    IntArray,
    Score,
    merge_units,
    resample_weights,
    sum_by_unit,
)


def wilson_interval(successes: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Score interval for a share of independent rows.

    Args:
        successes: rows that are right (fractions are allowed for scaled counts).
        n: all rows, above 0.
        confidence: two-sided level.

    Returns:
        Lower and upper end, 0 to 1.

    Source: Wilson 1927 (JASA 22:209-212); recommended by Brown, Cai and DasGupta 2001 (Statistical
    Science 16:101-133).
    """
    if n <= 0 or not 0 <= successes <= n * (1 + 1e-12):
        raise ValueError("successes must be from 0 to n, and n above 0")
    z = float(norm.isf((1.0 - confidence) / 2.0))
    share = min(1.0, successes / n)
    middle = (share + z * z / (2.0 * n)) / (1.0 + z * z / n)
    half = z / (1.0 + z * z / n) * np.sqrt(share * (1.0 - share) / n + z * z / (4.0 * n * n))
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def bootstrap_interval(
    sums: FloatArray,
    score: Score,
    *,
    groups: IntArray | None = None,
    num_resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of a metric, by resampling rows or whole groups.

    Args:
        sums: [N, K] sufficient statistics, one line per row.
        score: the metric from summed statistics, [..., K] -> [...].
        groups: [N] cluster number of every row; None when rows are independent.
        num_resamples: bootstrap resamples.
        confidence: two-sided level.
        seed: of the random generator.

    Returns:
        Lower and upper end.

    Raises:
        ValueError: fewer than two rows or groups.

    Source: Efron and Tibshirani 1993, ch. 13; percentiles widened for few units as in
    ``paired_bootstrap``.
    """
    units = sum_by_unit(sums, groups)
    num_units = len(units)
    if num_units < 2:
        raise ValueError("a bootstrap needs at least two units")
    units, counts = merge_units(units)
    values = np.empty(num_resamples)
    start = 0
    for weights in resample_weights(counts, num_resamples, seed):
        values[start : start + len(weights)] = score(weights @ units)
        start += len(weights)
    tail = widened_tail(num_units, confidence)
    low, high = np.quantile(values, [tail, 1.0 - tail])
    return float(low), float(high)
