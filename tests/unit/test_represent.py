"""Train against target: every statistic against another implementation, and what is found."""

import json
from collections import Counter
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.stats import chi2_contingency, fisher_exact, ks_2samp
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from fettle.data.features.hashed import count_ngrams, tfidf
from fettle.data.represent.coverage import cover, fisher_more, keywords, likeness, surprise
from fettle.data.represent.domain import (
    _smoother,
    auc_error,
    aucs,
    effective_rows,
    importance_weights,
    log_importance,
    select_like,
    tell_apart,
    weighed_by,
)
from fettle.data.represent.drop import expected_drop, sureness, thresholded
from fettle.data.represent.mix import chi_squared, distances, length_buckets, mix_shift
from fettle.data.represent.represent import findings_of, represent, row_weights
from fettle.errors import DataError
from fettle.records.rows import Example
from fettle.records.tokens import TokenizedExample

TOPICS = {
    "card": "my bank card was lost please send new one today",
    "loan": "what interest rate does the house loan have this year",
    "fees": "why did the account statement show extra monthly fees",
}
FOREIGN = "which stadium hosts tomorrow evening football match tickets"


def sentences(number, seed, words=None):
    generator = np.random.default_rng(seed)
    labels = [str(generator.choice(list(TOPICS))) for _ in range(number)]
    texts = []
    for label in labels:
        bag = (words or TOPICS[label]).split()
        texts.append(" ".join(generator.choice(bag, 7)))
    return texts, labels


def rows(texts, labels=None, name="r"):
    return [
        Example(f"{name}{i}", "d", i, i, text=text, target=None if labels is None else labels[i])
        for i, text in enumerate(texts)
    ]


# --- coverage -----------------------------------------------------------------------------------


def test_likeness_is_the_mean_of_the_three_nearest():
    known, asked = tfidf(sentences(80, 0)[0]), tfidf(sentences(30, 1)[0])
    neighbours = NearestNeighbors(n_neighbors=3, metric="cosine", algorithm="brute").fit(known)
    apart, _ = neighbours.kneighbors(asked)
    assert likeness(asked, known) == pytest.approx(1 - apart.mean(axis=1), abs=1e-5)


def test_fisher_agrees_with_scipy():
    for hits, n, other, m in [(9, 40, 5, 100), (0, 30, 5, 100), (30, 30, 1, 20)]:
        expected = fisher_exact([[hits, n - hits], [other, m - other]], alternative="greater")
        assert fisher_more(hits, n, other, m) == pytest.approx(expected.pvalue)


def test_coverage_is_silent_on_equal_rows_and_finds_foreign_ones():
    generator = np.random.default_rng(0)
    rejected = 0
    for _ in range(400):
        own, asked = generator.normal(size=200), generator.normal(size=150)
        coverage, below = cover(asked, own)
        assert coverage.uncovered == below.sum()
        assert coverage.expected == pytest.approx(0.05)
        rejected += coverage.p_value <= 0.05
    assert rejected / 400 <= 0.06
    strange = np.concatenate([generator.normal(size=120), generator.normal(size=30) - 5])
    coverage, below = cover(strange, generator.normal(size=200))
    assert coverage.p_value < 0.001
    assert below[120:].all()
    assert coverage.ci_low <= coverage.share <= coverage.ci_high


def test_surprise_is_the_g_statistic():
    expected = chi2_contingency([[12, 28], [9, 91]], correction=False, lambda_="log-likelihood")
    assert surprise(12, 40, 9, 100) == pytest.approx(expected.statistic)
    assert surprise(9, 100, 12, 40) == pytest.approx(-expected.statistic)
    assert (
        keywords(["a match on friday", "the match"], Counter({"the": 5, "a": 5}), 5)[0] == "match"
    )


# --- distinguishability -------------------------------------------------------------------------


def test_the_smoother_is_cross_validated_kernel_ridge():
    features = tfidf(sentences(40, 0)[0])
    products = (features @ features.T).toarray().astype(float)
    folds = np.arange(40) % 5
    sides = np.random.default_rng(0).normal(size=(40, 3))
    ours = _smoother(products, folds) @ sides
    for fold in range(5):
        rest = folds != fold
        model = KernelRidge(alpha=1.0, kernel="precomputed")
        model.fit(products[np.ix_(rest, rest)], sides[rest])
        expected = model.predict(products[np.ix_(~rest, rest)])
        assert ours[~rest] == pytest.approx(expected, abs=1e-8)


