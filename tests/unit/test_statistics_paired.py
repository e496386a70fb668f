"""McNemar, Tango, randomization and bootstrap against brute force and published tables."""

from itertools import product
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from fettle.statistics.clustered import (
    cluster_t_interval,
    studentized_bootstrap_interval,
    wider_interval,
)
from fettle.statistics.paired import (
    mcnemar_exact,
    paired_bootstrap,
    tango_interval,
    tango_score,
)
from fettle.statistics.resampling import (
    merge_units,
    randomization_test,
    resample_weights,
    smallest_p_value,
    swap_counts,
)


def mean(sums):
    return sums[..., 0] / sums[..., 1]


def columns(values):
    return np.column_stack([np.asarray(values, dtype=float), np.ones(len(values))])


@pytest.mark.parametrize(("b", "c"), [(0, 0), (0, 5), (0, 6), (3, 9), (7, 7), (20, 1)])
def test_mcnemar_by_counting_sequences(b, c):
    n = b + c
    as_extreme = sum(comb(n, k) for k in range(n + 1) if abs(2 * k - n) >= abs(b - c))
    found = mcnemar_exact(b, c)
    assert found.p_value == pytest.approx(as_extreme / 2**n, abs=1e-14)
    assert (found.base_only, found.tuned_only) == (b, c)


def test_mcnemar_refuses_negative_counts():
    with pytest.raises(ValueError, match="negative"):
        mcnemar_exact(-1, 3)


@pytest.mark.parametrize(
    ("b", "c", "n", "low", "high", "digits"),
    [
        # Complete response (Cavo 2012) and airway hyper-responsiveness (Bentur 2009), the examples
        # of Fagerland, Lydersen and Laake, "Statistical Analysis of Contingency Tables", ch. 8.
        (16, 6, 161, -0.1240, -0.0054, 4),
        (7, 1, 21, -0.517, -0.026, 3),
    ],
)
def test_tango_published_examples(b, c, n, low, high, digits):
    found = tango_interval(b, c, n)
    assert [round(end, digits) for end in found] == [low, high]


@pytest.mark.parametrize(
    ("b", "c", "n"), [(3, 12, 40), (0, 4, 25), (9, 9, 100), (1, 0, 10), (5, 0, 5)]
)
def test_tango_is_the_inverted_score_test(b, c, n):
    """The score statistic with the nuisance parameter found by maximising the likelihood."""

    def score(difference):
        def loss(p_base):
            p_tuned = p_base + difference
            rest = 1.0 - p_base - p_tuned
            parts = ((b, p_base), (c, p_tuned), (n - b - c, rest))
            return -sum(count * np.log(max(p, 1e-300)) for count, p in parts if count)

        first, last = max(0.0, -difference), (1.0 - difference) / 2.0
        found = minimize_scalar(
            loss, bounds=(first, last), method="bounded", options={"xatol": 1e-12}
        )
        variance = n * (2.0 * found.x + difference - difference**2)
        return (c - b - n * difference) / np.sqrt(variance)

    z = norm.isf(0.025)
    low, high = tango_interval(b, c, n)
    for difference in np.linspace(-0.95, 0.95, 39):
        reference = score(difference)
        assert tango_score(b, c, n, difference) == pytest.approx(reference, rel=1e-3, abs=1e-3)
        if abs(abs(reference) - z) > 5e-3:
            assert (low < difference < high) == (abs(reference) < z), difference


def test_tango_without_discordant_rows_has_its_closed_form():
    z = norm.isf(0.025)
    width = z**2 / (50 + z**2)
    assert tango_interval(0, 0, 50) == pytest.approx((-width, width), abs=1e-9)


@given(b=st.integers(0, 60), c=st.integers(0, 60), both=st.integers(0, 200))
@settings(max_examples=80, deadline=None)
def test_tango_mirrors_and_holds_the_estimate(b, c, both):
    n = b + c + both
    if n == 0:
        with pytest.raises(ValueError, match="n > 0"):
            tango_interval(b, c, n)
        return
    low, high = tango_interval(b, c, n)
    mirrored = tango_interval(c, b, n)
    assert (low, high) == pytest.approx((-mirrored[1], -mirrored[0]), abs=1e-9)
    assert -1.0 <= low <= (c - b) / n <= high <= 1.0
    assert low < high


