"""Guards: is tuned not worse than base by a stated margin or more? And how many rows that takes.

In: counts of discordant pairs, or differences per row oriented so that above 0 is better.
Out: one-sided p-values and bounds; power of one guard and of several together.
Must not know: what a guard is.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom, norm, t

from fettle.statistics.clustered import cluster_t_interval
from fettle.statistics.paired import tango_interval, tango_score
from fettle.statistics.resampling import BoolArray, FloatArray, IntArray

MAX_ROWS = 1_000_000
"""Beyond this many rows per guard the answer is None."""


@dataclass(frozen=True, slots=True)
class NonInferiority:
    """A one-sided test of H0: tuned - base <= -margin."""

    difference: float
    """tuned - base, above 0 is better."""
    low: float | None
    """One-sided lower bound at 1 - alpha; None where the rows can't bound it."""
    upper: float | None
    """One-sided upper bound at 1 - alpha: the guard is lost when it lies below -margin."""
    p_value: float
    margin: float
    num_units: int
    test: str

    @property
    def held(self) -> bool:
        """Shown not to be worse by the margin."""
        return self.low is not None and self.low > -self.margin

    @property
    def lost(self) -> bool:
        """Shown to be worse by the margin or more."""
        return self.upper is not None and self.upper < -self.margin


def tango_noninferiority(base_only: float, tuned_only: float, n: float, margin: float) -> float:
    """One-sided p-value of Tango's score test of H0: tuned - base <= -margin.

    Args:
        base_only: pairs that only the base has right.
        tuned_only: pairs that only the tuned model has right.
        n: all pairs, above 0.
        margin: largest loss that is accepted, in proportions, 0 to 1.

    Returns:
        p; small when a loss of the margin would hardly give such pairs. Measured type-I error at
        the margin: 4.9 % at alpha 5 % (300 rows, discordance .10).

    Source: Tango 1998, Statistics in Medicine 17:891-908, section 4.
    """
    _check_margin(margin)
    return float(norm.sf(tango_score(base_only, tuned_only, n, -margin)))


def binary_noninferiority(
    base_correct: FloatArray,
    tuned_correct: FloatArray,
    margin: float,
    *,
    groups: IntArray | None = None,
    alpha: float = 0.025,
) -> NonInferiority:
    """Non-inferiority of answers that are right or wrong.

    Args:
        base_correct: [N] 0 or 1.
        tuned_correct: [N] on the same rows.
        margin: largest loss that is accepted, in proportions.
        groups: [N] cluster number of every row; None when rows are independent.
        alpha: one-sided level of the bounds.

    Returns:
        Independent rows: Tango's test. Clusters: the less favourable of Tango's (clusters never
        tell more than as many independent rows) and the cluster t.

    Raises:
        ValueError: no rows, or a margin outside 0 to 1.
    """
    _check_margin(margin)
    n = len(base_correct)
    base_only = int(np.count_nonzero(base_correct > tuned_correct))
    tuned_only = int(np.count_nonzero(base_correct < tuned_correct))
    low, upper = tango_interval(base_only, tuned_only, n, 1.0 - 2.0 * alpha)
    p_value = tango_noninferiority(base_only, tuned_only, n, margin)
    difference = (tuned_only - base_only) / n
    if groups is None:
        return NonInferiority(difference, low, upper, p_value, margin, n, "Tango non-inferiority")
    num_units = int(groups.max()) + 1
    name = "cluster non-inferiority (less favourable of t and Tango)"
    if num_units < 2:
        return NonInferiority(difference, None, None, 1.0, margin, num_units, name)
    found = mean_noninferiority(
        tuned_correct - base_correct, np.ones(n), margin, groups=groups, alpha=alpha
    )
    if found.low is None or found.upper is None:
        # All clusters differ alike: each counts as one row, for want of any other bound.
        scale = num_units / n
        low, upper = tango_interval(
            base_only * scale, tuned_only * scale, num_units, 1.0 - 2.0 * alpha
        )
        p_value = tango_noninferiority(base_only * scale, tuned_only * scale, num_units, margin)
    else:
        low, upper = min(low, found.low), max(upper, found.upper)
        p_value = max(p_value, found.p_value)
    return NonInferiority(difference, low, upper, p_value, margin, num_units, name)


def mean_noninferiority(
    differences: FloatArray,
    denominators: FloatArray,
    margin: float,
    *,
    groups: IntArray | None = None,
    alpha: float = 0.025,
) -> NonInferiority:
    """Non-inferiority of a mean or ratio (a score, nats per token) by a cluster t test.

    Args:
        differences: [N] summed over the row, oriented so that above 0 is better (base - tuned for
            a loss).
        denominators: [N] what the sum is divided by (1, or target tokens), above 0.
        margin: largest loss that is accepted, in the metric's unit, at least 0.
        groups: [N] cluster number of every row; None when rows are independent.
        alpha: one-sided level of the bounds.

    Returns:
        The test on C - 1 degrees of freedom; bounds None with fewer than two units, or when all
        units differ alike (their spread is unknown then, not 0).

    Source: Schuirmann 1987 (one side of the two one-sided tests); standard error as in
    ``cluster_t_interval``.
    """
    if margin < 0.0:
        raise ValueError("a margin can't be negative")
    name = "t non-inferiority" if groups is None else "cluster t non-inferiority"
    num_units = len(differences) if groups is None else int(groups.max()) + 1
    difference = float(np.sum(differences) / np.sum(denominators))
    if num_units < 2:
        return NonInferiority(difference, None, None, 1.0, margin, num_units, name)
    found = cluster_t_interval(
        differences, denominators, groups=groups, confidence=1.0 - 2.0 * alpha
    )
    if found.standard_error == 0.0:
        if difference == 0.0 and not np.any(differences):
            # Nothing changed at all: the outputs are the same, whatever other rows would say.
            return NonInferiority(0.0, 0.0, 0.0, 0.0, margin, num_units, name)
        return NonInferiority(difference, None, None, 1.0, margin, num_units, name)
    statistic = (difference + margin) / found.standard_error
    p_value = float(t.sf(statistic, num_units - 1))
    return NonInferiority(difference, found.low, found.high, p_value, margin, num_units, name)


