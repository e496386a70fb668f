"""Intervals from sign flips against brute force; clusters that break a t interval; many rows."""

from itertools import product

import numpy as np
import pytest

from fettle.evaluate.contrast import contrast_sums
from fettle.metrics.metric import row_metric
from fettle.statistics.clustered import cluster_t_interval
from fettle.statistics.flips import pseudo_differences, sign_flip_interval
from fettle.statistics.resampling import blocks_of, randomization_test, sum_by_unit

SCORE = row_metric("score", lambda row: row.score, needs="score", span=None)
RIGHT = row_metric("right", lambda row: row.score, needs="score")


def mean(sums):
    return sums[..., 0] / sums[..., 1]


def f_score(sums):
    return 2.0 * sums[..., 0] / (sums[..., 1] + sums[..., 2])


def columns(values):
    return np.column_stack([np.asarray(values, dtype=float), np.ones(len(values))])


def flip_p(sums, weights, value):
    deviations = sums - value * weights
    signs = np.array(list(product((1.0, -1.0), repeat=len(sums))))
    return np.mean(np.abs(signs @ deviations) >= abs(deviations.sum()) - 1e-9)


@pytest.mark.parametrize(("units", "confidence"), [(6, 0.95), (8, 0.95), (10, 0.9), (3, 0.7)])
def test_the_interval_is_the_inverted_test(units, confidence):
    generator = np.random.default_rng(units)
    weights = generator.integers(1, 30, units).astype(float)
    sums = generator.normal(0.3, 1.0, units) * weights
    low, high = sign_flip_interval(sums, weights, confidence=confidence)
    estimate, width = sums.sum() / weights.sum(), high - low
    assert low <= estimate <= high
    for value in np.linspace(low - width, high + width, 101):
        if min(abs(value - low), abs(value - high)) > 1e-6:
            rejected = flip_p(sums, weights, value) <= 1.0 - confidence + 1e-12
            assert rejected == (not low < value < high), value


def test_too_few_units_bound_nothing():
    assert sign_flip_interval(np.arange(1.0, 6.0), np.ones(5)) == (-np.inf, np.inf)
    low, high = sign_flip_interval(np.arange(1.0, 7.0), np.ones(6))
    # Below 1 only the two patterns that flip all or none are as extreme: p = 2/64.
    assert (low, high) == (1.0, 6.0)
    with pytest.raises(ValueError, match="unit"):
        sign_flip_interval(np.zeros(0), np.zeros(0))


def test_drawn_patterns_approach_all_of_them():
    generator = np.random.default_rng(1)
    sums = generator.normal(0.5, 1.0, 13)
    signs = np.array(list(product((0.0, 1.0), repeat=13)))[1:-1]
    inside = signs @ sums / signs.sum(axis=1)
    outside = (1 - signs) @ sums / (13 - signs.sum(axis=1))
    both = np.sort([inside, outside], axis=0)
    expected = np.quantile(both[0], 0.05), np.quantile(both[1], 0.95)
    found = sign_flip_interval(sums, np.ones(13), num_draws=40_000)
    assert found == pytest.approx(expected, abs=0.02)


def test_pseudo_differences_of_a_ratio_are_its_own():
    generator = np.random.default_rng(2)
    weights = generator.integers(1, 9, 12).astype(float)
    base, tuned = (np.column_stack([generator.normal(size=12), weights]) for _ in range(2))
    found = pseudo_differences(base, tuned, weights, mean)
    assert found == pytest.approx(tuned[:, 0] - base[:, 0], abs=1e-12)


def test_pseudo_differences_of_an_f_score_add_up():
    generator = np.random.default_rng(3)
    base, tuned = generator.integers(1, 4, (2, 400, 3)).astype(float)
    found = pseudo_differences(base, tuned, np.ones(400), f_score)
    observed = f_score(tuned.sum(axis=0)) - f_score(base.sum(axis=0))
    assert found.mean() == pytest.approx(observed, abs=1e-4)


