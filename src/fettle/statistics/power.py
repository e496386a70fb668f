"""What a holdout can show before anything is trained, and how many rows would decide afterwards.

In: row counts, expected discordance or standard deviation. Out: differences and row counts.
Must not know: models, metrics.
"""

import math
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binom, norm

MAX_ROWS = 10_000_000
"""Beyond this many rows nobody would collect them; answers are None."""
EXACT_ROWS = 20_000
"""Up to about this many rows, the number that is needed is found by enumeration."""


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
    if not abs(difference) <= discordance <= 1.0:
        raise ValueError("discordance must lie between the difference and 1")
    # Discordant counts outside this range have a chance below 1e-12.
    first, last = (int(value) for value in binom.ppf([1e-12, 1.0 - 1e-12], n, discordance))
    discordant = np.arange(max(first, 1), last + 1)
    weight = binom.pmf(discordant, n, discordance)
    # The largest k with 2 P(X <= k) <= alpha; -1 when there is none.
    critical = binom.ppf(alpha / 2.0, discordant, 0.5)
    critical = np.where(binom.cdf(critical, discordant, 0.5) <= alpha / 2.0, critical, critical - 1)
    win = (discordance + abs(difference)) / (2.0 * discordance)
    reject = binom.cdf(critical, discordant, win)
    reject = reject + binom.sf(discordant - critical - 1, discordant, win)
    return float(np.sum(weight * reject))


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