def brute_force(base, tuned, score):
    observed = abs(score(tuned.sum(0)) - score(base.sum(0)))
    found = []
    for signs in product((False, True), repeat=len(base)):
        swap = np.array(signs)[:, None]
        a, b = np.where(swap, tuned, base), np.where(swap, base, tuned)
        found.append(abs(score(b.sum(0)) - score(a.sum(0))))
    return np.mean(np.array(found) >= observed - 1e-9)


@pytest.mark.parametrize("n", [1, 2, 5, 8, 12])
def test_randomization_equals_brute_force(n):
    generator = np.random.default_rng(n)
    tokens = generator.integers(1, 9, n).astype(float)
    base = np.column_stack([generator.normal(size=n), tokens])
    tuned = np.column_stack([generator.normal(0.7, size=n), tokens])
    found = randomization_test(base, tuned, mean)
    assert found.exact
    assert found.p_value == pytest.approx(brute_force(base, tuned, mean), abs=1e-12)


def test_randomization_of_a_score_that_is_no_mean():
    generator = np.random.default_rng(5)
    base, tuned = generator.integers(0, 9, (2, 9, 2)).astype(float)

    def f_score(sums):
        return 2 * sums[..., 0] * sums[..., 1] / (sums[..., 0] + sums[..., 1] + 1.0)

    found = randomization_test(base, tuned, f_score)
    assert found.p_value == pytest.approx(brute_force(base, tuned, f_score), abs=1e-12)


def test_randomization_swaps_whole_groups():
    generator = np.random.default_rng(3)
    base, tuned = columns(generator.normal(size=30)), columns(generator.normal(0.4, size=30))
    groups = np.repeat(np.arange(6), 5)
    found = randomization_test(base, tuned, mean, groups=groups)
    by_group = [np.array([arm[groups == g].sum(0) for g in range(6)]) for arm in (base, tuned)]
    assert found.num_units == 6
    assert found.p_value == pytest.approx(brute_force(*by_group, mean), abs=1e-12)


@pytest.mark.parametrize("rounded", [False, True])
def test_drawn_patterns_approach_the_exact_test(rounded):
    """14 units are drawn, not enumerated; rounding makes ties, which take the merged path."""
    generator = np.random.default_rng(4)
    change = generator.normal(0.4, 1.0, 14)
    change = np.where(change > 0.3, 1.0, -1.0) if rounded else change
    base, tuned = columns(np.zeros(14)), columns(change)
    found = randomization_test(base, tuned, mean, num_draws=40_000, seed=1)
    assert not found.exact
    assert found.p_value == pytest.approx(brute_force(base, tuned, mean), abs=0.01)


def test_equal_arms_have_p_one():
    rows = columns([1.0, 0.0, 3.0])
    assert randomization_test(rows, rows, mean).p_value == 1.0


def test_smallest_p_value_is_reached_and_not_passed():
    for n in (3, 5, 6, 12):
        found = randomization_test(columns(np.zeros(n)), columns(np.arange(1.0, n + 1)), mean)
        assert found.p_value == smallest_p_value(n, 10_000)
    many = randomization_test(
        columns(np.zeros(40)), columns(np.arange(1.0, 41)), mean, num_draws=300
    )
    assert many.p_value == smallest_p_value(40, 300) == 1 / 301


def test_merging_keeps_the_resampling_distribution():
    lines, counts = merge_units(np.repeat([[0.0], [1.0], [5.0]], (40, 50, 10), axis=0))
    assert lines.ravel().tolist() == [0.0, 1.0, 5.0]
    assert counts.tolist() == [40, 50, 10]
    weights = np.concatenate(list(resample_weights(counts, 4000, seed=0)))
    assert np.all(weights.sum(axis=1) == 100)
    assert weights.mean(axis=0) == pytest.approx([40, 50, 10], abs=0.4)
    assert weights.var(axis=0) == pytest.approx([24, 25, 9], rel=0.08)
    swaps = np.concatenate(list(swap_counts(counts, 4000, seed=0)))
    assert swaps.mean(axis=0) == pytest.approx([20, 25, 5], abs=0.3)
    assert swaps.var(axis=0) == pytest.approx([10, 12.5, 2.5], rel=0.08)
    distinct, ones = merge_units(np.arange(9.0).reshape(-1, 1))
    assert distinct.shape == (9, 1)
    assert ones.tolist() == [1] * 9


