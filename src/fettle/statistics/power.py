"""What a holdout can show before anything is trained, and how many rows would decide afterwards.

In: row counts, expected discordance or standard deviation. Out: differences and row counts.
Must not know: models, metrics.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binom, norm

from fettle.statistics.resampling import FloatArray, IntArray, sum_by_unit

MAX_ROWS = 10_000_000
"""Beyond this many rows nobody would collect them; answers are None."""
EXACT_ROWS = 20_000
"""Up to about this many rows, the number that is needed is found by enumeration."""


@dataclass(frozen=True, slots=True)
class Exaggeration:
    """What a significant result of a design would look like, beside the truth."""

    power: float
    """Chance of p <= alpha."""
    type_m: float | None
    """Mean of abs(difference found) / difference over significant results; None when there are
    none, or when the true difference is 0."""
    type_s: float | None
    """Share of significant results with the wrong sign."""


def mcnemar_power(n: int, difference: float, discordance: float, alpha: float = 0.05) -> float:
    """Power of the two-sided exact McNemar test, by enumeration.

    Args:
        n: rows.
        difference: true difference of proportions (its sign does not matter).
        discordance: share of rows on which exactly one arm is right, at least abs(difference).
        alpha: two-sided level.

    Returns:
        Chance of p <= alpha: sum over m of P(m discordant rows) P(reject | m).

    Source: Connor 1987; agrees with the simulations of Card et al. 2020 (.80 to .82 accuracy,
    agreement .975, n = 500: .798).
    """
    if discordance <= 0.0 or n <= 0:
        return 0.0
    discordant, weight, critical = _mcnemar_design(n, difference, discordance, alpha)
    win = (discordance + abs(difference)) / (2.0 * discordance)
    reject = binom.cdf(critical, discordant, win)
    reject = reject + binom.sf(discordant - critical - 1, discordant, win)
    return float(np.sum(weight * reject))


def _mcnemar_design(
    n: int, difference: float, discordance: float, alpha: float
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Numbers of discordant rows, the chance of each, and the largest loss count that rejects."""
    if not abs(difference) <= discordance <= 1.0:
        raise ValueError("discordance must lie between the difference and 1")
    # Discordant counts outside this range have a chance below 1e-12.
    first, last = (int(value) for value in binom.ppf([1e-12, 1.0 - 1e-12], n, discordance))
    discordant = np.arange(max(first, 1), last + 1)
    weight = binom.pmf(discordant, n, discordance)
    # The largest k with 2 P(X <= k) <= alpha; -1 when there is none.
    critical = binom.ppf(alpha / 2.0, discordant, 0.5)
    critical = np.where(binom.cdf(critical, discordant, 0.5) <= alpha / 2.0, critical, critical - 1)
    return discordant, weight, critical


def exaggeration(
    n: int, difference: float, discordance: float, alpha: float = 0.05
) -> Exaggeration:
    """How much a significant exact McNemar result exaggerates on average, by enumeration.

    Args:
        n: rows.
        difference: true difference of proportions.
        discordance: share of rows on which exactly one arm is right, at least abs(difference).
        alpha: two-sided level.

    Returns:
        Power, type M and type S.

    Source: Gelman and Carlin 2014 (Perspectives on Psychological Science 9:641-651); Card et al.
    2020 give power .800 and type M 1.118 for n = 500, .80 to .82, agreement .975, by simulation;
    this enumeration gives .798 and 1.116.
    """
    if discordance <= 0.0 or n <= 0:
        return Exaggeration(0.0, None, None)
    truth = abs(difference)
    discordant, weights, critical = _mcnemar_design(n, truth, discordance, alpha)
    win = (discordance + truth) / (2.0 * discordance)
    power = found = wrong = 0.0
    for number, weight, largest in zip(discordant, weights, critical, strict=True):
        if largest < 0:
            continue
        lost = np.arange(int(largest) + 1)
        right = weight * binom.pmf(number - lost, number, win)
        # When nearly all are discordant the two tails may share a table.
        mirrored = weight * binom.pmf(lost, number, win)
        size = np.abs(number - 2 * lost) / n
        power += float(np.sum(right) + np.sum(mirrored))
        wrong += float(np.sum(mirrored))
        found += float(np.sum((right + mirrored) * size))
    if power == 0.0 or truth == 0.0:
        return Exaggeration(power, None, None)
    return Exaggeration(power, found / power / truth, wrong / power)


def mean_exaggeration(
    difference: float, standard_error: float, alpha: float = 0.05
) -> Exaggeration:
    """The same for a normal estimate.

    Args:
        difference: true mean difference, in the metric's unit.
        standard_error: of the estimate, in the same unit, above 0.
        alpha: two-sided level.

    Returns:
        Power, type M and type S in closed form.

    Source: Lu, Qiu and Deng 2019 (Br. J. Math. Stat. Psychol. 72:1-17), eqs. 2-4.
    """
    if standard_error <= 0.0:
        raise ValueError("a standard error above 0 is needed")
    truth = abs(difference) / standard_error
    z = float(norm.isf(alpha / 2.0))
    upper, lower = float(norm.sf(z - truth)), float(norm.cdf(-z - truth))
    power = upper + lower
    if truth == 0.0:
        return Exaggeration(power, None, None)
    # E|X| over both tails of X ~ N(truth, 1).
    mean = float(norm.pdf(z - truth) + norm.pdf(z + truth)) + truth * (upper - lower)
    return Exaggeration(power, mean / power / truth, lower / power)