@pytest.mark.parametrize("sizes", [[200] + [10] * 20, [40, 3, 90, 5, 2, 60]])
@pytest.mark.parametrize("metric", [SCORE, RIGHT])
def test_unequal_clusters_are_covered_where_a_t_interval_fails(sizes, metric):
    generator = np.random.default_rng(4)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    trials, covered, by_t, improved = 300, 0, 0, 0
    for trial in range(trials):
        arms = []
        for _ in range(2):
            latent = generator.normal(0, 1.0, len(sizes))[groups] + generator.normal(
                0, 1.0, len(groups)
            )
            arms.append(columns(latent > 0.3 if metric is RIGHT else latent))
        found = contrast_sums(metric, *arms, groups, num_resamples=300, seed=trial).comparison
        covered += found.ci_low <= 0.0 <= found.ci_high
        improved += found.p_value <= 0.05
        plain = cluster_t_interval(arms[1][:, 0] - arms[0][:, 0], arms[0][:, 1], groups=groups)
        by_t += plain.low <= 0.0 <= plain.high
    assert covered / trials >= 0.935
    assert by_t / trials < 0.92
    assert improved / trials <= 0.05 + 3.1 * np.sqrt(0.05 * 0.95 / trials)


def test_no_interval_where_nothing_could_be_significant():
    generator = np.random.default_rng(5)
    arms = [columns(generator.integers(0, 2, 100)) for _ in range(2)]
    groups = np.repeat(np.arange(5), 20)
    found = contrast_sums(RIGHT, *arms, groups, num_resamples=300)
    assert found.smallest_p > 0.05
    assert (found.comparison.ci_low, found.comparison.ci_high) == (None, None)
    again = contrast_sums(RIGHT, *arms, np.repeat(np.arange(10), 10), num_resamples=300)
    assert again.comparison.ci_low is not None
    few = [arm[:4] for arm in arms]
    assert contrast_sums(RIGHT, *few, num_resamples=300).comparison.ci_low is not None
    few = [columns(arm[:, 0] + generator.random(4)) for arm in few]
    assert contrast_sums(SCORE, *few, num_resamples=300).comparison.ci_low is None


def test_blocks_only_where_there_are_very_many_units():
    assert blocks_of(None, 20_000, 0) is None
    groups = np.repeat(np.arange(100), 500)
    assert blocks_of(groups, 50_000, 0) is groups
    blocks = blocks_of(None, 25_000, 0)
    assert np.array_equal(np.unique(np.bincount(blocks)), [2, 3])
    clusters = np.arange(60_000) // 2
    blocks = blocks_of(clusters, 60_000, 0)
    assert np.array_equal(blocks[::2], blocks[1::2]), "a cluster stays whole"
    assert len(np.unique(blocks)) == 10_000


def test_blocks_agree_with_single_rows():
    """The same p-value and interval, up to what random draws differ by."""
    generator = np.random.default_rng(6)
    base, change = generator.normal(size=30_000), generator.standard_t(4, 30_000) + 0.011
    arms = columns(base), columns(base + change)
    found = contrast_sums(SCORE, *arms, num_resamples=4000)
    by_row = randomization_test(*arms, mean, num_draws=2000)
    assert found.comparison.p_value == pytest.approx(by_row.p_value, abs=0.03)
    plain = cluster_t_interval(change, np.ones(30_000))
    ends = found.comparison.ci_low, found.comparison.ci_high
    assert ends == pytest.approx((plain.low, plain.high), abs=0.06 * (plain.high - plain.low))


def test_sums_by_unit_equal_a_plain_loop():
    generator = np.random.default_rng(7)
    values, groups = generator.normal(size=(50, 3)), generator.integers(0, 8, 50)
    expected = [values[groups == g].sum(axis=0) for g in range(groups.max() + 1)]
    assert sum_by_unit(values, groups) == pytest.approx(np.array(expected), abs=1e-12)
