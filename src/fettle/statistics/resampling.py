"""Resampling machinery: units, bootstrap weights, and the randomization test.

A unit is what is independent: a row, or a cluster of rows (a conversation, a user, a document).
A metric is a function of sums over rows ("sufficient statistics"), so that one resample costs one
line of a matrix product, whatever the metric.

In: [N, K] statistics per row. Out: p-values. Must not know: what the statistics mean.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Score = Callable[[FloatArray], FloatArray]
"""Summed statistics [..., K] -> values [...]."""

EXACT_UNITS = 12
"""Up to 2**12 sign patterns are enumerated; above, they are drawn."""
MAX_UNITS = 20_000
"""Above, units are gathered into blocks before they are resampled."""
NUM_BLOCKS = 10_000
CHUNK = 4_000_000
"""Numbers held at once in a matrix of weights (32 MB)."""


@dataclass(frozen=True, slots=True)
class Randomization:
    """A paired randomization (sign-flip) test."""

    p_value: float
    """Two-sided."""
    exact: bool
    """Whether all patterns were enumerated."""
    num_units: int


def sum_by_unit(values: FloatArray, groups: IntArray | None) -> FloatArray:
    """Sum rows into units.

    Args:
        values: [N, K] one line per row.
        groups: [N] cluster numbers 0..C-1; None leaves every row its own unit.

    Returns:
        [C, K] one line per unit.
    """
    if groups is None:
        return np.asarray(values, dtype=np.float64)
    shape = (int(groups.max()) + 1, len(groups))
    membership = csr_array((np.ones(len(groups)), (groups, np.arange(len(groups)))), shape=shape)
    units: FloatArray = membership @ np.asarray(values, dtype=np.float64)
    return units


def blocks_of(groups: IntArray | None, num_rows: int, seed: int) -> IntArray | None:
    """Units gathered at random into 10,000 blocks, where there are so many that more tell nothing.

    Flips that are the same for a whole block are a subgroup of all flips, so that the test stays
    exact; a bootstrap of 10,000 block sums has an error of its standard error below 1 %.

    Args:
        groups: [N] cluster numbers 0..C-1; None when rows are independent.
        num_rows: N.
        seed: of the random generator.

    Returns:
        [N] block numbers when there are more than 20,000 units, else ``groups``.
    """
    num_units = num_rows if groups is None else int(groups.max()) + 1
    if num_units <= MAX_UNITS:
        return groups
    blocks = np.random.default_rng(seed).permutation(num_units) % NUM_BLOCKS
    return blocks if groups is None else blocks[groups]


def merge_units(units: FloatArray) -> tuple[FloatArray, IntArray]:
    """Equal units as one line with a count, where that saves work.

    A metric of classes has few different lines however many rows there are, and drawing counts of
    lines is the same as drawing rows.

    Args:
        units: [C, K].

    Returns:
        [L, K] lines and [L] how often each occurs; the units themselves, once each, unless at most
        a quarter of them differ.
    """
    # Adding 0.0 makes one zero of -0.0 and 0.0, which have other bits.
    bits = np.ascontiguousarray(units + 0.0).view(np.uint64)
    # Small whole numbers differ in their highest bits only; a product carries upwards.
    bits ^= (bits >> np.uint64(52)) ^ (bits >> np.uint64(26))
    factors = np.random.default_rng(0).integers(0, 2**64, units.shape[1], dtype=np.uint64)
    _, first, place, counts = np.unique(
        (bits * (factors | np.uint64(1))).sum(axis=1),
        return_index=True,
        return_inverse=True,
        return_counts=True,
    )
    lines = units[first]
    if len(lines) > len(units) // 4 or not np.array_equal(lines[place], units):
        # Too many differ; or, once in a blue moon, two that differ have the same hash.
        return units, np.ones(len(units), dtype=np.int64)
    order = np.lexsort(lines.T[::-1])
    return lines[order], counts[order].astype(np.int64)


def resample_weights(counts: IntArray, num_resamples: int, seed: int) -> Iterator[FloatArray]:
    """How often each line is drawn in each bootstrap resample of all units.

    Args:
        counts: [L] units that each line stands for.
        num_resamples: how many resamples in all.
        seed: of the random generator.

    Yields:
        Chunks [R, L].
    """
    generator = np.random.default_rng(seed)
    num_lines, num_units = len(counts), int(counts.sum())
    size = max(1, CHUNK // num_lines)
    for start in range(0, num_resamples, size):
        count = min(size, num_resamples - start)
        if num_lines < num_units:
            weights = generator.multinomial(num_units, counts / num_units, size=count)
        else:
            draws = generator.integers(0, num_units, size=(count, num_units))
            draws += np.arange(count)[:, None] * num_units
            weights = np.bincount(draws.ravel(), minlength=count * num_units)
        yield weights.reshape(count, num_lines).astype(np.float64)


def swap_counts(counts: IntArray, num_draws: int, seed: int) -> Iterator[FloatArray]:
    """How many units of each line swap their arms, each with chance 1/2.

    Args:
        counts: [L] units that each line stands for.
        num_draws: how many patterns are drawn.
        seed: of the random generator.

    Yields:
        Chunks [R, L].
    """
    generator = np.random.default_rng(seed)
    num_lines = len(counts)
    size = max(1, CHUNK // num_lines)
    for start in range(0, num_draws, size):
        shape = (min(size, num_draws - start), num_lines)
        if num_lines < counts.sum():
            yield generator.binomial(counts, 0.5, size=shape).astype(np.float64)
        else:
            yield generator.integers(0, 2, size=shape, dtype=np.int8).astype(np.float64)


def randomization_test(
    base_sums: FloatArray,
    tuned_sums: FloatArray,
    score: Score,
    *,
    groups: IntArray | None = None,
    num_draws: int = 10_000,
    seed: int = 0,
) -> Randomization:
    """Swap the two arms of random units; count differences as large as the observed one.

    For a mean or a ratio this is the sign-flip test. Swapping whole clusters keeps the test exact
    when rows of one cluster depend on each other.

    Args:
        base_sums: [N, K] sufficient statistics of the base, one line per row.
        tuned_sums: [N, K] the same for the tuned model.
        score: the metric from summed statistics, [..., K] -> [...].
        groups: [N] cluster number of every row; None when rows are independent.
        num_draws: random patterns; all 2**C are enumerated for up to 12 units that differ.
        seed: of the random generator.

    Returns:
        The two-sided p-value, with the +1 rule when patterns are drawn.

    Source: Noreen 1989; Riezler and Maxwell 2005 (approximate randomization); Phipson and Smyth
    2010 (the +1 rule).
    """
    base_units = sum_by_unit(base_sums, groups)
    tuned_units = sum_by_unit(tuned_sums, groups)
    base_total, tuned_total = base_units.sum(axis=0), tuned_units.sum(axis=0)
    observed = abs(float(score(tuned_total) - score(base_total)))
    change = tuned_units - base_units
    # Units on which the arms agree change nothing when swapped.
    change = change[np.any(change != 0.0, axis=1)]
    if not len(change):
        return Randomization(1.0, exact=True, num_units=len(base_units))
    exact = len(change) <= EXACT_UNITS
    if exact:
        patterns = iter([np.array(list(product((0.0, 1.0), repeat=len(change))))])
    else:
        change, counts = merge_units(change)
        patterns = swap_counts(counts, num_draws, seed)
    # Rounding must not decide whether a pattern ties with the observed one.
    bound = observed - 1e-10 * max(1.0, observed)
    as_large, num_patterns = 0, 0
    for swapped in patterns:
        moved = swapped @ change
        differences = score(tuned_total - moved) - score(base_total + moved)
        as_large += int(np.count_nonzero(np.abs(differences) >= bound))
        num_patterns += len(swapped)
    p_value = as_large / num_patterns if exact else (as_large + 1) / (num_patterns + 1)
    return Randomization(p_value, exact=exact, num_units=len(base_units))


def smallest_p_value(num_units: int, num_draws: int) -> float:
    """The smallest two-sided p-value that a randomization test of this design can give.

    Args:
        num_units: independent rows or clusters.
        num_draws: patterns drawn when there are too many to enumerate.

    Returns:
        2**(1 - C) for up to 12 units, else the +1 rule's floor where that is larger.
    """
    attainable = min(1.0, 2.0 ** (1 - num_units))
    return attainable if num_units <= EXACT_UNITS else max(attainable, 1.0 / (num_draws + 1))
