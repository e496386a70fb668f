"""Wrong labels: the arithmetic against plain loops and other libraries, the marks on real rows."""

import csv
import json

import numpy as np
import pytest
from bench.faults.labels import flip_uniformly
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from fettle.data.check.label_errors import (
    MAX_SHARE,
    MIN_ODDS,
    confident_joint,
    error_scores,
    find,
    folds_of,
    out_of_fold,
    suspected,
)
from fettle.data.deduplicate import input_key
from fettle.data.features.hashed import choose_landmarks, count_ngrams, fit_tfidf, tfidf
from fettle.data.features.linear import chances_of, fit_fast
from fettle.records.rows import Example


def drawn(seed, n=400, num_labels=5, noise=0.15):
    """Labels, some wrong, with probabilities that know better."""
    generator = np.random.default_rng(seed)
    true = generator.integers(0, num_labels, n)
    logits = generator.normal(0, 1.0, (n, num_labels))
    logits[np.arange(n), true] += 2.5
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    given = np.where(generator.random(n) < noise, generator.integers(0, num_labels, n), true)
    return given, chances


@pytest.mark.parametrize("seed", range(4))
def test_the_joint_is_what_its_definition_says(seed):
    given, chances = drawn(seed)
    found = confident_joint(given, chances)
    thresholds = [np.mean([chances[i][k] for i in range(400) if given[i] == k]) for k in range(5)]
    counts = np.zeros((5, 5), dtype=int)
    for i in range(400):
        reached = [k for k in range(5) if chances[i][k] >= thresholds[k] - 1e-6]
        if reached:
            counts[given[i], max(reached, key=lambda k: chances[i][k])] += 1
    assert found.thresholds == pytest.approx(thresholds)
    assert (found.counts == np.where(np.eye(5), np.maximum(counts, 1), counts)).all()
    assert found.joint.sum(axis=1).tolist() == np.bincount(given, minlength=5).tolist()
    exact = found.counts / found.counts.sum(axis=1, keepdims=True)
    assert np.abs(found.joint - exact * np.bincount(given, minlength=5)[:, None]).max() < 1


@pytest.mark.parametrize("rule", ["noise_rate", "class", "both", "confident"])
def test_rules_name_wrong_labels_and_never_the_likeliest(rule):
    given, chances = drawn(9, n=2000)
    named = suspected(given, chances, rule)
    assert 0 < named.sum() < 500
    assert not (named & (chances.argmax(axis=1) == given)).any()
    both = suspected(given, chances, "both")
    expected = suspected(given, chances, "class") & suspected(given, chances, "noise_rate")
    assert (both == expected).all()


def test_each_pair_of_labels_loses_as_many_rows_as_the_joint_says():
    given, chances = drawn(3, n=1000, num_labels=2)
    joint = confident_joint(given, chances).joint
    named = suspected(given, chances)
    assert named[given == 0].sum() == joint[0, 1]
    margin = chances[:, 1] - chances[:, 0]
    assert margin[named & (given == 0)].min() >= margin[~named & (given == 0)].max()


def test_a_label_that_no_row_has_is_no_trouble():
    given, chances = drawn(1)
    wider = np.column_stack([chances * 0.9, np.full(len(given), 0.1)])
    assert confident_joint(given, wider).joint[5].sum() == 0
    assert (suspected(given, wider) == suspected(given, chances)).mean() > 0.98


def test_scores_are_log_odds():
    scores = error_scores([0, 1], [[0.2, 0.5, 0.3], [0.1, 0.8, 0.1]])
    assert scores == pytest.approx([np.log(2.5), np.log(1 / 8)])


@pytest.mark.parametrize(
    ("name", "flagged", "validated", "reviewed"),
    [("20news", 95, 82, 93), ("imdb", 1309, 725, 1310)],
)
def test_human_validated_errors(shared, name, flagged, validated, reviewed):
    folder = shared / "data" / "label_errors"
    given = np.load(folder / f"original_test_labels/{name}_test_set_original_labels.npy")
    chances = np.load(folder / f"cross_validated_predicted_probabilities/{name}_test_set_pyx.npy")
    answers = json.loads((folder / f"mturk/{name}_mturk.json").read_text())
    named = set(np.flatnonzero(suspected(given, chances)).tolist())
    assert len(named) == pytest.approx(flagged, abs=2)
    assert len(answers) == reviewed
    wrong = {row["id"] for row in answers if row["mturk"]["given"] < 3}
    assert len(wrong) == validated
    if name == "20news":  # the reviews of the other one are keyed by file name
        seen = {row["id"] for row in answers} & named
        assert len(seen & wrong) / len(seen) > 0.8