@pytest.mark.parametrize("width", [1, 2, 24])
def test_merging_by_hash_equals_sorting_lines(width):
    generator = np.random.default_rng(width)
    pool = generator.choice([-1.5, -0.0, 0.0, 1.0, 2.0**-1074, 3.0], (200, width))
    units = pool[generator.integers(0, 200, 1000)]
    lines, counts = merge_units(units)
    expected = np.unique(units, axis=0, return_counts=True)
    assert len(lines) < 250, "merged"
    assert np.array_equal(lines, expected[0])
    assert np.array_equal(counts, expected[1])


def test_bootstrap_of_a_mean_has_the_known_standard_error():
    generator = np.random.default_rng(0)
    change = generator.normal(0.3, 1.0, 200)
    found = paired_bootstrap(columns(np.zeros(200)), columns(change), mean, seed=3)
    plain = cluster_t_interval(change, np.ones(200))
    assert found.difference == pytest.approx(change.mean())
    assert found.standard_error == pytest.approx(plain.standard_error, rel=0.03)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=0.02)
    again = paired_bootstrap(columns(np.zeros(200)), columns(change), mean, seed=3)
    assert again == found
    other = paired_bootstrap(columns(np.zeros(200)), columns(change), mean, seed=4)
    assert other != found


def test_bootstrap_is_signed():
    """Swapping the arms mirrors the interval and keeps the p-value."""
    generator = np.random.default_rng(1)
    one, two = columns(generator.normal(size=50)), columns(generator.normal(0.5, size=50))
    forward = paired_bootstrap(one, two, mean, num_resamples=4000)
    backward = paired_bootstrap(two, one, mean, num_resamples=4000)
    assert backward.difference == -forward.difference
    assert (backward.low, backward.high) == pytest.approx((-forward.high, -forward.low), abs=0.03)
    assert backward.p_value == pytest.approx(forward.p_value, abs=0.01)


def test_bootstrap_resamples_groups():
    change = np.repeat([-2.0, -1.0, 0.0, 1.0, 3.0, 5.0, 2.0, -4.0], 25)
    groups = np.repeat(np.arange(8), 25)
    by_group = paired_bootstrap(columns(change * 0), columns(change), mean, groups=groups)
    by_row = paired_bootstrap(columns(change * 0), columns(change), mean)
    assert by_group.num_units == 8
    assert by_group.standard_error > 4 * by_row.standard_error
    expected = cluster_t_interval(change, np.ones(200), groups=groups).standard_error
    assert by_group.standard_error == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("interval", [cluster_t_interval, studentized_bootstrap_interval])
def test_interval_needs_two_units(interval):
    with pytest.raises(ValueError, match="two units"):
        interval(np.ones(4), np.ones(4), groups=np.zeros(4, dtype=np.int64))


def test_bootstrap_t_follows_skew():
    """Right-skewed differences: the true mean lies further to the right than a t interval goes."""
    change = np.random.default_rng(2).exponential(size=25) - 1.0
    plain = cluster_t_interval(change, np.ones(25))
    skewed = studentized_bootstrap_interval(change, np.ones(25))
    assert skewed.high - skewed.difference > 1.15 * (plain.high - plain.difference)
    both = wider_interval(change, np.ones(25))
    assert both.low == min(plain.low, skewed.low)
    assert both.high == max(plain.high, skewed.high)


def test_bootstrap_t_without_spread_is_a_point():
    found = studentized_bootstrap_interval(np.full(20, 0.5), np.ones(20))
    assert (found.low, found.high, found.standard_error) == (0.5, 0.5, 0.0)
