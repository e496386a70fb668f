"""How often would the verdict have said "improved" on these very rows, had nothing changed?

Base and tuned outputs are swapped at random, row by row or cluster by cluster, thousands of times,
and each time the whole policy speaks: test, interval, word. Swapped arms differ by chance alone,
whatever the rows' ties, lengths and clusters are, so that every "improved" or "worse" is false.

In: the sealed plan, both arms' predictions. Out: a ``SwapTest``. Must not know: files, models.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from fettle.errors import DataError, UsageError
from fettle.evaluate.contrast import Contrast, contrast_sums, group_numbers
from fettle.evaluate.integrity import row_fault, value_fault
from fettle.evaluate.verdict import choose_word
from fettle.metrics import find_metric
from fettle.metrics.metric import Metric
from fettle.records.outcomes import SCHEMA, Prediction, VerdictWord
from fettle.statistics.resampling import (
    CHUNK,
    EXACT_UNITS,
    BoolArray,
    FloatArray,
    IntArray,
    blocks_of,
    sum_by_unit,
)

MIN_SWAPS = 200
QUANTILE = 0.999
BATCH = 100
"""Swaps that share the patterns which screen them."""
Progress = Callable[[int, int], None]
"""Swaps done, of how many."""


@dataclass(frozen=True, slots=True)
class SwapTest:
    """What the policy said of swapped arms."""

    metric: str
    test: str
    n: int
    clusters: int | None
    alpha: float
    swaps: int
    improved: int
    worse: int
    rate: float
    """(improved + worse) / swaps: to be compared with alpha, which is two-sided."""
    most: int
    """99.9 % quantile of the false words where the level is kept: more of them and it is not."""
    most_improved: int
    """The same for "improved" alone, at half of alpha."""
    passed: bool

    def to_json(self) -> dict[str, Any]:
        """What ``fettle selftest verdict --json`` prints."""
        return {"schema": SCHEMA} | asdict(self)

    def __repr__(self) -> str:
        units = f"{self.n:,} rows"
        if self.clusters is not None:
            units += f" in {self.clusters:,} groups"
        word = "kept" if self.passed else "NOT KEPT"
        return (
            f"level {word}: {self.improved} of {self.swaps:,} swaps said improved (at most "
            f"{self.most_improved} expected), {self.improved + self.worse} improved or worse (at "
            f"most {self.most}): {100 * self.rate:.1f} % at alpha {self.alpha:g} "
            f"({self.metric}, {self.test}, {units})"
        )


def swap_test(
    plan: Mapping[str, Any],
    base: Sequence[Prediction],
    tuned: Sequence[Prediction],
    *,
    num_swaps: int = 2000,
    seed: int = 0,
    progress: Progress | None = None,
) -> SwapTest:
    """Swap both arms' outputs and count what the plan's policy says.

    Args:
        plan: the sealed plan: metric, direction, alpha, smallest difference, resamples. Guards and
            earlier looks are left out: they can only take an "improved" away.
        base: arm A on the holdout.
        tuned: arm B on the same rows, in any order.
        num_swaps: random swaps, at least 200.
        seed: of the random generator.
        progress: told how far it is.

    Returns:
        Counts, and the most that chance explains.

    Raises:
        DataError: E1009, the rows can't be judged by the metric at all.
        UsageError: E1005, too few swaps.
    """
    if num_swaps < MIN_SWAPS:
        raise UsageError("E1005", f"swaps are {num_swaps}", hint=f"choose {MIN_SWAPS} or more")
    metric = replace(find_metric(plan["metric"]), higher_is_better=plan["higher_is_better"])
    arms = ("the base", "the tuned model")
    fault = row_fault(base, tuned, arms)
    if fault is None:
        by_id = {row.row_id: row for row in tuned}
        tuned = [by_id[row.row_id] for row in base]
        fault = value_fault(metric, base, tuned, arms)
    if fault is not None:
        raise DataError("E1009", fault, hint="judge the run again with `fettle evaluate RUN`")
    groups = group_numbers(base)
    base_sums, tuned_sums = metric.sums([base, tuned])
    return swap_sums(
        plan, metric, base_sums, tuned_sums, groups, num_swaps, seed, progress or (lambda *_: None)
    )


def swap_sums(
    plan: Mapping[str, Any],
    metric: Metric,
    base_sums: FloatArray,
    tuned_sums: FloatArray,
    groups: IntArray | None,
    num_swaps: int,
    seed: int,
    progress: Progress,
) -> SwapTest:
    """``swap_test`` from sufficient statistics.

    Only swaps whose p-value may reach alpha can get one of the two words; those go through the
    whole policy. The others are found by a common null distribution: the arms of a swap have the
    same swaps as the arms they come from, so that one set of patterns serves a hundred swaps.
    """
    alpha = float(plan["alpha"])
    num_draws = int(plan["resamples"])

    def judge(one: FloatArray, other: FloatArray) -> Contrast:
        return contrast_sums(
            metric, one, other, groups, alpha=alpha, num_resamples=num_draws, seed=seed
        )

    whole = judge(base_sums, tuned_sums)
    n = len(base_sums)
    num_units = n if groups is None else int(groups.max()) + 1
    words = {"improved": 0, "worse": 0}
    generator = np.random.default_rng([seed, 1])
    known: dict[tuple[int, int], VerdictWord] = {}
    for start in range(0, num_swaps, BATCH):
        swaps = generator.random((min(BATCH, num_swaps - start), num_units)) < 0.5
        if whole.comparison.test == "exact McNemar":
            chosen = np.arange(len(swaps))
        else:
            p_values = _screen(
                metric,
                (base_sums, tuned_sums),
                groups,
                swaps,
                num_draws=num_draws,
                seed=seed + 1 + start,
            )
            # The policy draws its own patterns: five standard errors of its p-value more.
            slack = 5.0 * np.sqrt(alpha / num_draws)
            chosen = np.flatnonzero(p_values <= alpha + slack)
        for number in chosen:
            swapped = swaps[number] if groups is None else swaps[number][groups]
            one = np.where(swapped[:, None], tuned_sums, base_sums)
            other = np.where(swapped[:, None], base_sums, tuned_sums)
            # Rows of right and wrong that are independent tell the policy two counts only.
            key = (-1, -1)
            if whole.comparison.test == "exact McNemar":
                key = int(np.sum(one[:, 0] > other[:, 0])), int(np.sum(one[:, 0] < other[:, 0]))
            word = known.get(key)
            if word is None:
                word, _ = choose_word(plan, judge(one, other))
                if key != (-1, -1):
                    known[key] = word
            if word in words:
                words[word] += 1
        progress(start + len(swaps), num_swaps)
    false = words["improved"] + words["worse"]
    most = int(binom.ppf(QUANTILE, num_swaps, alpha))
    most_improved = int(binom.ppf(QUANTILE, num_swaps, alpha / 2.0))
    return SwapTest(
        metric=metric.name,
        test=whole.comparison.test,
        n=n,
        clusters=whole.comparison.clusters,
        alpha=alpha,
        swaps=num_swaps,
        improved=words["improved"],
        worse=words["worse"],
        rate=false / num_swaps,
        most=most,
        most_improved=most_improved,
        passed=false <= most and words["improved"] <= most_improved,
    )


def _screen(
    metric: Metric,
    sums: tuple[FloatArray, FloatArray],
    groups: IntArray | None,
    swaps: BoolArray,
    *,
    num_draws: int,
    seed: int,
) -> FloatArray:
    """p-values of swapped arms by one null distribution, up to the randomness of its patterns.

    Args:
        swaps: [T, C] which units are swapped.
    """
    base_units, tuned_units = (sum_by_unit(arm, groups) for arm in sums)
    blocks = blocks_of(None, len(base_units), seed)
    observed = np.abs(_differences(metric, base_units, tuned_units, swaps))
    if blocks is not None:
        base_units, tuned_units = (sum_by_unit(arm, blocks) for arm in (base_units, tuned_units))
    changed = np.any(base_units != tuned_units, axis=1)
    num_changed = int(changed.sum())
    exact = num_changed <= EXACT_UNITS
    if exact:
        patterns = np.zeros((2**num_changed, len(changed)), dtype=np.int8)
        patterns[:, changed] = list(product((0, 1), repeat=num_changed))
    else:
        generator = np.random.default_rng(seed)
        patterns = generator.integers(0, 2, (num_draws, len(changed)), dtype=np.int8)
    null = np.sort(np.abs(_differences(metric, base_units, tuned_units, patterns)))
    bound = observed - 1e-10 * np.maximum(1.0, observed)
    as_large = len(null) - np.searchsorted(null, bound, side="left")
    p_values: FloatArray = as_large / len(null) if exact else (as_large + 1) / (len(null) + 1)
    return p_values


def _differences(
    metric: Metric, base_units: FloatArray, tuned_units: FloatArray, swaps: NDArray[Any]
) -> FloatArray:
    """[T] difference of the metric after each pattern of swaps [T, C]."""
    change = tuned_units - base_units
    base_total, tuned_total = base_units.sum(axis=0), tuned_units.sum(axis=0)
    found = np.empty(len(swaps))
    size = max(1, CHUNK // change.shape[1])
    for start in range(0, len(swaps), size):
        moved = swaps[start : start + size].astype(np.float64) @ change
        value = metric.score(tuned_total - moved) - metric.score(base_total + moved)
        found[start : start + size] = value
    return found
