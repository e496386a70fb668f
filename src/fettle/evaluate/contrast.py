"""One metric, two arms, one test: the right test and interval for each kind of metric.

| metric                   | p-value                             | interval: the widest of        |
|--------------------------|-------------------------------------|--------------------------------|
| 0 or 1, independent rows | exact McNemar                       | Tango                          |
| 0 or 1, rows in clusters | cluster sign-flip                   | Tango, cluster t, sign-flip    |
| mean or ratio            | sign-flip                           | t, bootstrap-t                 |
| the same in clusters     | cluster sign-flip                   | t, bootstrap-t, sign-flip      |
| corpus                   | (cluster) approximate randomization | paired bootstrap, sign-flip of |
|                          |                                     | each unit's pseudo-value       |

"sign-flip" as an interval: all values that the test does not reject. Where no outcome could be
significant there is no interval, except for 0 or 1 on independent rows.

In: predictions of both arms on the same rows in the same order. Out: a ``Contrast``.
Must not know: plans, verdicts, which words follow.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np

from fettle.metrics.metric import Metric
from fettle.records.outcomes import Comparison, Prediction
from fettle.statistics.clustered import cluster_t_interval, wider_interval
from fettle.statistics.flips import pseudo_differences, sign_flip_interval
from fettle.statistics.paired import mcnemar_exact, paired_bootstrap, tango_interval
from fettle.statistics.power import rows_for_mean, rows_for_proportions
from fettle.statistics.resampling import (
    FloatArray,
    IntArray,
    blocks_of,
    randomization_test,
    smallest_p_value,
    sum_by_unit,
)

TANGO = "Tango"
"""The interval that is there however few rows there are."""
NO_ROW = Prediction("", None, "")


@dataclass(frozen=True, slots=True)
class Contrast:
    """A comparison with what the verdict needs besides."""

    comparison: Comparison
    standard_error: float
    """Of the difference; 0 where it can't be estimated."""
    smallest_p: float
    """The smallest p-value that any outcome on these rows could have given."""
    discordant: tuple[int, int] | None = None
    """b: only the base right, c: only the tuned model right; for metrics of 0 and 1."""

    def rows_to_decide(self, margin: float = 0.0, power: float = 0.8) -> int | None:
        """About how many rows in all would show this difference to be more than a margin.

        Args:
            margin: smallest difference that matters, in the metric's unit.
            power: chance to show it.

        Returns:
            Rows, at least one more than there are; None when no practical number would do.
        """
        found = self.comparison
        gap = abs(found.difference) - margin
        alpha = 1.0 - found.confidence
        if gap <= 0.0:
            return None
        if self.discordant is not None and found.clusters is None:
            # Rounding may put a difference a little above the share it is made of.
            share = max(gap, sum(self.discordant) / found.n)
            rows = rows_for_proportions(gap, share, power, alpha)
        else:
            spread = self.standard_error * float(np.sqrt(found.n))
            rows = rows_for_mean(gap, spread, power, alpha)
        return None if rows is None else max(rows, found.n + 1)


@dataclass(frozen=True, slots=True)
class _Arms:
    """Both arms as numbers."""

    metric: Metric
    base: FloatArray
    tuned: FloatArray
    groups: IntArray | None
    blocks: IntArray | None
    """Groups, or coarser blocks of them, for resampling; see ``blocks_of``."""
    base_value: float
    tuned_value: float
    confidence: float
    num_resamples: int
    seed: int

    @property
    def n(self) -> int:
        return len(self.base)

    @property
    def num_units(self) -> int:
        return self.n if self.groups is None else int(self.groups.max()) + 1

    @property
    def prefix(self) -> str:
        return "" if self.groups is None else "cluster "


@dataclass(frozen=True, slots=True)
class _Tested:
    """What one kind of test found."""

    p_value: float
    test: str
    low: float | None
    high: float | None
    interval: str
    standard_error: float
    smallest_p: float
    discordant: tuple[int, int] | None = None


