"""Two arms on the same rows: exact McNemar, Tango's interval, the paired bootstrap.

In: counts of discordant pairs, or one row of sufficient statistics per row and arm.
Out: p-values and intervals of tuned - base. Must not know: what a row or a metric is.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binom, norm, t

from fettle.statistics.resampling import (
    FloatArray,
    IntArray,
    Score,
    merge_units,
    resample_weights,
    sum_by_unit,
)


@dataclass(frozen=True, slots=True)
class McNemar:
    """Exact McNemar test of two arms on the same rows."""

    p_value: float
    """Two-sided."""
    base_only: int
    """b: rows that only the base has right."""
    tuned_only: int
    """c: rows that only the tuned model has right."""


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """A signed, centred paired bootstrap of tuned - base."""

    difference: float
    low: float
    high: float
    standard_error: float
    p_value: float
    num_units: int
    """Rows, or clusters when groups were given."""


def mcnemar_exact(base_only: int, tuned_only: int) -> McNemar:
    """Two-sided exact binomial test on the discordant pairs.

    Args:
        base_only: rows that only the base has right (b).
        tuned_only: rows that only the tuned model has right (c).

    Returns:
        The p-value min(1, 2 P(X <= min(b, c))), X ~ Binomial(b + c, 1/2); 1 for b + c = 0.

    Source: McNemar 1947, in the exact form of Fagerland, Lydersen and Laake 2013 (BMC Med. Res.
    Methodol. 13:91).
    """
    if base_only < 0 or tuned_only < 0:
        raise ValueError("counts of discordant pairs can't be negative")
    num_discordant = base_only + tuned_only
    p_value = 1.0
    if num_discordant:
        tail = float(binom.cdf(min(base_only, tuned_only), num_discordant, 0.5))
        p_value = min(1.0, 2.0 * tail)
    return McNemar(p_value, base_only, tuned_only)


def tango_score(base_only: float, tuned_only: float, n: float, difference: float) -> float:
    """Tango's score statistic Z for the hypothesis that tuned - base is ``difference``.

    Args:
        base_only: b, pairs won by the base (counts; fractions are allowed for scaled tables).
        tuned_only: c, pairs won by the tuned model.
        n: all pairs.
        difference: hypothesised difference of proportions, -1 to 1.

    Returns:
        Z; falls as ``difference`` grows.

    Source: Tango 1998, Statistics in Medicine 17:891-908.
    """
    numerator = tuned_only - base_only - n * difference
    # The constrained maximum-likelihood estimate of P(base only) solves A q^2 + B q + C = 0.
    quadratic = 2.0 * n
    linear = (2.0 * n - tuned_only + base_only) * difference - tuned_only - base_only
    constant = -base_only * difference * (1.0 - difference)
    root = np.sqrt(max(linear * linear - 4.0 * quadratic * constant, 0.0))
    q_base_only = (root - linear) / (2.0 * quadratic)
    variance = n * (2.0 * q_base_only + difference * (1.0 - difference))
    if variance <= 0.0:
        return 0.0 if numerator == 0.0 else float(np.copysign(np.inf, numerator))
    return float(numerator / np.sqrt(variance))


def tango_interval(
    base_only: float, tuned_only: float, n: float, confidence: float = 0.95
) -> tuple[float, float]:
    """Score interval for a paired difference of proportions, tuned - base.

    Args:
        base_only: b, pairs that only the base has right.
        tuned_only: c, pairs that only the tuned model has right.
        n: all pairs, above 0.
        confidence: two-sided level, such as 0.95.

    Returns:
        Lower and upper end, in proportions (-1 to 1).

    Source: Tango 1998; recommended by Fagerland, Lydersen and Laake 2014 (Statistics in Medicine
    33:2850-2875).
    """
    if n <= 0 or base_only < 0 or tuned_only < 0 or base_only + tuned_only > n * (1 + 1e-12):
        raise ValueError("discordant pairs must be counts, together at most n > 0")
    z = float(norm.isf((1.0 - confidence) / 2.0))
    estimate = (tuned_only - base_only) / n

    def gap(difference: float, target: float) -> float:
        value = tango_score(base_only, tuned_only, n, difference)
        return float(np.clip(value, -1e6, 1e6)) - target

    low, high = -1.0, 1.0
    if estimate > -1.0:
        low = float(brentq(gap, -1.0, estimate, args=(z,), xtol=1e-13))
    if estimate < 1.0:
        high = float(brentq(gap, estimate, 1.0, args=(-z,), xtol=1e-13))
    return low, high


def paired_bootstrap(
    base_sums: FloatArray,
    tuned_sums: FloatArray,
    score: Score,
    *,
    groups: IntArray | None = None,
    num_resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Bootstrap:
    """Resample rows, or whole groups, of both arms together.

    The p-value is signed and centred: the share of resamples whose difference lies at least as far
    from the observed one as that lies from 0, with the +1 rule. (Taking absolute differences before
    centring, as is common, rejects twice too often.) Both it and the percentiles of the interval
    are corrected for few units, so that for a mean they agree with Student's t.

    Args:
        base_sums: [N, K] sufficient statistics of the base, one line per row.
        tuned_sums: [N, K] the same for the tuned model.
        score: the metric from summed statistics, [..., K] -> [...].
        groups: [N] cluster number of every row; None when rows are independent.
        num_resamples: bootstrap resamples.
        confidence: two-sided level of the interval.
        seed: of the random generator.

    Returns:
        Difference, interval, standard error and p-value.

    Raises:
        ValueError: fewer than two rows or groups.

    Source: Efron and Tibshirani 1993, ch. 16; widened percentiles: Hesterberg 2015 (The American
    Statistician 69:371-386), section 3.3.
    """
    base_units = sum_by_unit(base_sums, groups)
    tuned_units = sum_by_unit(tuned_sums, groups)
    num_units, num_columns = base_units.shape
    if num_units < 2:
        raise ValueError("a bootstrap needs at least two units")
    observed = float(score(tuned_units.sum(axis=0)) - score(base_units.sum(axis=0)))
    both, counts = merge_units(np.concatenate([base_units, tuned_units], axis=1))
    differences = np.empty(num_resamples)
    start = 0
    for weights in resample_weights(counts, num_resamples, seed):
        sums = weights @ both
        stop = start + len(weights)
        differences[start:stop] = score(sums[:, num_columns:]) - score(sums[:, :num_columns])
        start = stop
    slack = 1e-12 * max(1.0, abs(observed))
    as_far = int(np.count_nonzero(np.abs(differences - observed) >= abs(observed) - slack))
    tail = widened_tail(num_units, confidence)
    low, high = np.quantile(differences, [tail, 1.0 - tail])
    few = num_units / (num_units - 1)
    return Bootstrap(
        difference=observed,
        low=float(low),
        high=float(high),
        standard_error=float(np.std(differences) * np.sqrt(few)),
        p_value=corrected_p_value((1 + as_far) / (num_resamples + 1), num_units),
        num_units=num_units,
    )


def widened_tail(num_units: int, confidence: float) -> float:
    """Percentile level that makes a bootstrap interval of few units as wide as a t interval.

    Source: Hesterberg 2015, section 3.3: Phi(-sqrt(n / (n - 1)) t_{n-1}).
    """
    quantile = float(t.isf((1.0 - confidence) / 2.0, num_units - 1))
    return float(norm.cdf(-quantile * np.sqrt(num_units / (num_units - 1))))


def corrected_p_value(p_value: float, num_units: int) -> float:
    """A bootstrap p-value, corrected for few units: the inverse of ``widened_tail``."""
    deviate = float(norm.isf(p_value / 2.0)) * np.sqrt((num_units - 1) / num_units)
    return min(1.0, 2.0 * float(t.sf(deviate, num_units - 1)))