def test_the_fast_solver_agrees_with_scikit_learn():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(300, 12)).astype(np.float32)
    labels = np.arange(300) % 3
    features[np.arange(300), labels] += 1.0
    targets = np.eye(3, dtype=np.float32)[labels]
    ours = fit_fast(features, targets, 2.0, 200)
    theirs = LogisticRegression(C=0.5, fit_intercept=False, tol=1e-8, max_iter=500)
    theirs.fit(features, labels)
    assert pytest.approx(theirs.coef_, abs=2e-3) == ours.weights.T
    chances = chances_of(features @ ours.weights + ours.offsets, False)
    assert chances == pytest.approx(theirs.predict_proba(features), abs=2e-3)


def test_the_fast_solver_of_columns_by_themselves_agrees_with_scikit_learn():
    generator = np.random.default_rng(1)
    features = generator.normal(size=(400, 6)).astype(np.float32)
    applies = np.arange(400) % 2 == 0  # half of the rows: the offset is 0
    features[applies, 0] += 1.0
    ours = fit_fast(features, applies[:, None].astype(np.float32), 1.0, 200, several=True)
    theirs = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-8, max_iter=500)
    theirs.fit(features, applies)
    assert ours.weights[:, 0] == pytest.approx(theirs.coef_[0], abs=2e-3)


TEXTS = [
    "How do I locate my card?",
    "I still have not received my new card, I ordered over a week ago.",
    "naïve CAFÉ — 東京 please",
    "What can I do if my card still hasn't arrived after 2 weeks?",
    "x",
]


def test_hashed_features_have_the_cosines_of_scikit_learns():
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\w+", sublinear_tf=True)
    chars = TfidfVectorizer(analyzer="char", ngram_range=(3, 5), sublinear_tf=True, lowercase=False)
    texts = [f"{text} {number}" for number, text in enumerate(TEXTS[:2] + TEXTS[3:])]
    padded = [f" {' '.join(text.lower().split())} " for text in texts]
    one, two = words.fit_transform(texts), chars.fit_transform(padded)
    expected = ((one @ one.T) + (two @ two.T)).toarray() / 2
    ours = tfidf(texts)
    assert (ours @ ours.T).toarray() == pytest.approx(expected, abs=1e-5)


def test_hashed_features_are_row_by_row_the_same_and_know_nothing_of_nothing():
    counts = count_ngrams([*TEXTS, ""])
    whole = fit_tfidf(counts).transform(counts)
    for number, text in enumerate(TEXTS):
        alone = fit_tfidf(counts).transform(count_ngrams([text]))
        assert abs(alone - whole[number]).max() < 1e-6
    assert whole[len(TEXTS)].nnz == 0
    assert count_ngrams([]).words.shape[0] == 0
    lengths = np.asarray(whole.multiply(whole).sum(axis=1)).ravel()[: len(TEXTS)]
    assert lengths == pytest.approx(np.ones(len(TEXTS)), abs=1e-5)


def test_all_rows_as_landmarks_keep_every_product():
    features = tfidf([f"order {i} is late by {i % 7} days" for i in range(40)])
    landmarks = choose_landmarks(features, 40, 0)
    found = landmarks.coordinates(landmarks.reduce(features))
    assert found @ found.T == pytest.approx((features @ features.T).toarray(), abs=0.02)
    dense = np.random.default_rng(0).normal(size=(found.shape[1], 3)).astype(np.float32)
    direct = landmarks.reduce(features) @ landmarks.weights(dense)
    assert direct == pytest.approx(found @ dense, abs=1e-3)


def test_a_cluster_lies_in_one_fold_and_the_order_of_rows_is_nothing():
    labels = ["a", "b", "c"] * 40
    clusters = [f"c{i // 2}" for i in range(120)]
    folds = folds_of(labels, clusters, 5)
    assert all(len({int(folds[i]) for i in (2 * j, 2 * j + 1)}) == 1 for j in range(60))
    order = np.random.default_rng(0).permutation(120)
    again = folds_of([labels[i] for i in order], [clusters[i] for i in order], 5)
    assert (again == folds[order]).all()
    single = folds_of(labels, [str(i) for i in range(120)], 5)
    assert {sum((single == f) & (np.array(labels) == "a")) for f in range(5)} == {8}


def test_a_classifier_does_not_see_its_own_fold():
    # Texts say nothing: what is known of a row's label could come from that row only.
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(list("abcdefghijkl"), 6)) for _ in range(400)]
    labels = generator.integers(0, 2, 400)
    targets = np.eye(2, dtype=np.float32)[labels]
    folds = folds_of(labels.astype(str).tolist(), [str(i) for i in range(400)], 5)
    chances = out_of_fold(texts, targets, folds)
    assert roc_auc_score(labels, chances[:, 1]) == pytest.approx(0.5, abs=0.09)


