"""Many trials of the whole policy at once: the same p-values, intervals and words as one by one.

What costs time is drawing patterns. Trials of one batch share a seed, so ``contrast_sums`` would
draw the same patterns for each of them: here they are drawn once, and one matrix product serves
the batch. Trials whose rows would be merged or enumerated there go through ``contrast_sums``.

In: sufficient statistics of a batch of trials. Out: one ``Outcome`` a trial. A test holds both ways
against each other. Must not know: how trials were made.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t

from fettle.evaluate.contrast import Contrast, contrast_sums
from fettle.metrics.metric import Metric
from fettle.statistics.flips import pseudo_differences
from fettle.statistics.paired import widened_tail
from fettle.statistics.resampling import (
    EXACT_UNITS,
    MAX_UNITS,
    FloatArray,
    IntArray,
    resample_weights,
    smallest_p_value,
    sum_by_unit,
    swap_counts,
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the policy says of one trial."""

    word: str
    """improved, worse or other."""
    p_value: float
    low: float | None
    high: float | None


def outcome_of(found: Contrast, alpha: float) -> Outcome:
    """The word of a contrast without a margin; ``choose_word`` gives the same (tested)."""
    ends = found.comparison.ci_low, found.comparison.ci_high
    return _outcome(
        found.comparison.p_value, *ends, found.smallest_p, alpha, found.comparison.higher_is_better
    )


def plain(
    metric: Metric,
    base: FloatArray,
    tuned: FloatArray,
    groups: IntArray | None,
    *,
    alpha: float,
    num_resamples: int,
    seed: int,
) -> Outcome:
    """One trial through fettle's own policy."""
    found = contrast_sums(
        metric, base, tuned, groups, alpha=alpha, num_resamples=num_resamples, seed=seed
    )
    return outcome_of(found, alpha)


def batch(
    metric: Metric,
    trials: Sequence[tuple[FloatArray, FloatArray]],
    groups: IntArray | None,
    *,
    alpha: float,
    num_resamples: int,
    seed: int,
) -> list[Outcome]:
    """Several trials on rows of one layout; equal to ``plain`` on each.

    Args:
        metric: kind row, ratio or corpus.
        trials: [N, K] statistics of base and tuned, per trial.
        groups: [N] cluster numbers for all trials; None when rows are independent.
        alpha: two-sided level.
        num_resamples: resamples and draws.
        seed: of the random generators.
    """
    results: list[Outcome | None] = [None] * len(trials)
    shared = []
    for number, (base, tuned) in enumerate(trials):
        units = sum_by_unit(base, groups), sum_by_unit(tuned, groups)
        if _needs_plain(metric, base, tuned, *units):
            results[number] = plain(
                *(metric, base, tuned, groups), alpha=alpha, num_resamples=num_resamples, seed=seed
            )
        else:
            shared.append((number, *units))
    if shared:
        base_units = np.stack([base for _, base, _ in shared])
        tuned_units = np.stack([tuned for _, _, tuned in shared])
        sizes = None if groups is None else np.bincount(groups).astype(np.float64)
        found = _shared(metric, base_units, tuned_units, sizes, alpha, num_resamples, seed)
        for (number, _, _), outcome in zip(shared, found, strict=True):
            results[number] = outcome
    return [outcome for outcome in results if outcome is not None]


def _needs_plain(
    metric: Metric,
    base: FloatArray,
    tuned: FloatArray,
    base_units: FloatArray,
    tuned_units: FloatArray,
) -> bool:
    """Whether ``contrast_sums`` would enumerate, merge equal units or take another test."""
    num_units = len(base_units)
    if not EXACT_UNITS < num_units <= MAX_UNITS or not np.all(
        np.any(tuned_units != base_units, axis=1)
    ):
        return True
    values = np.concatenate([base[:, 0], tuned[:, 0]])
    if metric.kind == "row" and np.all((values == 0.0) | (values == 1.0)):
        return True
    # A column of one value in every row (the count) can't tell units apart.
    first = np.unique(tuned_units - base_units, axis=0)
    return len(first) <= num_units // 4


def _shared(
    metric: Metric,
    base: FloatArray,
    tuned: FloatArray,
    sizes: FloatArray | None,
    alpha: float,
    num_resamples: int,
    seed: int,
) -> list[Outcome]:
    """[T, C, K] units of trials in which every unit differs and none are equal."""
    num_units = base.shape[1]
    ones = np.ones(num_units, dtype=np.int64)
    swaps = np.concatenate(list(swap_counts(ones, num_resamples, seed)))
    weights = np.concatenate(list(resample_weights(ones, num_resamples, seed)))
    p_values = _randomization(metric, base, tuned, swaps)
    if metric.kind == "corpus":
        lows, highs = _paired_bootstrap(metric, base, tuned, weights, alpha)
        whole = np.ones(num_units) if sizes is None else sizes
        changes = np.stack(
            [
                pseudo_differences(one, two, whole, metric.score)
                for one, two in zip(base, tuned, strict=True)
            ]
        )
        flips = _flips(changes, np.broadcast_to(whole, changes.shape), swaps, alpha)
        lows, highs = np.minimum(lows, flips[0]), np.maximum(highs, flips[1])
    else:
        changes, denominators = tuned[..., 0] - base[..., 0], base[..., 1]
        lows, highs = _wider(changes, denominators, weights, alpha)
        if sizes is not None:
            flips = _flips(changes, denominators, swaps, alpha)
            lows, highs = np.minimum(lows, flips[0]), np.maximum(highs, flips[1])
    smallest = smallest_p_value(num_units, num_resamples)
    results = []
    for p_value, low, high in zip(p_values.tolist(), lows.tolist(), highs.tolist(), strict=True):
        ends: tuple[float | None, float | None] = (low, high)
        if metric.span is not None:
            ends = max(low, -metric.span), min(high, metric.span)
        elif not np.isfinite(high - low):
            ends = None, None
        results.append(_outcome(p_value, *ends, smallest, alpha, metric.higher_is_better))
    return results


