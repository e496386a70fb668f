"""Power by enumeration against published figures and simulation."""

import numpy as np
import pytest
from scipy.stats import binomtest

from fettle.statistics.power import (
    detectable_mean_difference,
    mcnemar_power,
    minimum_detectable_difference,
    rows_for_mean,
    rows_for_proportions,
)

DISCORDANCE = (0.05, 0.10, 0.20, 0.30, 0.40)
POINTS = {
    50: (None, None, 17.6, 21.9, 25.4),
    100: (None, 8.8, 12.8, 15.9, 18.2),
    200: (4.4, 6.4, 9.1, 11.1, 12.9),
    500: (2.9, 4.1, 5.7, 7.0, 8.1),
    1000: (2.0, 2.9, 4.0, 4.9, 5.7),
    2000: (1.4, 2.0, 2.8, 3.5, 4.0),
}
"""80 % power, two-sided 0.05, in points; None where nothing can be shown."""


@pytest.mark.parametrize("n", POINTS)
def test_smallest_detectable_differences(n):
    for discordance, points in zip(DISCORDANCE, POINTS[n], strict=True):
        found = minimum_detectable_difference(n, discordance)
        if points is None:
            assert found is None
        else:
            assert 100 * found == pytest.approx(points, abs=0.0501)
            assert mcnemar_power(n, found, discordance) == pytest.approx(0.8, abs=1e-4)


def test_power_equals_a_sum_over_all_tables():
    """Every (b, c) of 18 rows, with its multinomial chance and scipy's own binomial test."""
    n, difference, discordance = 18, 0.25, 0.45
    win, lose = (discordance + difference) / 2, (discordance - difference) / 2
    factorial = [1.0]
    for k in range(1, n + 1):
        factorial.append(factorial[-1] * k)
    power = 0.0
    for b in range(n + 1):
        for c in range(n + 1 - b):
            same = n - b - c
            ways = factorial[n] / (factorial[b] * factorial[c] * factorial[same])
            chance = ways * lose**b * win**c * (1 - discordance) ** same
            rejected = b + c > 0 and binomtest(c, b + c).pvalue <= 0.05
            power += chance * rejected
    assert mcnemar_power(n, difference, discordance) == pytest.approx(power, abs=1e-9)


def test_power_found_by_simulation():
    generator = np.random.default_rng(0)
    n, difference, discordance = 300, 0.08, 0.2
    counts = generator.multinomial(n, [0.06, 0.14, 0.8], size=4000)
    tables, times = np.unique(counts, axis=0, return_counts=True)
    p_values = np.array([binomtest(int(c), int(b + c)).pvalue for b, c, _ in tables])
    rejected = np.sum(times[p_values <= 0.05]) / 4000
    assert mcnemar_power(n, difference, discordance) == pytest.approx(rejected, abs=0.02)


def test_published_figures():
    # Card et al. 2020: n = 500, accuracy .80 to .82, agreement .975.
    assert mcnemar_power(500, 0.02, 0.025) == pytest.approx(0.7976, abs=5e-5)
    # Miller 2024: difference .03, variance 1/9.
    assert rows_for_mean(0.03, 1 / 3) == 969


def test_rows_needed_are_enough_and_not_many_too_many():
    for difference, discordance in ((0.05, 0.1), (0.02, 0.2), (0.3, 0.35), (0.005, 0.1)):
        rows = rows_for_proportions(difference, discordance)
        assert mcnemar_power(rows, difference, discordance) >= 0.8
        assert mcnemar_power(int(0.93 * rows), difference, discordance) < 0.8


def test_means_are_consistent():
    smallest = detectable_mean_difference(400, 2.0)
    assert rows_for_mean(smallest, 2.0) in (400, 401)


def test_nothing_to_find():
    assert rows_for_mean(0.0, 1.0) is None
    assert rows_for_mean(1e-9, 1.0) is None
    assert rows_for_proportions(0.0, 0.1) is None
    assert rows_for_proportions(1e-5, 0.1) is None
    assert minimum_detectable_difference(0, 0.1) is None
    assert mcnemar_power(100, 0.0, 0.0) == 0.0
    with pytest.raises(ValueError, match="discordance"):
        mcnemar_power(100, 0.3, 0.2)


def test_level_is_kept_when_there_is_no_difference():
    for n in (20, 100, 1000):
        assert mcnemar_power(n, 0.0, 0.2) <= 0.05