def test_auc_and_its_error():
    generator = np.random.default_rng(0)
    side = (np.arange(60) < 25).astype(float)
    scores = np.round(generator.normal(size=(60, 4)), 1)  # with ties
    expected = [roc_auc_score(side, scores[:, i]) for i in range(4)]
    assert aucs(scores, np.repeat(side[:, None], 4, axis=1)) == pytest.approx(expected)
    noise = generator.normal(size=(60, 3000)) + side[:, None]
    drawn = aucs(noise, np.repeat(side[:, None], 3000, axis=1))
    errors = [auc_error(noise[:, i], side) for i in range(100)]
    assert np.mean(errors) == pytest.approx(np.std(drawn), rel=0.1)


def test_few_rows_have_the_p_value_of_all_permutations():
    features = tfidf(sentences(7, 3)[0])
    found = tell_apart(features[:4], features[4:], seed=1, num_permutations=4000)
    generator = np.random.default_rng(1)
    folds = generator.permutation(7) % 5
    smoother = _smoother((features @ features.T).toarray().astype(float), folds)
    sides = np.array(sorted(set(permutations([0.0] * 4 + [1.0] * 3)))).T
    values = aucs(smoother @ (sides - 3 / 7), sides)
    exact = (values >= found.auc - 1e-12).mean()
    assert found.p_value == pytest.approx(exact, abs=0.03)


def test_the_same_rows_are_close_and_others_are_told_apart():
    rejected = 0
    for seed in range(40):
        features = tfidf(sentences(120, seed)[0])
        rejected += tell_apart(features[:60], features[60:], seed, 99).p_value <= 0.05
    assert rejected <= 6  # 2 expected; 7 or more has a chance below 0.4 %
    known, _ = sentences(400, 0)
    other, _ = sentences(200, 1, FOREIGN)
    both = tfidf([*known, *other])
    apart = tell_apart(both[:200], both[400:], 0, 99)
    assert apart.auc > 0.95
    assert apart.p_value == pytest.approx(0.01)
    assert not apart.close
    same = tell_apart(both[:200], both[200:400], 0, 99)
    assert same.ci_low <= 0.5 <= same.ci_high


# --- mix ----------------------------------------------------------------------------------------


def test_chi_squared_and_distance_agree_with_scipy():
    table = np.array([[30, 50, 20], [10, 25, 40]])
    expected = chi2_contingency(table, correction=False)
    assert chi_squared(table[None])[0] == pytest.approx(expected.statistic)
    shares = table / table.sum(axis=1, keepdims=True)
    assert distances(table[None])[0] == pytest.approx(np.abs(shares[0] - shares[1]).sum() / 2)
    ours, theirs = (["abc"[k] for k in range(3) for _ in range(row[k])] for row in table)
    found = mix_shift("letter", ours, theirs)
    assert found.ci_low < found.distance < found.ci_high
    assert found.p_value == pytest.approx(1 / 2000)
    mild = np.array([[30, 50, 20], [24, 30, 21]])
    ours, theirs = (["abc"[k] for k in range(3) for _ in range(row[k])] for row in mild)
    expected = chi2_contingency(mild, correction=False)
    assert mix_shift("letter", ours, theirs).p_value == pytest.approx(expected.pvalue, abs=0.03)


def test_the_mix_test_keeps_its_level():
    generator = np.random.default_rng(0)
    p_values = [
        mix_shift("s", generator.choice(list("abcd"), 80).tolist(),
                  generator.choice(list("abcd"), 60).tolist(), seed, 199).p_value
        for seed in range(200)
    ]  # fmt: skip
    assert np.mean(np.array(p_values) <= 0.05) <= 0.09
    assert ks_2samp(p_values, np.random.default_rng(1).random(5000)).statistic < 0.15


def test_length_buckets_hold_equal_shares_of_train():
    ours, theirs = length_buckets(list(range(100)), [3, 500])
    assert set(Counter(ours).values()) <= {19, 20, 21}
    assert theirs == ["up to 19 words", "over 79 words"]


# --- weights ------------------------------------------------------------------------------------


def test_weights_bring_the_mix_of_train_to_that_of_the_target():
    texts, labels = sentences(900, 0)
    others, theirs = sentences(900, 1)
    wanted = [i for i, label in enumerate(theirs) if label == "loan" or i % 8 == 0]
    train = rows(texts, labels)
    weights, effective = row_weights(train, rows([others[i] for i in wanted], name="t"))
    total = sum(weights.values())
    assert total == pytest.approx(900, rel=1e-3)
    values = np.array(list(weights.values()))
    assert effective == pytest.approx(values.sum() ** 2 / (values**2).sum())
    assert effective < 850
    own = np.mean([label == "loan" for label in labels])
    weighed = sum(weights[f"r{i}"] for i in range(900) if labels[i] == "loan") / total
    there = np.mean([theirs[i] == "loan" for i in wanted])
    assert abs(weighed - there) < 0.25 * abs(own - there)
    tokenized = [TokenizedExample("r0", (1,), label=0, weight=2.0), TokenizedExample("x", (1,))]
    assert weighed_by(tokenized, weights) == [
        replace(tokenized[0], weight=2.0 * weights["r0"]), tokenized[1]
    ]  # fmt: skip