def _outcome(
    p_value: float,
    low: float | None,
    high: float | None,
    smallest: float,
    alpha: float,
    higher_is_better: bool,
) -> Outcome:
    word = "other"
    if smallest <= alpha and p_value <= alpha and low is not None and high is not None:
        up, down = ("improved", "worse") if higher_is_better else ("worse", "improved")
        word = up if low > 0.0 else down if high < 0.0 else "other"
    return Outcome(word, p_value, low, high)


def _times(patterns: FloatArray, units: FloatArray) -> FloatArray:
    """[R, C] x [T, C, K] -> [T, R, K], by one product."""
    num_trials, num_units, width = units.shape
    flat = units.transpose(1, 0, 2).reshape(num_units, num_trials * width)
    product: FloatArray = patterns @ flat
    return product.reshape(len(patterns), num_trials, width).transpose(1, 0, 2)


def _randomization(
    metric: Metric, base: FloatArray, tuned: FloatArray, swaps: FloatArray
) -> FloatArray:
    base_total, tuned_total = base.sum(axis=1)[:, None], tuned.sum(axis=1)[:, None]
    observed = np.abs(metric.score(tuned_total) - metric.score(base_total))
    moved = _times(swaps, tuned - base)
    found = np.abs(metric.score(tuned_total - moved) - metric.score(base_total + moved))
    bound = observed - 1e-10 * np.maximum(1.0, observed)
    p_values: FloatArray = (np.sum(found >= bound, axis=1) + 1) / (len(swaps) + 1)
    return p_values


def _paired_bootstrap(
    metric: Metric, base: FloatArray, tuned: FloatArray, weights: FloatArray, alpha: float
) -> tuple[FloatArray, FloatArray]:
    found = metric.score(_times(weights, tuned)) - metric.score(_times(weights, base))
    tail = widened_tail(base.shape[1], 1.0 - alpha)
    low, high = np.quantile(found, [tail, 1.0 - tail], axis=1)
    return low, high


def _wider(
    changes: FloatArray, denominators: FloatArray, weights: FloatArray, alpha: float
) -> tuple[FloatArray, FloatArray]:
    """``wider_interval`` for [T, C] units."""
    num_units = changes.shape[1]
    few = num_units / (num_units - 1)
    whole = denominators.sum(axis=1)
    estimate = changes.sum(axis=1) / whole
    residuals = changes - estimate[:, None] * denominators
    spread = np.sqrt(few * np.sum(residuals**2, axis=1)) / whole
    half = float(t.isf(alpha / 2.0, num_units - 1)) * spread
    moments = np.stack(
        [residuals, denominators, residuals**2, residuals * denominators, denominators**2], axis=2
    )
    total, weight, square, cross, weight_square = np.moveaxis(_times(weights, moments), 2, 0)
    shift = total / weight
    variance = square - 2.0 * shift * cross + shift**2 * weight_square
    ratio = shift / (np.sqrt(few * np.maximum(variance, 0.0)) / weight)
    low, high = np.quantile(ratio, [alpha / 2.0, 1.0 - alpha / 2.0], axis=1, method="inverted_cdf")
    return (
        np.minimum(estimate - half, estimate - high * spread),
        np.maximum(estimate + half, estimate - low * spread),
    )


def _flips(
    changes: FloatArray, denominators: FloatArray, chosen: FloatArray, alpha: float
) -> tuple[FloatArray, FloatArray]:
    """``sign_flip_interval`` for [T, C] units and drawn patterns."""
    sums, sizes = chosen @ changes.T, chosen @ denominators.T
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = sums / sizes
        outside = (changes.sum(axis=1) - sums) / (denominators.sum(axis=1) - sizes)
    count = chosen.sum(axis=1)
    whole = ((count == 0) | (count == chosen.shape[1]))[:, None]
    lows = np.where(whole, -np.inf, np.minimum(inside, outside))
    highs = np.where(whole, np.inf, np.maximum(inside, outside))
    end = np.full((1, len(changes)), np.inf)
    lows, highs = np.concatenate([lows, -end]), np.concatenate([highs, end])
    place = min(int(np.floor(alpha * len(lows) * (1.0 + 1e-9))), len(lows) - 1)
    return np.partition(lows, place, axis=0)[place], -np.partition(-highs, place, axis=0)[place]
