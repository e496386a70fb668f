"""Non-inferiority: published tables, enumeration against other routes, levels by simulation."""

from math import comb

import numpy as np
import pytest
from scipy.stats import norm, ttest_1samp

from fettle.statistics.noninferiority import (
    binary_noninferiority,
    joint_power,
    mean_noninferiority,
    noninferiority_power,
    rows_per_guard,
    tango_noninferiority,
)
from fettle.statistics.paired import tango_interval


@pytest.mark.parametrize(
    ("margin", "rows"),
    [(0.05, (421, 572, 639)), (0.03, (1168, 1587, 1775)), (0.02, (2627, 3569, 3993))],
)
def test_rows_by_the_normal_formula(margin, rows):
    """90 % joint power of 1, 3 and 5 guards, one-sided 0.025, discordance 0.10."""
    found = [rows_per_guard(margin, 0.1, number, exact=False) for number in (1, 3, 5)]
    assert tuple(found) == rows


@pytest.mark.parametrize("num_guards", [1, 3])
def test_exact_rows_are_enough_and_fewer_are_not(num_guards):
    rows = rows_per_guard(0.05, 0.1, num_guards)
    each = noninferiority_power(rows, 0.1, 0.05)
    assert joint_power([each] * num_guards) >= 0.9
    fewer = noninferiority_power(int(0.95 * rows), 0.1, 0.05)
    assert joint_power([fewer] * num_guards) < 0.9
    assert rows > rows_per_guard(0.05, 0.1, num_guards, exact=False)


def test_three_guards_hold_together_less_often_than_one():
    one = noninferiority_power(300, 0.1, 0.05, alpha=0.05)
    assert one == pytest.approx(0.844, abs=5e-4)
    assert joint_power([one] * 3) == pytest.approx(0.60, abs=5e-3)


def test_power_equals_a_sum_over_all_tables():
    n, discordance, margin, difference, alpha = 16, 0.4, 0.2, 0.1, 0.1
    wins, losses = (discordance + difference) / 2, (discordance - difference) / 2
    total = 0.0
    for b in range(n + 1):
        for c in range(n + 1 - b):
            chance = comb(n, b) * comb(n - b, c) * losses**b * wins**c
            chance *= (1 - discordance) ** (n - b - c)
            total += chance * (tango_noninferiority(b, c, n, margin) <= alpha)
    found = noninferiority_power(n, discordance, margin, difference=difference, alpha=alpha)
    assert found == pytest.approx(total, abs=1e-9)


@pytest.mark.parametrize("discordance", [0.06, 0.1, 0.3])
@pytest.mark.parametrize("n", [200, 1000])
def test_level_at_the_margin(n, discordance):
    level = noninferiority_power(n, discordance, 0.05, difference=-0.05, alpha=0.05)
    assert level <= 0.056  # a score test; 5.0 to 5.3 % at this margin is what is known of it


def test_p_and_bound_agree():
    generator = np.random.default_rng(0)
    for _ in range(40):
        base, tuned = (generator.random((2, 150)) < 0.8).astype(float)
        found = binary_noninferiority(base, tuned, 0.06)
        assert found.held == (found.p_value < 0.025)
        b, c = np.sum(base > tuned), np.sum(tuned > base)
        assert (found.low, found.upper) == tango_interval(b, c, 150, 0.95)
        assert found.p_value == tango_noninferiority(b, c, 150, 0.06)


def test_held_lost_and_neither():
    right, wrong = np.ones(400), np.zeros(400)
    mixed = (np.arange(400) % 10 < 8).astype(float)
    assert binary_noninferiority(mixed, mixed, 0.05).held
    assert binary_noninferiority(right, wrong, 0.05).lost
    few = binary_noninferiority(mixed[:20], mixed[:20][::-1], 0.05)
    assert not few.held
    assert not few.lost


def test_mean_is_a_shifted_t_test():
    change = np.random.default_rng(1).normal(-0.01, 0.3, 60)
    found = mean_noninferiority(change, np.ones(60), 0.1)
    reference = ttest_1samp(change, -0.1, alternative="greater").pvalue
    assert found.p_value == pytest.approx(reference, abs=1e-12)
    assert found.held == (found.p_value < 0.025)
    bound = ttest_1samp(change, 0.0).confidence_interval(0.95)
    assert (found.low, found.upper) == pytest.approx((bound.low, bound.high), abs=1e-12)


def test_clusters_are_no_more_certain_than_rows_and_keep_the_level():
    generator = np.random.default_rng(2)
    groups = np.repeat(np.arange(15), 20)
    by_cluster = by_row = 0
    trials = 400
    for _ in range(trials):
        shift = generator.normal(0, 1.2, 15)[groups]
        base = (generator.random(300) < 0.7).astype(float)
        # True loss: the margin itself. The tuned model fails by cluster.
        chance = norm.cdf(norm.ppf(0.6) * np.sqrt(1 + 1.2**2) + shift)
        tuned = (generator.random(300) < chance).astype(float)
        clustered = binary_noninferiority(base, tuned, 0.1, groups=groups)
        plain = binary_noninferiority(base, tuned, 0.1)
        assert clustered.p_value >= plain.p_value
        by_cluster += clustered.held
        by_row += plain.held
    assert by_cluster / trials <= 0.025 + 3.1 * np.sqrt(0.025 * 0.975 / trials)
    assert by_row / trials > 0.1


def test_no_spread_bounds_nothing():
    alike = mean_noninferiority(np.full(6, 0.3), np.ones(6), 0.1)
    assert (alike.low, alike.upper, alike.p_value) == (None, None, 1.0)
    assert not alike.held
    same = mean_noninferiority(np.zeros(6), np.ones(6), 0.1)
    assert same.held
    single = mean_noninferiority(np.zeros(6), np.ones(6), 0.1, groups=np.zeros(6, dtype=int))
    assert single.low is None
    assert not binary_noninferiority(
        np.zeros(6), np.zeros(6), 0.1, groups=np.zeros(6, dtype=int)
    ).held


def test_settings_that_make_no_sense():
    with pytest.raises(ValueError, match="margin"):
        tango_noninferiority(1, 2, 10, -0.1)
    with pytest.raises(ValueError, match="margin"):
        mean_noninferiority(np.ones(3), np.ones(3), -0.1)
    with pytest.raises(ValueError, match="margin above 0"):
        rows_per_guard(0.0, 0.1, 1)
    with pytest.raises(ValueError, match="discordance"):
        noninferiority_power(100, 0.01, 0.05, difference=0.1)
    assert rows_per_guard(0.0001, 0.1, 1) is None
    assert noninferiority_power(0, 0.1, 0.05) == 0.0
    assert noninferiority_power(100, 0.0, 0.05) == 1.0
