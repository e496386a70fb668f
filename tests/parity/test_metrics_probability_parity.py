"""Probabilities against scikit-learn, and the areas' test against DeLong's and brute force."""

import numpy as np
import pytest
from scipy.stats import binom, norm
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from fettle.evaluate.contrast import contrast
from fettle.metrics import find_metric
from fettle.metrics.auroc import placements
from fettle.records.outcomes import Prediction, labels_as_text
from fettle.statistics.paired import paired_bootstrap
from fettle.statistics.resampling import randomization_test


def value(name, rows):
    metric = find_metric(name)
    (sums,) = metric.sums([rows])
    return float(metric.score(sums.sum(axis=0)))


def make(seed, n=120, num_classes=2, digits=2, skill=1.0):
    """Rows whose probabilities lean to the truth; few digits make ties."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, num_classes, n)
    logits = generator.normal(size=(n, num_classes))
    logits[np.arange(n), truth] += skill
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    chances = np.round(chances, digits) + 1e-3
    chances /= chances.sum(axis=1, keepdims=True)
    labels = [f"class {k}" for k in range(num_classes)]
    rows = [
        Prediction(
            str(i),
            labels[int(p.argmax())],
            labels[k],
            probabilities=dict(zip(labels, p.tolist(), strict=True)),
        )
        for i, (k, p) in enumerate(zip(truth, chances, strict=True))
    ]
    return rows, truth, chances


@pytest.mark.parametrize("seed", range(4))
def test_two_classes_equal_sklearn(seed):
    rows, truth, chances = make(seed)
    assert len(np.unique(chances[:, 1])) < len(rows) * 0.8, "ties are wanted"
    assert value("auroc", rows) == pytest.approx(roc_auc_score(truth, chances[:, 1]), abs=1e-12)
    assert value("log_loss", rows) == pytest.approx(log_loss(truth, chances), abs=1e-12)
    expected = brier_score_loss(truth, chances[:, 1])
    assert value("brier", rows) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_several_classes_equal_sklearn(seed):
    rows, truth, chances = make(seed, n=150, num_classes=5)
    expected = roc_auc_score(truth, chances, multi_class="ovr", average="macro")
    assert value("auroc", rows) == pytest.approx(expected, abs=1e-12)
    assert value("log_loss", rows) == pytest.approx(log_loss(truth, chances), abs=1e-12)
    for half, name in ((True, "brier"), (False, "brier:half=no")):
        expected = brier_score_loss(truth, chances, scale_by_half=half)
        assert value(name, rows) == pytest.approx(expected, abs=1e-12)


def test_sets_of_labels_equal_sklearn():
    generator = np.random.default_rng(5)
    truth = generator.random((90, 4)) < 0.4
    chances = np.round(np.clip(truth * 0.4 + generator.random((90, 4)) * 0.6, 0.01, 0.99), 2)
    names = np.array(["a", "b", "c", "d"])
    rows = [
        Prediction(
            str(i),
            labels_as_text(names[p >= 0.5]),
            labels_as_text(names[t]),
            probabilities=dict(zip(names.tolist(), p.tolist(), strict=True)),
        )
        for i, (t, p) in enumerate(zip(truth, chances, strict=True))
    ]
    expected = roc_auc_score(truth, chances, average="macro")
    assert value("auroc", rows) == pytest.approx(expected, abs=1e-12)
    each = [log_loss(truth[:, k], chances[:, k], labels=[False, True]) for k in range(4)]
    assert value("log_loss", rows) == pytest.approx(np.mean(each), abs=1e-12)
    each = [brier_score_loss(truth[:, k], chances[:, k]) for k in range(4)]
    assert value("brier", rows) == pytest.approx(np.mean(each), abs=1e-12)


@pytest.mark.parametrize("bins", [1, 5, 15])
def test_calibration_error_has_sklearns_bins(bins):
    rows, truth, chances = make(7, n=200, num_classes=3, digits=3)
    sure = chances.max(axis=1)
    right = chances.argmax(axis=1) == truth
    shares, means = calibration_curve(right, sure, n_bins=bins, strategy="quantile")
    edges = np.quantile(sure, np.linspace(0, 1, bins + 1)[1:-1])
    sizes = np.bincount(np.searchsorted(edges, sure), minlength=bins)
    expected = np.abs(shares - means) @ sizes[sizes > 0] / len(rows)
    assert value(f"calibration_error:bins={bins}", rows) == pytest.approx(expected, abs=1e-12)


def delong(truth, base, tuned):
    """DeLong's z test of two areas on the same rows, from the pairs one by one."""
    inside, outside = np.flatnonzero(truth == 1), np.flatnonzero(truth == 0)

    def kernel(scores):
        above = scores[inside][:, None] - scores[outside][None, :]
        return (above > 0) + 0.5 * (above == 0)

    first, second = kernel(base), kernel(tuned)
    gap = second - first
    by_positive, by_negative = gap.mean(axis=1), gap.mean(axis=0)
    variance = by_positive.var(ddof=1) / len(inside) + by_negative.var(ddof=1) / len(outside)
    return float(gap.mean()), float(np.sqrt(variance))


