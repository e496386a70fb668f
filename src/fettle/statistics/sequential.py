"""A test that may be looked at after every row: betting on paired differences.

A gambler starts with 1 and bets on the next difference, with a stake chosen from the past only. If
the true mean is 0 the wealth is a martingale, so it ever reaches 1 / alpha with a chance of at most
alpha (Ville): stopping then is a valid test whatever the number of looks. Wealth is an e-value.
It asks for more rows than a fixed test; never mix both on the same rows without splitting alpha.

In: differences in [-1, 1], row by row, or cluster by cluster (the mean of the cluster's rows).
Out: wealth. Must not know: what is compared, when anybody stops.
"""

from typing import Literal

import numpy as np

from fettle.statistics.resampling import FloatArray

MOST = 0.5
"""Largest share of the wealth put at stake; below 1 nobody is ruined."""
PRIOR_SQUARES = 2.0
"""Added to the sum of squares seen: keeps stakes small while few rows are known."""

Sides = Literal[1, 2]


class BettingTest:
    """H0: the mean difference is 0 (two sides), or not above 0 (one side)."""

    def __init__(self, alpha: float = 0.05, sides: Sides = 2) -> None:
        """Start without any row.

        Args:
            alpha: chance of ever deciding wrongly.
            sides: 1 looks for a mean above 0 only; 2 also below, with half of the wealth each.
        """
        if not 0.0 < alpha < 1.0 or sides not in (1, 2):
            raise ValueError("alpha must lie between 0 and 1, sides must be 1 or 2")
        self.alpha = alpha
        self.sides = sides
        self.num_seen = 0
        self.largest = 1.0
        """Largest wealth so far."""
        self._up = self._down = 0.0  # logarithms of the wealth of both gamblers
        self._sum = 0.0
        self._squares = PRIOR_SQUARES
        self._decided = 0

    @property
    def wealth(self) -> float:
        """The e-value now: how strongly the rows speak against H0."""
        up = float(np.exp(self._up))
        return up if self.sides == 1 else 0.5 * (up + float(np.exp(self._down)))

    @property
    def decided(self) -> bool:
        """Whether the wealth has ever reached 1 / alpha; stays so."""
        return self._decided != 0

    @property
    def direction(self) -> int:
        """+1 or -1 as decided, else 0."""
        return self._decided

    def update(self, difference: float) -> None:
        """Take one more difference, in [-1, 1].

        Raises:
            ValueError: one outside, or not a number.
        """
        if not -1.0 <= difference <= 1.0:
            raise ValueError(f"a difference must lie in [-1, 1], this is {difference}")
        stake = _stake(self._sum, self._squares, self.num_seen)
        self._up += float(np.log1p(max(stake, 0.0) * difference))
        self._down += float(np.log1p(min(stake, 0.0) * difference))
        self._sum += difference
        self._squares += difference**2
        self.num_seen += 1
        wealth = self.wealth
        self.largest = max(self.largest, wealth)
        if not self._decided and wealth >= 1.0 / self.alpha:
            self._decided = 1 if self.sides == 1 or self._up > self._down else -1


def betting_wealth(differences: FloatArray, sides: Sides = 2) -> FloatArray:
    """The wealth after every row, as ``BettingTest`` has it, for whole arrays.

    Args:
        differences: [..., N] in [-1, 1].
        sides: 1 or 2.

    Returns:
        [..., N] wealth after each row.

    Source: Waudby-Smith and Ramdas 2024, JRSS B 86:1-27 (testing by betting, predictable plug-in
    stakes); Ville 1939.
    """
    if np.any(~(np.abs(differences) <= 1.0)):
        raise ValueError("differences must lie in [-1, 1]")
    seen = np.arange(differences.shape[-1], dtype=np.float64)
    total = np.cumsum(differences, axis=-1) - differences
    squares = PRIOR_SQUARES + np.cumsum(differences**2, axis=-1) - differences**2
    stakes = _stakes(total, squares, seen)
    up = np.cumsum(np.log1p(np.maximum(stakes, 0.0) * differences), axis=-1)
    wealth: FloatArray = np.exp(up)
    if sides == 2:
        down = np.cumsum(np.log1p(np.minimum(stakes, 0.0) * differences), axis=-1)
        wealth = 0.5 * (wealth + np.exp(down))
    return wealth


def _stake(total: float, squares: float, num_seen: int) -> float:
    return float(_stakes(np.array(total), np.array(squares), np.array(float(num_seen))))


def _stakes(total: FloatArray, squares: FloatArray, num_seen: FloatArray) -> FloatArray:
    """The stake that would have grown wealth most on the rows so far: mean / mean square (the
    second-order Kelly stake), pulled to 0 while few rows are known."""
    found: FloatArray = np.clip(total / squares, -MOST, MOST)
    return np.where(num_seen > 0, found, 0.0)
