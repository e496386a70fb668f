"""Intervals of one arm against other implementations, and their coverage."""

import numpy as np
import pytest
from scipy.stats import binomtest, t
from statsmodels.stats.proportion import proportion_confint

from fettle.statistics.resampling import FloatArray
from fettle.statistics.single import bootstrap_interval, wilson_interval


@pytest.mark.parametrize("n", [1, 2, 17, 976])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_wilson_is_that_of_scipy_and_statsmodels(n: int, confidence: float) -> None:
    for right in {0, 1, n // 3, n - 1, n}:
        found = wilson_interval(right, n, confidence)
        other = binomtest(right, n).proportion_ci(confidence, "wilson")
        assert found == pytest.approx((other.low, other.high), abs=1e-12)
        other = proportion_confint(right, n, 1 - confidence, "wilson")
        assert found == pytest.approx(other, abs=1e-12)


@pytest.mark.parametrize(("right", "n"), [(1, 0), (-1, 3), (4, 3)])
def test_wilson_of_counts_that_can_not_be(right: int, n: int) -> None:
    with pytest.raises(ValueError, match="successes"):
        wilson_interval(right, n)


def mean(sums: FloatArray) -> FloatArray:
    value: FloatArray = sums[..., 0] / sums[..., 1]
    return value


def test_the_bootstrap_of_a_mean_is_close_to_student() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    sums = np.column_stack([values, np.ones(400)])
    low, high = bootstrap_interval(sums, mean)
    half = t.isf(0.025, 399) * values.std(ddof=1) / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)
    assert bootstrap_interval(sums, mean) == (low, high), "the seed decides"


def test_rows_of_one_cluster_are_drawn_together() -> None:
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(40), 10)
    values = np.repeat(rng.normal(size=40), 10)
    sums = np.column_stack([values, np.ones(400)])
    low, high = bootstrap_interval(sums, mean)
    clustered = bootstrap_interval(sums, mean, groups=groups)
    assert clustered[1] - clustered[0] > 2.5 * (high - low)
    with pytest.raises(ValueError, match="two units"):
        bootstrap_interval(sums, mean, groups=np.zeros(400, dtype=np.int64))