def two_arms(seed, n, gain):
    base, truth, first = make(seed, n=n, digits=6)
    generator = np.random.default_rng(seed + 99)
    lean = np.where(truth == 1, gain, -gain)
    second = 1 / (1 + np.exp(-(np.log(first[:, 1] / first[:, 0]) + generator.normal(lean, 0.7))))
    tuned = [
        Prediction(
            row.row_id,
            row.prediction,
            row.reference,
            probabilities={"class 0": 1 - float(p), "class 1": float(p)},
        )
        for row, p in zip(base, second, strict=True)
    ]
    return base, tuned, truth, first[:, 1], second


@pytest.mark.parametrize(("seed", "gain"), [(0, 0.0), (1, 0.1), (2, 0.2), (3, 0.35)])
def test_the_test_of_two_areas_agrees_with_delong(seed, gain):
    base, tuned, truth, first, second = two_arms(seed, 300, gain)
    difference, error = delong(truth, first, second)
    found = contrast(find_metric("auroc"), base, tuned, num_resamples=10_000)
    assert found.comparison.difference == pytest.approx(difference, abs=1e-12)
    assert found.standard_error == pytest.approx(error, rel=0.05)
    p_value = 2 * norm.sf(abs(difference) / error)
    assert found.comparison.p_value == pytest.approx(p_value, abs=0.03)
    assert found.comparison.ci_low == pytest.approx(difference - 1.96 * error, abs=0.006)


@pytest.mark.parametrize(("seed", "gain"), [(5, 0.0), (6, 0.15), (7, 0.3)])
def test_kept_placements_agree_with_ranking_every_resample_anew(seed, gain):
    """The plain path: each swap, and each resample, ranks its rows from the start."""
    base, tuned, truth, first, second = two_arms(seed, 80, gain)
    metric = find_metric("auroc")
    sums = metric.sums([base, tuned])
    fast = randomization_test(*sums, metric.score, num_draws=10_000)
    generator = np.random.default_rng(0)
    observed = abs(area(truth, second) - area(truth, first))
    as_large = 0
    for _ in range(2_000):
        swap = generator.random(len(truth)) < 0.5
        a, b = np.where(swap, second, first), np.where(swap, first, second)
        as_large += abs(area(truth, b) - area(truth, a)) >= observed - 1e-12
    assert fast.p_value == pytest.approx((as_large + 1) / 2_001, abs=0.03)
    resampled = []
    for _ in range(2_000):
        rows = generator.integers(0, len(truth), len(truth))
        resampled.append(area(truth[rows], second[rows]) - area(truth[rows], first[rows]))
    bootstrap = paired_bootstrap(*sums, metric.score, num_resamples=2_000)
    assert bootstrap.standard_error == pytest.approx(np.std(resampled), rel=0.08)


def area(truth, scores):
    return placements(scores, truth == 1)[1]


def test_the_test_of_two_areas_rejects_true_nulls_as_often_as_it_says():
    """Arms of equal skill and independent noise: at most the 99.9 % quantile of 5 %."""
    rejected, trials = 0, 100
    metric = find_metric("auroc")
    for seed in range(trials):
        generator = np.random.default_rng(seed)
        truth = np.arange(30) % 3 == 0
        shared = truth + generator.normal(size=30)
        rows = [
            [
                Prediction(str(i), "1", str(int(k)), probabilities={"1": float(norm.cdf(score))})
                for i, (k, score) in enumerate(zip(truth, scores, strict=True))
            ]
            for scores in (shared + generator.normal(size=30) for _ in range(2))
        ]
        found = randomization_test(*metric.sums(rows), metric.score, num_draws=200, seed=seed)
        rejected += found.p_value <= 0.05
    assert rejected <= binom.ppf(0.999, trials, 0.05)
