"""Our tests against statsmodels and scipy."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.stats import permutation_test
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from fettle.statistics.clustered import cluster_t_interval
from fettle.statistics.correction import holm
from fettle.statistics.paired import mcnemar_exact
from fettle.statistics.resampling import randomization_test


@pytest.mark.parametrize("seed", range(5))
def test_mcnemar_equals_statsmodels(seed):
    generator = np.random.default_rng(seed)
    for b, c in [(0, 1), (500, 431), *generator.integers(0, 80, (30, 2))]:
        if b + c == 0:
            continue
        reference = mcnemar([[10, b], [c, 20]], exact=True).pvalue
        assert mcnemar_exact(int(b), int(c)).p_value == pytest.approx(reference, abs=1e-12)


@pytest.mark.parametrize("number", [1, 2, 7, 40])
def test_holm_equals_statsmodels(number):
    p_values = np.random.default_rng(number).random(number) ** 3
    reference = multipletests(p_values, method="holm")[1]
    assert holm(p_values.tolist()) == pytest.approx(reference.tolist(), abs=1e-12)


def test_holm_of_nothing():
    assert holm([]) == []


@pytest.mark.parametrize("num_groups", [5, 30, None])
def test_interval_equals_a_clustered_regression(num_groups):
    """A loss per token is a mean weighted by tokens; statsmodels fits it with clustered errors."""
    generator = np.random.default_rng(7)
    n = 120
    tokens = generator.integers(1, 40, n).astype(float)
    change = generator.normal(0.2, 1.0, n) * tokens
    groups = None if num_groups is None else generator.permutation(np.arange(n) % num_groups)
    found = cluster_t_interval(change, tokens, groups=groups, confidence=0.9)
    labels = np.arange(n) if groups is None else groups
    fit = sm.WLS(change / tokens, np.ones((n, 1)), weights=tokens).fit(
        cov_type="cluster", cov_kwds={"groups": labels}, use_t=True
    )
    assert found.difference == pytest.approx(fit.params[0], rel=1e-9)
    assert found.standard_error == pytest.approx(fit.bse[0], rel=1e-9)
    low, high = fit.conf_int(0.1)[0]
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_sign_flip_equals_scipy(seed):
    generator = np.random.default_rng(seed)
    base, tuned = generator.normal(size=9), generator.normal(0.6, size=9)
    reference = permutation_test(
        (base, tuned),
        lambda a, b: np.mean(b) - np.mean(a),
        permutation_type="samples",
        n_resamples=np.inf,
    ).pvalue
    ones = np.ones(9)
    found = randomization_test(
        np.column_stack([base, ones]),
        np.column_stack([tuned, ones]),
        lambda sums: sums[..., 0] / sums[..., 1],
    )
    assert found.p_value == pytest.approx(reference, abs=1e-12)
