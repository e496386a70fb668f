"""Statistics of interleaved pairs: the median of the ratios within pairs, with an interval.

In: one figure of each side for every pair. Out: median ratio with a bootstrap interval. Must not
know: what was measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

RESAMPLES = 10_000
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as much one side has as the other."""

    median: float
    low: float
    high: float
    num_pairs: int


def paired_ratio(ours: Sequence[float], theirs: Sequence[float], seed: int = 0) -> Ratio:
    """Median over pairs of ours / theirs, with a percentile bootstrap over pairs.

    A pair's two runs follow each other, so that what slows the machine down slows both; pairs are
    therefore drawn whole. With five pairs the interval can't be wider than their range.

    Args:
        ours: one positive figure a pair.
        theirs: the same number of figures, in the same order.
        seed: of the bootstrap.

    Raises:
        ValueError: no pairs, unequal numbers, or a figure that is not positive.
    """
    if not ours or len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} figures against {len(theirs)}")
    if min(*ours, *theirs) <= 0:
        raise ValueError("figures must be positive")
    ratios = np.asarray(ours, dtype=np.float64) / np.asarray(theirs, dtype=np.float64)
    random = np.random.default_rng(seed)
    drawn = random.choice(ratios, size=(RESAMPLES, len(ratios)), replace=True)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(np.median(drawn, axis=1), [tail, 100 - tail])
    return Ratio(float(np.median(ratios)), float(low), float(high), len(ratios))


def interleaved(num_pairs: int, ours: str, theirs: str) -> list[tuple[int, str]]:
    """The order of runs, A-B-A-B: (pair, side)."""
    return [(pair, side) for pair in range(num_pairs) for side in (ours, theirs)]


def window(stamps: Sequence[float], warmup: int) -> float:
    """Seconds from the end of the last warm-up step to the end of the last step.

    Args:
        stamps: begin of training, then the end of every step.
        warmup: steps that do not count.

    Raises:
        ValueError: no step is left.
    """
    if len(stamps) < warmup + 2:
        raise ValueError(f"{len(stamps) - 1} steps, of which {warmup} are for warming up")
    return stamps[-1] - stamps[warmup]


def middle(values: Sequence[float]) -> float:
    """Median as a float."""
    return float(median(values))
