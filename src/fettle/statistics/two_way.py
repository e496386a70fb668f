"""Several seeds on the same rows: is this recipe better, not only this artifact?

A recipe's difference varies with the rows that were judged and with the seeds that were trained,
so that both are resampled.

In: [N, K] sufficient statistics of the base and [S, N, K] of S trainings. Out: an interval and a
p-value of the mean difference over seeds. Must not know: what a seed did.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import t

from fettle.statistics.paired import corrected_p_value, widened_tail
from fettle.statistics.resampling import CHUNK, FloatArray, IntArray, Score, sum_by_unit


@dataclass(frozen=True, slots=True)
class TwoWay:
    """The mean difference of several trainings, tuned - base."""

    difference: float
    low: float
    high: float
    standard_error: float
    p_value: float
    num_seeds: int
    num_units: int
    seed_differences: tuple[float, ...]
    """Of each training, in the order given."""


def two_way_bootstrap(
    base_sums: FloatArray,
    tuned_sums: FloatArray,
    score: Score,
    *,
    groups: IntArray | None = None,
    num_resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> TwoWay:
    """Resample rows (or clusters) and seeds, each with replacement and independently.

    Args:
        base_sums: [N, K] of one base for all seeds, or [S, N, K] of one base for each.
        tuned_sums: [S, N, K] of each training on the same rows, S >= 2.
        score: the metric from summed statistics, [..., K] -> [...].
        groups: [N] cluster number of every row; None when rows are independent.
        num_resamples: bootstrap resamples.
        confidence: two-sided level.
        seed: of the random generator.

    Returns:
        Interval and p-value: the wider and the larger of two, the two-way bootstrap and Student's t
        over the seeds' differences on S - 1 degrees of freedom (which alone would hold the rows
        fixed, as the bootstrap of so few seeds alone would be too short).

    Raises:
        ValueError: fewer than two seeds or units.

    Source: Owen 2007 (Annals of Applied Statistics 1:386-411), the pigeonhole bootstrap, which
    takes the variance not too small; widened for few units: Hesterberg 2015, section 3.3.
    """
    num_seeds = len(tuned_sums)
    base_sums = np.asarray(base_sums, dtype=np.float64)
    if base_sums.ndim == 2:
        base_sums = np.broadcast_to(base_sums, (num_seeds, *base_sums.shape))
    base = np.stack([sum_by_unit(sums, groups) for sums in base_sums])
    tuned = np.stack([sum_by_unit(np.asarray(sums), groups) for sums in tuned_sums])
    num_units = base.shape[1]
    if num_seeds < 2 or num_units < 2:
        raise ValueError("a claim about a recipe needs at least two seeds and two units")
    found = score(tuned.sum(axis=1)) - score(base.sum(axis=1))
    difference = float(found.mean())
    generator = np.random.default_rng(seed)
    values = np.empty(num_resamples)
    size = max(1, CHUNK // num_units)
    for start in range(0, num_resamples, size):
        count = min(size, num_resamples - start)
        draws = generator.integers(0, num_units, size=(count, num_units))
        draws += np.arange(count)[:, None] * num_units
        weights = np.bincount(draws.ravel(), minlength=count * num_units).astype(np.float64)
        weights = weights.reshape(count, num_units)
        each = np.stack(
            [
                score(weights @ new) - score(weights @ old)
                for old, new in zip(base, tuned, strict=True)
            ],
            axis=1,
        )
        seeds = generator.multinomial(num_seeds, np.full(num_seeds, 1.0 / num_seeds), size=count)
        values[start : start + count] = np.sum(seeds * each, axis=1) / num_seeds
    fewest = min(num_seeds, num_units)
    tail = widened_tail(fewest, confidence)
    low, high = (float(end) for end in np.quantile(values, [tail, 1.0 - tail]))
    spread = float(np.std(values) * np.sqrt(fewest / (fewest - 1)))
    slack = 1e-12 * max(1.0, abs(difference))
    as_far = int(np.count_nonzero(np.abs(values - difference) >= abs(difference) - slack))
    p_value = corrected_p_value((1 + as_far) / (num_resamples + 1), fewest)
    over_seeds = float(np.std(found, ddof=1)) / np.sqrt(num_seeds)
    half = float(t.isf((1.0 - confidence) / 2.0, num_seeds - 1)) * over_seeds
    if over_seeds > 0.0:
        p_seeds = 2.0 * float(t.sf(abs(difference) / over_seeds, num_seeds - 1))
    else:
        p_seeds = 0.0 if difference else 1.0
    return TwoWay(
        difference,
        min(low, difference - half),
        max(high, difference + half),
        spread,
        max(p_value, p_seeds),
        num_seeds,
        num_units,
        tuple(float(value) for value in found),
    )