def rows_of(texts, labels, sets=None):
    examples = []
    for number, text in enumerate(texts):
        chosen = None if sets is None else tuple(sorted(sets[number]))
        target = labels[number] if sets is None else json.dumps(list(chosen))
        examples.append(
            Example(f"{number:016x}", "d.csv", number + 1, number + 2, text, target=target,
                    labels=chosen)
        )  # fmt: skip
    return examples, [input_key(example) for example in examples]


def banking(shared):
    with (shared / "data" / "banking77" / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["category"] for row in rows]


def test_the_marks_on_flipped_labels_of_banking77(shared):
    texts, labels = banking(shared)
    flipped = flip_uniformly(labels, 0.05, 1)
    wrong = np.isin(np.arange(len(labels)), list(flipped.original))
    names = sorted(set(flipped.labels))
    given = np.array([names.index(label) for label in flipped.labels])
    folds = folds_of(flipped.labels, [text.lower() for text in texts], 5)
    chances = out_of_fold(texts, np.eye(len(names), dtype=np.float32)[given], folds)
    scores = error_scores(given, chances)
    assert roc_auc_score(wrong, scores) >= 0.99
    precision, recall, _ = precision_recall_curve(wrong, scores)
    assert recall[precision >= 0.9].max() >= 0.8
    assert average_precision_score(wrong, scores) >= 0.9
    # The findings themselves keep the mark, not only the ranking.
    named = suspected(given, chances, "either") & (scores >= np.log(MIN_ODDS))
    assert named[wrong].mean() >= 0.8
    assert wrong[named].mean() >= 0.9


TOPICS = {
    "refund": "I want my money back for the order",
    "delivery": "when will the parcel arrive at my house",
    "login": "the password reset link does not work",
}


def topical(number, seed):
    generator = np.random.default_rng(seed)
    labels = [str(generator.choice(list(TOPICS))) for _ in range(number)]
    texts = [
        " ".join([*generator.permutation(TOPICS[label].split())[:6], f"case {i}"])
        for i, label in enumerate(labels)
    ]
    return texts, labels


def test_findings_name_the_given_and_the_better_label():
    texts, labels = topical(300, 0)
    truth = labels[7]
    labels[7] = next(name for name in TOPICS if name != truth)
    examples, keys = rows_of(texts, labels)
    found = find(examples, keys)
    assert [finding.row_id for finding in found] == [examples[7].row_id]
    assert found[0].kind == "label_error_suspected"
    assert found[0].severity == "warning"
    assert repr(labels[7]) in found[0].evidence
    assert repr(truth) in found[0].evidence
    assert find(*rows_of(*topical(300, 0))) == []


def test_labels_that_mean_nothing_are_not_all_called_wrong():
    texts, labels = topical(300, 1)
    shuffled = np.random.default_rng(0).permutation(labels).tolist()
    assert len(find(*rows_of(texts, shuffled))) <= MAX_SHARE * 300


def test_few_rows_and_rare_labels_are_left_alone():
    texts, labels = topical(40, 0)
    assert find(*rows_of(texts, labels)) == []
    texts, labels = topical(300, 0)
    labels[:3] = ["seldom"] * 3
    assert not any("seldom" in finding.evidence for finding in find(*rows_of(texts, labels)))


def test_each_label_of_several_is_judged_by_itself():
    texts, labels = topical(1500, 2)
    other, others = topical(1500, 3)
    texts = [f"{a} {b}" for a, b in zip(texts, other, strict=True)]
    sets = [{a, b} for a, b in zip(labels, others, strict=True)]
    missing = sorted(sets[11])[0]
    sets[11] = sets[11] - {missing}
    added = next((i, name) for i in range(20, 1500) for name in TOPICS if name not in sets[i])
    sets[added[0]] = sets[added[0]] | {added[1]}
    examples, keys = rows_of(texts, labels, sets)
    found = {(finding.row_id, finding.evidence.split(":")[0]) for finding in find(examples, keys)}
    assert (examples[11].row_id, f"label {missing!r} is missing") in found
    expected = f"label {added[1]!r} is given but does not fit"
    assert (examples[added[0]].row_id, expected) in found
    assert len(found) <= 5


def test_a_models_own_features_can_be_used():
    generator = np.random.default_rng(0)
    labels = [str(i % 3) for i in range(150)]
    features = generator.normal(0, 0.2, (150, 8))
    features[np.arange(150), np.arange(150) % 3] += 2.0
    labels[4] = "2"
    examples, keys = rows_of([f"text {i}" for i in range(150)], labels)
    assert [finding.row_id for finding in find(examples, keys, features=features)] == [
        examples[4].row_id
    ]