def contrast(
    metric: Metric,
    base: Sequence[Prediction],
    tuned: Sequence[Prediction],
    *,
    alpha: float = 0.05,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Contrast:
    """Compare two arms on one metric.

    Args:
        metric: what is measured.
        base: arm A, one prediction a row, all covered by the metric and finite.
        tuned: arm B, the same rows in the same order.
        alpha: two-sided level; the interval has confidence 1 - alpha.
        num_resamples: resamples and randomization draws.
        seed: of the random generators.

    Returns:
        The contrast; ``difference`` is tuned - base.

    Raises:
        ValueError: no rows, or rows that differ between the arms.
    """
    if not base or any(a.row_id != b.row_id for a, b in zip_longest(base, tuned, fillvalue=NO_ROW)):
        raise ValueError("both arms must hold the same rows in the same order, at least one")
    base_sums, tuned_sums = metric.sums([base, tuned])
    return contrast_sums(
        metric,
        base_sums,
        tuned_sums,
        group_numbers(base),
        alpha=alpha,
        num_resamples=num_resamples,
        seed=seed,
    )


def contrast_sums(
    metric: Metric,
    base_sums: FloatArray,
    tuned_sums: FloatArray,
    groups: IntArray | None = None,
    *,
    alpha: float = 0.05,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Contrast:
    """``contrast`` from the metric's sufficient statistics.

    Args:
        metric: what is measured.
        base_sums: [N, K] of arm A, as ``metric.sums`` gives them.
        tuned_sums: [N, K] of arm B on the same rows.
        groups: [N] cluster number of every row; None when rows are independent.
        alpha: two-sided level.
        num_resamples: resamples and randomization draws.
        seed: of the random generators.

    Returns:
        The contrast.
    """
    arms = _Arms(
        metric=metric,
        base=base_sums,
        tuned=tuned_sums,
        groups=groups,
        blocks=blocks_of(groups, len(base_sums), seed),
        base_value=float(metric.score(base_sums.sum(axis=0))),
        tuned_value=float(metric.score(tuned_sums.sum(axis=0))),
        confidence=1.0 - alpha,
        num_resamples=num_resamples,
        seed=seed,
    )
    tested = _choose(arms)
    if tested.smallest_p > alpha and tested.interval != TANGO:
        tested = replace(tested, low=None, high=None, interval="")
    comparison = Comparison(
        metric=metric.name,
        higher_is_better=metric.higher_is_better,
        base=arms.base_value,
        tuned=arms.tuned_value,
        difference=arms.tuned_value - arms.base_value,
        ci_low=tested.low,
        ci_high=tested.high,
        confidence=arms.confidence,
        p_value=tested.p_value,
        test=tested.test,
        n=arms.n,
        clusters=None if arms.groups is None else arms.num_units,
        signature=metric.signature(),
        interval=tested.interval,
    )
    return Contrast(comparison, tested.standard_error, tested.smallest_p, tested.discordant)


def group_numbers(rows: Sequence[Prediction]) -> IntArray | None:
    """Cluster number of every row; None when no two rows share a group.

    A row without a group is a cluster of its own.
    """
    numbers: dict[tuple[bool, str], int] = {}
    found = []
    for row in rows:
        key = (True, row.row_id) if row.group is None else (False, row.group)
        found.append(numbers.setdefault(key, len(numbers)))
    return None if len(numbers) == len(rows) else np.array(found, dtype=np.int64)


def _choose(arms: _Arms) -> _Tested:
    if arms.metric.kind == "corpus":
        return _corpus(arms)
    values = np.concatenate([arms.base, arms.tuned])
    if arms.metric.kind == "row" and np.all((values[:, 0] == 0.0) | (values[:, 0] == 1.0)):
        return _binary(arms)
    return _mean(arms)


def _binary(arms: _Arms) -> _Tested:
    base_only = int(np.count_nonzero(arms.base[:, 0] > arms.tuned[:, 0]))
    tuned_only = int(np.count_nonzero(arms.base[:, 0] < arms.tuned[:, 0]))
    discordant = (base_only, tuned_only)
    low, high = tango_interval(base_only, tuned_only, arms.n, arms.confidence)
    if arms.groups is None:
        spread = base_only + tuned_only - (tuned_only - base_only) ** 2 / arms.n
        return _Tested(
            p_value=mcnemar_exact(base_only, tuned_only).p_value,
            test="exact McNemar",
            low=low,
            high=high,
            interval=TANGO,
            standard_error=float(np.sqrt(max(spread, 0.0))) / arms.n,
            smallest_p=min(1.0, 2.0 ** (1 - arms.n)),
            discordant=discordant,
        )
    p_value, test, smallest_p = _randomize(arms)
    if arms.num_units < 2:
        return _Tested(p_value, test, None, None, "", 0.0, smallest_p, discordant)
    difference = arms.tuned[:, 0] - arms.base[:, 0]
    found = cluster_t_interval(
        difference, arms.base[:, 1], groups=arms.groups, confidence=arms.confidence
    )
    if found.standard_error == 0.0:
        # All clusters differ alike: each counts as one row, for want of any other bound.
        scale = arms.num_units / arms.n
        low, high = tango_interval(
            base_only * scale, tuned_only * scale, arms.num_units, arms.confidence
        )
    flips = _flip_interval(arms, difference, arms.base[:, 1])
    # Clusters never tell more than as many independent rows.
    low = max(-1.0, min(low, found.low, flips[0]))
    high = min(1.0, max(high, found.high, flips[1]))
    interval = "widest of cluster t, cluster sign-flip and Tango"
    return _Tested(p_value, test, low, high, interval, found.standard_error, smallest_p, discordant)


def _mean(arms: _Arms) -> _Tested:
    p_value, test, smallest_p = _randomize(arms)
    if arms.num_units < 2:
        return _Tested(p_value, test, None, None, "", 0.0, smallest_p)
    differences, denominators = arms.tuned[:, 0] - arms.base[:, 0], arms.base[:, 1]
    found = wider_interval(
        differences,
        denominators,
        groups=arms.blocks,
        num_resamples=arms.num_resamples,
        confidence=arms.confidence,
        seed=arms.seed,
    )
    ends, interval = (found.low, found.high), "wider of t and bootstrap-t"
    if arms.groups is not None:
        flips = _flip_interval(arms, differences, denominators)
        ends = min(ends[0], flips[0]), max(ends[1], flips[1])
        interval = "widest of cluster t, cluster bootstrap-t and cluster sign-flip"
    low, high = _within(*ends, arms.metric.span)
    return _Tested(p_value, test, low, high, interval, found.standard_error, smallest_p)


def _corpus(arms: _Arms) -> _Tested:
    p_value, test, smallest_p = _randomize(arms)
    if arms.num_units < 2:
        return _Tested(p_value, test, None, None, "", 0.0, smallest_p)
    found = paired_bootstrap(
        arms.base,
        arms.tuned,
        arms.metric.score,
        groups=arms.blocks,
        num_resamples=arms.num_resamples,
        confidence=arms.confidence,
        seed=arms.seed,
    )
    sizes = sum_by_unit(np.ones((arms.n, 1)), arms.blocks)[:, 0]
    base_units = sum_by_unit(arms.base, arms.blocks)
    tuned_units = sum_by_unit(arms.tuned, arms.blocks)
    flips = sign_flip_interval(
        pseudo_differences(base_units, tuned_units, sizes, arms.metric.score),
        sizes,
        num_draws=arms.num_resamples,
        confidence=arms.confidence,
        seed=arms.seed,
    )
    ends = min(found.low, flips[0]), max(found.high, flips[1])
    low, high = _within(*ends, arms.metric.span)
    interval = f"wider of paired {arms.prefix}bootstrap and {arms.prefix}sign-flip"
    return _Tested(p_value, test, low, high, interval, found.standard_error, smallest_p)


def _flip_interval(
    arms: _Arms, differences: FloatArray, denominators: FloatArray
) -> tuple[float, float]:
    return sign_flip_interval(
        differences,
        denominators,
        groups=arms.blocks,
        num_draws=arms.num_resamples,
        confidence=arms.confidence,
        seed=arms.seed,
    )


def _randomize(arms: _Arms) -> tuple[float, str, float]:
    found = randomization_test(
        arms.base,
        arms.tuned,
        arms.metric.score,
        groups=arms.blocks,
        num_draws=arms.num_resamples,
        seed=arms.seed,
    )
    name = "approximate randomization" if arms.metric.kind == "corpus" else "sign-flip"
    kind = arms.prefix or "paired "
    return found.p_value, kind + name, smallest_p_value(arms.num_units, arms.num_resamples)


def _within(low: float, high: float, span: float | None) -> tuple[float | None, float | None]:
    """Clip to what the metric can reach; an end that nothing bounds makes the interval None."""
    if span is not None:
        return max(low, -span), min(high, span)
    return (low, high) if np.isfinite(low) and np.isfinite(high) else (None, None)
