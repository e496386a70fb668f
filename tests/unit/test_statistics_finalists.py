"""max-T against brute force, and what it must hold; several seeds."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from fettle.statistics.correction import holm
from fettle.statistics.finalists import max_t
from fettle.statistics.resampling import randomization_test
from fettle.statistics.two_way import two_way_bootstrap


def mean(sums):
    return sums[..., 0] / sums[..., 1]


def columns(values):
    return np.column_stack([np.asarray(values, dtype=float), np.ones(len(values))])


def test_max_t_by_enumeration():
    generator = np.random.default_rng(0)
    base = generator.normal(size=9)
    finalists = [base + generator.normal(shift, scale, 9) for shift, scale in ((1, 1), (0.2, 3))]
    changes = np.array([one - base for one in finalists])
    signs = np.array(list(product((1.0, -1.0), repeat=9)))
    null = np.abs(signs @ changes.T) / 9
    null /= np.sqrt(np.mean(null**2, axis=0))
    seen = null[0]
    strong, weak = np.argsort(-seen)
    expected = {
        strong: np.mean(null.max(axis=1) >= seen[strong] - 1e-9),
        weak: np.mean(null[:, weak] >= seen[weak] - 1e-9),
    }
    expected[weak] = max(expected[strong], expected[weak])
    found = max_t(columns(base), [columns(one) for one in finalists], mean)
    for number, result in enumerate(found):
        assert result.p_adjusted == pytest.approx(expected[number], abs=1e-12)
        alone = randomization_test(columns(base), columns(finalists[number]), mean)
        assert result.p_value == pytest.approx(alone.p_value, abs=1e-12)
        assert result.difference == pytest.approx(changes[number].mean())


def test_one_finalist_needs_no_correction():
    generator = np.random.default_rng(1)
    base, tuned = columns(generator.normal(size=50)), columns(generator.normal(0.3, 1.0, 50))
    (found,) = max_t(base, [tuned], mean, num_draws=2000)
    assert found.p_value == found.p_adjusted
    assert max_t(base, [], mean) == []


def test_max_t_loses_less_than_holm_on_correlated_finalists():
    generator = np.random.default_rng(2)
    base = generator.normal(size=80)
    shared = generator.normal(0.25, 1.0, 80)
    finalists = [columns(base + shared + generator.normal(0, 0.2, 80)) for _ in range(5)]
    found = max_t(columns(base), finalists, mean, num_draws=4000)
    by_holm = holm([one.p_value for one in found])
    assert min(one.p_adjusted for one in found) < 0.7 * min(by_holm)
    assert all(one.p_adjusted >= one.p_value for one in found)


def test_max_t_keeps_the_level_in_clusters_and_picking_the_best_would_not():
    generator = np.random.default_rng(3)
    groups = np.repeat(np.arange(20), 5)
    rejected = best_alone = 0
    trials = 300
    for trial in range(trials):
        base = columns(generator.normal(size=100) + generator.normal(size=20)[groups])
        finalists = [
            columns(generator.normal(size=100) + generator.normal(size=20)[groups])
            for _ in range(5)
        ]
        found = max_t(base, finalists, mean, groups=groups, num_draws=300, seed=trial)
        rejected += min(one.p_adjusted for one in found) <= 0.05
        best_alone += min(one.p_value for one in found) <= 0.05
    assert rejected / trials <= 0.05 + 3.1 * np.sqrt(0.05 * 0.95 / trials)
    assert best_alone / trials > 0.1


def f_score(sums):
    return 2.0 * sums[..., 0] / (sums[..., 1] + sums[..., 2])


def test_max_t_of_a_corpus_metric():
    generator = np.random.default_rng(4)
    reference = (generator.random(60) < 0.4).astype(float)

    def table(share):
        said = np.where(generator.random(60) < share, reference, generator.random(60) < 0.5)
        return np.column_stack([said * reference, said, reference])

    base, good, poor = table(0.3), table(0.95), table(0.3)
    found = max_t(base, [poor, good], f_score, num_draws=1000)
    assert found[1].p_adjusted <= 0.01
    assert found[0].p_adjusted > 0.05


def test_equal_arms():
    rows = columns(np.arange(20.0))
    (found,) = max_t(rows, [rows], mean, num_draws=200)
    assert (found.difference, found.p_value, found.p_adjusted) == (0.0, 1.0, 1.0)


def test_two_way_holds_rows_and_seeds():
    generator = np.random.default_rng(5)
    base = columns(generator.normal(size=200))
    trained = np.stack(
        [columns(base[:, 0] + generator.normal(0.5, 1.0, 200) + s) for s in (-0.2, 0.0, 0.3, 0.1)]
    )
    found = two_way_bootstrap(base, trained, mean, num_resamples=2000)
    each = trained[:, :, 0].mean(axis=1) - base[:, 0].mean()
    assert found.seed_differences == pytest.approx(each.tolist())
    assert found.difference == pytest.approx(each.mean())
    by_t = ttest_1samp(each, 0.0)
    interval = by_t.confidence_interval()
    assert found.low <= interval.low + 1e-9
    assert found.high >= interval.high - 1e-9
    assert found.p_value >= by_t.pvalue - 1e-12
    again = two_way_bootstrap(np.stack([base] * 4), trained, mean, num_resamples=2000)
    assert again == found


@pytest.mark.parametrize(("seed_spread", "row_spread"), [(0.3, 1.0), (0.0, 1.0), (0.3, 0.1)])
def test_two_way_keeps_the_level(seed_spread, row_spread):
    """No recipe effect; seeds shift all rows, rows depend on each other across seeds."""
    generator = np.random.default_rng(6)
    trials, rejected, covered = 150, 0, 0
    for trial in range(trials):
        base = columns(np.zeros(80))
        shared = generator.normal(0, row_spread, 80)
        trained = np.stack(
            [
                columns(shared + generator.normal(0, 0.3, 80) + generator.normal(0, seed_spread))
                for _ in range(5)
            ]
        )
        found = two_way_bootstrap(base, trained, mean, num_resamples=300, seed=trial)
        rejected += found.p_value <= 0.05
        covered += found.low <= 0.0 <= found.high
    assert rejected / trials <= 0.05 + 3.1 * np.sqrt(0.05 * 0.95 / trials)
    assert covered / trials >= 0.935


def test_two_way_needs_two_of_each():
    rows = columns(np.arange(5.0))
    with pytest.raises(ValueError, match="two seeds"):
        two_way_bootstrap(rows, np.stack([rows]), mean)
    with pytest.raises(ValueError, match="two units"):
        two_way_bootstrap(rows, np.stack([rows, rows]), mean, groups=np.zeros(5, dtype=np.int64))