def noninferiority_power(
    n: int,
    discordance: float,
    margin: float,
    *,
    difference: float = 0.0,
    alpha: float = 0.025,
) -> float:
    """Chance that a guard of n independent rows holds, by enumeration of all tables.

    Args:
        n: rows.
        discordance: share of rows on which exactly one arm is right.
        margin: largest loss that is accepted, in proportions.
        difference: true tuned - base; at ``-margin`` this is the type-I error.
        alpha: one-sided level.

    Returns:
        Sum over tables of their chance where Tango's p <= alpha.
    """
    _check_margin(margin)
    if n <= 0:
        return 0.0
    if not abs(difference) <= discordance <= 1.0:
        raise ValueError("discordance must lie between the difference and 1")
    if discordance == 0.0:
        return float(tango_noninferiority(0, 0, n, margin) <= alpha)
    # Discordant counts outside this range have a chance below 1e-12.
    first, last = (int(value) for value in binom.ppf([1e-12, 1.0 - 1e-12], n, discordance))
    discordant = np.arange(first, last + 1)
    weight = binom.pmf(discordant, n, discordance)
    # For a given number of discordant pairs Z grows with the tuned model's share of them, so the
    # smallest count that rejects decides; found by bisection for all numbers at once.
    low, high = np.full(len(discordant), -1), discordant + 1
    z = float(norm.isf(alpha))
    while np.any(high - low > 1):
        middle = (low + high) // 2
        rejects = _rejects(discordant - middle, middle, n, margin, z)
        rejects |= middle > discordant
        rejects &= middle >= 0
        high, low = np.where(rejects, middle, high), np.where(rejects, low, middle)
    win = (discordance + difference) / (2.0 * discordance)
    return float(np.sum(weight * binom.sf(high - 1, discordant, win)))


def joint_power(powers: Iterable[float]) -> float:
    """Chance that all guards hold, where their rows are independent of each other.

    All guards must hold for the word "improved" (an intersection-union test), so each is tested at
    the full alpha, and power is what suffers: three guards of .84 hold together in .60 of runs.

    Source: Berger 1982, Technometrics 24:295-300 (no correction); the product: independence.
    """
    return math.prod(powers)


def rows_per_guard(
    margin: float,
    discordance: float,
    num_guards: int,
    *,
    power: float = 0.9,
    alpha: float = 0.025,
    exact: bool = True,
) -> int | None:
    """Rows that each of several equal guards needs so that all hold together with ``power``.

    Args:
        margin: largest loss that is accepted, in proportions, above 0.
        discordance: share of rows on which exactly one arm is right.
        num_guards: how many there are.
        power: chance that all hold when nothing got worse.
        alpha: one-sided level.
        exact: enumerate; else the normal approximation, which promises 2 points too much.

    Returns:
        Rows for each guard; None above a million. Power is a saw-tooth in n: the result has it,
        and a few fewer rows may have it too.

    Source: n = (z_alpha + z_beta)^2 discordance / margin^2 (Nam 1997, Biometrics 53:1422-1430,
    for equal arms); each guard has power**(1 / num_guards).
    """
    _check_margin(margin)
    if margin == 0.0 or num_guards < 1:
        raise ValueError("a margin above 0 and at least one guard are needed")
    each = float(power ** (1.0 / num_guards))
    quantiles = float(norm.isf(alpha) + norm.ppf(each))
    needed = quantiles**2 * discordance / margin**2
    if needed > MAX_ROWS:
        return None
    rows = max(1, math.ceil(needed))
    if not exact:
        return rows

    def enough(count: int) -> bool:
        return noninferiority_power(count, discordance, margin, alpha=alpha) >= each

    low, high = rows // 2, rows
    while not enough(high):
        low, high = high, math.ceil(1.2 * high) + 1
        if high > MAX_ROWS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _rejects(
    base_only: IntArray, tuned_only: IntArray, n: int, margin: float, z: float
) -> BoolArray:
    """``tango_score(...) >= z`` for whole arrays of tables."""
    base, tuned = base_only.astype(np.float64), tuned_only.astype(np.float64)
    gap = -margin
    linear = (2.0 * n - tuned + base) * gap - tuned - base
    constant = -base * gap * (1.0 - gap)
    root = np.sqrt(np.maximum(linear**2 - 8.0 * n * constant, 0.0))
    variance = n * (2.0 * (root - linear) / (4.0 * n) + gap * (1.0 - gap))
    numerator = tuned - base - n * gap
    found: BoolArray = np.where(
        variance > 0.0, numerator >= z * np.sqrt(np.maximum(variance, 0.0)), numerator > 0.0
    )
    return found


def _check_margin(margin: float) -> None:
    if not 0.0 <= margin < 1.0:
        raise ValueError("a margin must be from 0 to below 1")