def test_equal_samples_have_equal_weights():
    texts, _ = sentences(600, 0)
    features = tfidf(texts)
    weights = importance_weights(features[:400], features[400:])
    assert effective_rows(weights) > 330
    assert effective_rows(np.ones(7)) == 7


def test_selection_prefers_what_the_target_has():
    texts, _ = sentences(300, 0)
    texts += sentences(60, 1, FOREIGN)[0]
    counts, target = count_ngrams(texts), count_ngrams(sentences(50, 2, FOREIGN)[0])
    logs = log_importance(counts, target)
    assert logs[300:].min() > logs[:300].max()
    bags = [np.asarray(c.words.sum(axis=0)).ravel() + 1 for c in (target, counts)]
    by_hand = np.log(bags[0] / bags[0].sum()) - np.log(bags[1] / bags[1].sum())
    first = csr_matrix(counts.words[5])
    assert logs[5] == pytest.approx(float((first.data * by_hand[first.indices]).sum()), rel=1e-4)
    chosen = select_like(counts, target, 50)
    assert len(set(chosen.tolist())) == 50
    assert (chosen >= 300).mean() > 0.9


# --- the drop -----------------------------------------------------------------------------------


def test_the_threshold_holds_as_many_rows_as_are_wrong():
    own = np.arange(10.0)
    right = np.array([False] * 3 + [True] * 7)
    assert thresholded(own, right, own) == pytest.approx(0.7)
    assert thresholded(own, right, np.array([0.0, 2.5, 3.0, 9.0])) == pytest.approx(0.5)
    assert thresholded(own, ~right | True, own) == pytest.approx(1.0)
    assert sureness(np.array([[0.5, 0.5], [1.0, 0.0]])).tolist() == [0.5, 1.0]


def test_a_foreign_target_is_expected_to_cost_accuracy():
    texts, labels = sentences(500, 0)
    folds = np.arange(500) % 5
    same, _ = sentences(200, 1)
    other, _ = sentences(200, 2, FOREIGN)
    near, far = expected_drop(texts, labels, folds, [same, other])
    assert abs(near.drop) < 0.05
    assert far.drop > 0.5
    assert far.confidence_difference > near.confidence_difference + 0.2


# --- all of it ----------------------------------------------------------------------------------


def test_train_and_a_target_of_the_same_kind():
    train = rows(*sentences(500, 0))
    found = represent(train, rows(sentences(200, 1)[0], name="t"))
    assert found.coverage.groups == ()
    assert findings_of(found) == []
    assert json.loads(json.dumps(found.to_json()))["num_target"] == 200


def test_foreign_rows_are_listed_grouped_and_counted():
    train = rows(*sentences(600, 0))
    texts = sentences(150, 1)[0] + sentences(50, 2, FOREIGN)[0]
    target = rows(texts, name="t")
    found = represent(train, target, slices={"channel": lambda e: e.row_id[0]})
    listed = [row for group in found.coverage.groups for row in group.rows]
    assert {f"t{i}" for i in range(150, 200)} <= set(listed)
    assert set(found.coverage.groups[0].keywords) <= set(FOREIGN.split())
    collect = sum(group.rows_to_collect for group in found.coverage.groups)
    assert collect == pytest.approx(200, rel=0.25)  # 50 of 200 → 200 beside 600
    assert found.mix[-1].distance == 1.0
    findings = findings_of(found, "real.csv")
    assert {finding.kind for finding in findings} == {"unrepresentative"}
    assert "football" in " ".join(finding.evidence for finding in findings)
    order = np.random.default_rng(0).permutation(200)
    again = represent(train[::-1], [target[i] for i in order])
    assert again.coverage == found.coverage
    assert again.distinguishability == found.distinguishability
    assert again.drop == found.drop


def test_the_label_is_a_slice_when_both_have_it():
    texts, labels = sentences(300, 0)
    loans = [i for i, label in enumerate(labels) if label == "loan"]
    target = rows([f"{texts[i]} x" for i in loans], [labels[i] for i in loans], "t")
    found = represent(rows(texts, labels), target)
    label = next(mix for mix in found.mix if mix.slices == "label")
    assert label.distance == pytest.approx(1 - len(loans) / 300)
    assert label.shares[0].name == "loan"


def test_too_few_rows_are_refused():
    train = rows(*sentences(500, 0))
    with pytest.raises(DataError, match="too few") as error:
        represent(train, rows(["only one"] * 50, name="t"))
    assert error.value.code == "E0338"
