"""Power by enumeration against published figures and simulation."""

import numpy as np
import pytest
from scipy.stats import binomtest

from fettle.statistics.power import (
    Exaggeration,
    design_effect,
    detectable_mean_difference,
    exaggeration,
    mcnemar_power,
    mean_exaggeration,
    minimum_detectable_difference,
    rows_for_difference,
    rows_for_mean,
    rows_for_proportions,
)
from fettle.statistics.resampling import randomization_test

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


def test_expected_exaggeration_of_a_published_design():
    """Card et al. 2020 simulate power .800 and type M 1.118 for this design."""
    found = exaggeration(500, 0.02, 0.025)
    # The two sum the same probabilities, in another order.
    assert found.power == pytest.approx(mcnemar_power(500, 0.02, 0.025), rel=1e-12)
    assert found.power == pytest.approx(0.800, abs=0.003)
    assert found.type_m == pytest.approx(1.118, abs=0.003)
    assert found.type_s < 1e-6


def test_exaggeration_by_simulation():
    generator = np.random.default_rng(1)
    n, difference, discordance = 60, 0.06, 0.3
    counts = generator.multinomial(n, [0.12, 0.18, 0.7], size=40_000)
    tables, times = np.unique(counts, axis=0, return_counts=True)
    p_values = np.array([binomtest(int(c), max(int(b + c), 1)).pvalue for b, c, _ in tables])
    shown = p_values <= 0.05
    sizes = (tables[:, 1] - tables[:, 0]) / n
    mean_size = np.average(np.abs(sizes[shown]), weights=times[shown])
    found = exaggeration(n, difference, discordance)
    assert found.type_m == pytest.approx(mean_size / difference, rel=0.02)
    wrong = np.sum(times[shown & (sizes < 0)]) / np.sum(times[shown])
    assert found.type_s == pytest.approx(wrong, abs=0.015)
    assert found.type_m > 2.0


def test_exaggeration_of_a_mean_by_simulation():
    draws = np.random.default_rng(2).normal(1.0, 1.0, 400_000)
    shown = np.abs(draws) > 1.959964
    found = mean_exaggeration(0.3, 0.3)
    assert found.power == pytest.approx(shown.mean(), abs=0.003)
    assert found.type_m == pytest.approx(np.abs(draws[shown]).mean(), rel=0.01)
    assert found.type_s == pytest.approx(np.mean(draws[shown] < 0), abs=0.003)


def test_exaggeration_of_nothing():
    assert exaggeration(100, 0.0, 0.2).type_m is None
    assert exaggeration(4, 0.1, 0.2) == Exaggeration(0.0, None, None)
    assert mean_exaggeration(0.0, 1.0).power == pytest.approx(0.05)
    with pytest.raises(ValueError, match="standard error"):
        mean_exaggeration(1.0, 0.0)


def test_design_effect_is_what_clusters_cost():
    generator = np.random.default_rng(3)
    groups = np.repeat(np.arange(400), 6)
    values = generator.normal(size=400)[groups] + generator.normal(size=2400)
    # Kish: 1 + (size - 1) * intraclass correlation, here .5.
    assert design_effect(values, groups) == pytest.approx(3.5, rel=0.1)
    assert design_effect(generator.normal(size=2400), groups) < 1.3
    assert design_effect(np.ones(6), np.arange(6)) == 1.0
    assert design_effect(np.arange(4.0), np.zeros(4, dtype=np.int64)) == 1.0


def test_power_with_clusters_by_simulation():
    """Rows from the design effect have the power that was asked for, within 3 points."""
    generator = np.random.default_rng(4)
    size, difference, discordance = 5, 0.1, 0.25

    def draw(num_clusters):
        # Signs agree within a cluster in half of the discordant rows.
        groups = np.repeat(np.arange(num_clusters), size)
        wins = (discordance + difference) / 2
        own, shared = generator.random(len(groups)), generator.random(num_clusters)[groups]
        drawn = np.where(generator.random(len(groups)) < 0.5, shared, own)
        return groups, np.where(drawn < wins, 1.0, np.where(drawn < discordance, -1.0, 0.0))

    groups, pilot = draw(5000)
    effect = design_effect(pilot, groups)
    assert effect > 1.5
    rows = rows_for_difference(difference, discordance, design_effect=effect)
    shown, trials = 0, 600
    for trial in range(trials):
        groups, change = draw(round(rows / size))
        table = np.column_stack([change, np.ones(len(change))])
        found = randomization_test(
            np.column_stack([np.zeros(len(change)), np.ones(len(change))]),
            table,
            lambda sums: sums[..., 0] / sums[..., 1],
            groups=groups,
            num_draws=400,
            seed=trial,
        )
        shown += found.p_value <= 0.05
    assert shown / trials == pytest.approx(0.8, abs=0.03 + 2 * np.sqrt(0.16 / trials))


def test_rows_for_a_difference():
    assert rows_for_difference(0.05, 0.1) == rows_for_proportions(0.05, 0.1)
    assert rows_for_difference(0.05, 0.01) == rows_for_proportions(0.05, 0.05)
    doubled = rows_for_difference(0.05, 0.1, design_effect=2.0)
    assert doubled == 2 * rows_for_proportions(0.05, 0.1)
    assert rows_for_difference(0.0, 0.1) is None
