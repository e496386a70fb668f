"""Intervals for differences of means and ratios, when rows are independent or come in clusters.

In: per row, the difference of the two arms' numerators and the shared denominator (1 for a mean
over rows, target tokens for a loss). Out: intervals of tuned - base. Must not know: metrics.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import t

from fettle.statistics.resampling import (
    FloatArray,
    IntArray,
    merge_units,
    resample_weights,
    sum_by_unit,
)


@dataclass(frozen=True, slots=True)
class RatioInterval:
    """An interval for sum(difference) / sum(denominator)."""

    difference: float
    low: float
    high: float
    standard_error: float
    num_units: int


def cluster_t_interval(
    differences: FloatArray,
    denominators: FloatArray,
    *,
    groups: IntArray | None = None,
    confidence: float = 0.95,
) -> RatioInterval:
    """Linearised interval with Student's t on C - 1 degrees of freedom.

    Args:
        differences: [N] tuned - base, summed over the row (a score, or nats).
        denominators: [N] what the sum is divided by (1, or target tokens), above 0.
        groups: [N] cluster number of every row; None when rows are independent.
        confidence: two-sided level.

    Returns:
        The interval; the standard error is the cluster-robust one with the factor C / (C - 1).

    Raises:
        ValueError: fewer than two rows or groups.

    Source: Liang and Zeger 1986; Cameron and Miller 2015, section II (t with C - 1 degrees of
    freedom); equal to statsmodels' ``cov_type="cluster"`` for a weighted mean.
    """
    units = sum_by_unit(np.column_stack([differences, denominators]), groups)
    num_units = len(units)
    if num_units < 2:
        raise ValueError("an interval needs at least two units")
    total, weight = units.sum(axis=0)
    estimate = total / weight
    residuals = units[:, 0] - estimate * units[:, 1]
    spread = np.sqrt(num_units / (num_units - 1) * np.sum(residuals**2)) / weight
    half = float(t.isf((1.0 - confidence) / 2.0, num_units - 1)) * spread
    return RatioInterval(
        float(estimate), float(estimate - half), float(estimate + half), float(spread), num_units
    )


def studentized_bootstrap_interval(
    differences: FloatArray,
    denominators: FloatArray,
    *,
    groups: IntArray | None = None,
    num_resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> RatioInterval:
    """Bootstrap-t interval: like ``cluster_t_interval``, with the quantiles found by resampling.

    Follows skewed differences, which a t interval does not. Unbounded ends are infinite (possible
    only when so few units differ that a resample may show no spread at all).

    Args:
        differences: [N] tuned - base, summed over the row.
        denominators: [N] what the sum is divided by, above 0.
        groups: [N] cluster number of every row; None when rows are independent.
        num_resamples: bootstrap resamples.
        confidence: two-sided level.
        seed: of the random generator.

    Returns:
        The interval.

    Raises:
        ValueError: fewer than two rows or groups.

    Source: Efron and Tibshirani 1993, ch. 12.5; Hall 1988.
    """
    plain = cluster_t_interval(differences, denominators, groups=groups, confidence=confidence)
    if plain.standard_error == 0.0:
        return plain
    units = sum_by_unit(np.column_stack([differences, denominators]), groups)
    num_units = len(units)
    units, counts = merge_units(units)
    # Residuals keep the moments small, so that the variance below does not cancel.
    residuals = units[:, 0] - plain.difference * units[:, 1]
    denominator = units[:, 1]
    moments = np.column_stack(
        [residuals, denominator, residuals**2, residuals * denominator, denominator**2]
    )
    statistics = np.empty(num_resamples)
    floor = 1e-12 * float(np.sum(counts * residuals**2))
    start = 0
    for weights in resample_weights(counts, num_resamples, seed):
        total, weight, square, cross, weight_square = (weights @ moments).T
        shift = total / weight
        variance = square - 2.0 * shift * cross + shift**2 * weight_square
        spread = np.sqrt(num_units / (num_units - 1) * np.maximum(variance, 0.0)) / weight
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(variance > floor, shift / spread, np.sign(shift) * np.inf)
        # A resample without spread and without shift says nothing against any value.
        statistics[start : start + len(weights)] = np.nan_to_num(
            ratio, nan=0.0, posinf=np.inf, neginf=-np.inf
        )
        start += len(weights)
    tail = (1.0 - confidence) / 2.0
    # No interpolation: it would turn two infinite values into "not a number".
    low, high = np.quantile(statistics, [tail, 1.0 - tail], method="inverted_cdf")
    return RatioInterval(
        plain.difference,
        float(plain.difference - high * plain.standard_error),
        float(plain.difference - low * plain.standard_error),
        plain.standard_error,
        num_units,
    )


def wider_interval(
    differences: FloatArray,
    denominators: FloatArray,
    *,
    groups: IntArray | None = None,
    num_resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> RatioInterval:
    """The t and the bootstrap-t interval, each end from the one that reaches further.

    Measured on 10 to 300 rows, 95 % nominal: t alone covers 56 to 94 % of skewed differences,
    bootstrap-t alone 88 to 93 % of heavy-tailed ones; the wider of both at least 93.8 % of each of
    these but a lognormal (tests/unit/test_statistics_calibration.py). Arguments, result and errors
    are those of ``studentized_bootstrap_interval``.
    """
    plain = cluster_t_interval(differences, denominators, groups=groups, confidence=confidence)
    boot = studentized_bootstrap_interval(
        differences,
        denominators,
        groups=groups,
        num_resamples=num_resamples,
        confidence=confidence,
        seed=seed,
    )
    return RatioInterval(
        plain.difference,
        min(plain.low, boot.low),
        max(plain.high, boot.high),
        plain.standard_error,
        plain.num_units,
    )
