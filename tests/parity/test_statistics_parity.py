"""Our tests against statsmodels and scipy."""

import numpy as np
import pytest
import statsmodels.api as sm
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.significance import _paired_ar_test
from scipy.stats import permutation_test
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from fettle.metrics import METRICS
from fettle.statistics.clustered import cluster_t_interval
from fettle.statistics.correction import benjamini_hochberg, holm
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


@pytest.mark.parametrize("number", [1, 2, 7, 40])
def test_benjamini_hochberg_equals_statsmodels(number):
    p_values = np.random.default_rng(number).random(number) ** 3
    reference = multipletests(p_values, method="fdr_bh")[1]
    assert benjamini_hochberg(p_values.tolist()) == pytest.approx(reference.tolist(), abs=1e-12)


def test_approximate_randomization_agrees_with_sacrebleu():
    """Its own code on its own counts, for systems that differ by more and less."""
    words = [f"w{number}" for number in range(40)]
    generator = np.random.default_rng(8)
    references = [" ".join(generator.choice(words, 12)) for _ in range(60)]

    def answers(share):
        return [
            " ".join(w if generator.random() > share else "x" for w in line.split())
            for line in references
        ]

    counter = BLEU(tokenize="none", force=True)
    base = answers(0.30)
    counts = counter._extract_corpus_statistics(base, [references])
    known = {"BLEU": (counts, counter._aggregate_and_compute(counts))}
    score = METRICS["bleu"].score
    for share in (0.30, 0.27, 0.24):
        tuned = answers(share)
        _, results = _paired_ar_test(
            known, "tuned", tuned, [references], {"BLEU": counter}, n_samples=4000, seed=1
        )
        sums = [
            np.array(counter._extract_corpus_statistics(arm, [references]), dtype=float)
            for arm in (base, tuned)
        ]
        found = randomization_test(*sums, score, num_draws=10_000)
        assert found.p_value == pytest.approx(results["BLEU"].p_value, abs=0.02)