def design_effect(values: FloatArray, groups: IntArray) -> float:
    """How many times the variance of a mean grows because rows share clusters.

    Args:
        values: [N] one value per row: a paired difference, or where nothing was trained yet
            whether the base is right on validation.
        groups: [N] cluster numbers 0..C-1.

    Returns:
        Variance with clusters over variance of independent rows, at least 1 (fewer clusters than
        rows are never taken to help); 1 where the values do not vary.

    Source: Kish 1965, ch. 5; both variances with their factors for few units.
    """
    n, num_units = len(values), int(groups.max()) + 1
    residuals = np.asarray(values, dtype=np.float64) - np.mean(values)
    independent = n / (n - 1) * float(np.sum(residuals**2)) if n > 1 else 0.0
    if independent == 0.0 or num_units < 2:
        return 1.0
    units = sum_by_unit(residuals[:, None], groups)[:, 0]
    clustered = num_units / (num_units - 1) * float(np.sum(units**2))
    return max(1.0, clustered / independent)


def rows_for_difference(
    difference: float,
    discordance: float,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    design_effect: float = 1.0,
) -> int | None:
    """How large a holdout must be to show a difference of right answers.

    Args:
        difference: that is looked for, in proportions (0.05 = 5 points).
        discordance: expected share of rows on which exactly one arm is right; at least the
            difference is taken.
        power: chance of p <= alpha.
        alpha: two-sided level.
        design_effect: how many times clusters make the variance grow.

    Returns:
        Rows; None above ten million, and for no difference.
    """
    rows = rows_for_proportions(difference, max(discordance, abs(difference)), power, alpha)
    if rows is None:
        return None
    found = math.ceil(rows * max(1.0, design_effect))
    return found if found <= MAX_ROWS else None


def minimum_detectable_difference(
    n: int, discordance: float, power: float = 0.8, alpha: float = 0.05
) -> float | None:
    """Smallest difference of proportions that exact McNemar shows with the given power.

    Args:
        n: rows.
        discordance: expected share of rows on which exactly one arm is right.
        power: chance of p <= alpha that is asked for.
        alpha: two-sided level.

    Returns:
        A difference of proportions (0.029 = 2.9 points), or None when even one-sided discordance
        would not be shown.
    """
    if n < 1 or mcnemar_power(n, discordance, discordance, alpha) < power:
        return None

    def missing(difference: float) -> float:
        return mcnemar_power(n, difference, discordance, alpha) - power

    if missing(0.0) >= 0.0:
        return 0.0
    return float(brentq(missing, 0.0, discordance, xtol=1e-7))


def detectable_mean_difference(
    n: int, standard_deviation: float, power: float = 0.8, alpha: float = 0.05
) -> float:
    """Smallest mean paired difference that n rows show with the given power.

    Args:
        n: rows (or clusters, with the standard deviation of cluster means).
        standard_deviation: of the paired differences, in the metric's unit.
        power: chance of p <= alpha that is asked for.
        alpha: two-sided level.

    Returns:
        A difference in the metric's unit.

    Source: Miller 2024 ("Adding error bars to evals"), normal approximation.
    """
    return _quantiles(power, alpha) * standard_deviation / math.sqrt(n)


@lru_cache(maxsize=256)
def rows_for_proportions(
    difference: float, discordance: float, power: float = 0.8, alpha: float = 0.05
) -> int | None:
    """Fewest rows with which exact McNemar shows a difference with the given power.

    Args:
        difference: true difference of proportions.
        discordance: share of rows on which exactly one arm is right.
        power: chance of p <= alpha that is asked for.
        alpha: two-sided level.

    Returns:
        Number of rows; None above ten million. Power is a saw-tooth in n: the result has it, and a
        few fewer rows may have it too. Above 20,000 rows the normal approximation is used.

    Source: Connor 1987 (Biometrics 43:207-211); correction: Fleiss, Levin and Paik 2003, ch. 2.
    """
    if difference == 0.0:
        return None
    spread = float(norm.isf(alpha / 2.0)) * math.sqrt(discordance)
    spread += float(norm.ppf(power)) * math.sqrt(discordance - difference**2)
    # 2 / difference: the exact test behaves like the one with continuity correction.
    approximate = (spread / difference) ** 2 + 2.0 / abs(difference)
    if approximate > MAX_ROWS:
        return None
    if approximate > EXACT_ROWS:
        return math.ceil(approximate)
    low, high = 0, math.ceil(1.1 * approximate)
    while mcnemar_power(high, difference, discordance, alpha) < power:
        low, high = high, 2 * high
    low = max(low, int(0.8 * approximate))
    if mcnemar_power(low, difference, discordance, alpha) >= power:
        low = 0
    while high - low > 1:
        middle = (low + high) // 2
        if mcnemar_power(middle, difference, discordance, alpha) >= power:
            high = middle
        else:
            low = middle
    return high


def rows_for_mean(
    difference: float, standard_deviation: float, power: float = 0.8, alpha: float = 0.05
) -> int | None:
    """Fewest rows with which a mean paired difference is shown with the given power.

    Args:
        difference: true mean difference, in the metric's unit.
        standard_deviation: of one row's paired difference, in the same unit.
        power: chance of p <= alpha that is asked for.
        alpha: two-sided level.

    Returns:
        Number of rows; None above ten million.

    Source: Miller 2024, n = (z_{alpha/2} + z_beta)^2 sd^2 / difference^2.
    """
    if difference == 0.0:
        return None
    needed = (_quantiles(power, alpha) * standard_deviation / difference) ** 2
    return math.ceil(needed) if needed <= MAX_ROWS else None


def _quantiles(power: float, alpha: float) -> float:
    return float(norm.isf(alpha / 2.0) + norm.ppf(power))
