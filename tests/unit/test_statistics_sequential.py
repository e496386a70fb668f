"""Betting: level at any stopping time, power, and the array version against the plain one."""

import numpy as np
import pytest

from fettle.statistics.sequential import BettingTest, betting_wealth


def trials(difference, discordance, shape, seed):
    """Paired differences of right and wrong answers: -1, 0 or 1."""
    draws = np.random.default_rng(seed).random(shape)
    wins = (discordance + difference) / 2
    return np.where(draws < wins, 1.0, np.where(draws < discordance, -1.0, 0.0))


@pytest.mark.parametrize("sides", [1, 2])
def test_wealth_row_by_row_equals_the_arrays(sides):
    rows = np.random.default_rng(0).uniform(-1, 1, (3, 60)) ** 3
    path = betting_wealth(rows, sides)
    for line, wealth in zip(rows, path, strict=True):
        test = BettingTest(alpha=0.2, sides=sides)
        found = []
        for value in line:
            test.update(value)
            found.append(test.wealth)
        assert found == pytest.approx(wealth.tolist(), rel=1e-12)
        assert test.decided == bool(np.any(wealth >= 5.0))
        assert test.largest == pytest.approx(max(1.0, wealth.max()))


@pytest.mark.parametrize(("discordance", "sides"), [(0.2, 1), (0.2, 2), (0.05, 2), (1.0, 2)])
def test_false_stops_whenever_one_looks(discordance, sides):
    """3,000 trials of 500 rows, a look after each."""
    path = betting_wealth(trials(0.0, discordance, (3000, 500), 1), sides)
    assert np.mean(np.any(path >= 20.0, axis=1)) <= 0.05


def test_skewed_differences_keep_the_level():
    draws = np.random.default_rng(2).random((2000, 400))
    rows = np.where(draws < 0.1, 0.9, -0.1)  # mean 0
    assert np.mean(np.any(betting_wealth(rows, 2) >= 20.0, axis=1)) <= 0.05


def test_wealth_is_fair_on_average():
    path = betting_wealth(trials(0.0, 0.5, (20_000, 20), 3), 2)
    assert path[:, -1].mean() == pytest.approx(1.0, abs=0.03)


def test_power_and_rows_used():
    """A true gain of 10 points on 500 rows, one-sided 0.05, discordance 0.3."""
    path = betting_wealth(trials(0.1, 0.3, (2000, 500), 4), 1)
    reached = path >= 20.0
    stopped = reached.any(axis=1)
    used = np.where(stopped, reached.argmax(axis=1) + 1, 500)
    assert stopped.mean() >= 0.9
    assert used.mean() <= 235


def test_losers_are_named_as_such():
    test = BettingTest()
    for value in trials(-0.3, 0.5, 300, 5):
        test.update(value)
    assert test.decided
    assert test.direction == -1
    winner = BettingTest(sides=1)
    for value in trials(0.3, 0.5, 300, 5):
        winner.update(value)
    assert winner.direction == 1
    assert winner.num_seen == 300


def test_what_is_no_difference_is_refused():
    for value in (1.5, float("nan")):
        with pytest.raises(ValueError, match="difference"):
            BettingTest().update(value)
        with pytest.raises(ValueError, match="differences"):
            betting_wealth(np.array([0.1, value]))
    with pytest.raises(ValueError, match="alpha"):
        BettingTest(alpha=0.0)
