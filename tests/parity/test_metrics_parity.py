"""Our metrics against scikit-learn, sacrebleu and rouge-score."""

import warnings

import numpy as np
import pytest
from rouge_score import rouge_scorer
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.significance import PairedTest
from scipy import stats
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    mean_absolute_error,
    precision_recall_fscore_support,
    root_mean_squared_error,
)

from fettle.evaluate.contrast import contrast
from fettle.metrics import find_metric
from fettle.metrics.labels import confusion, per_class, per_label
from fettle.records.outcomes import Prediction, labels_as_text

SENTENCE = (
    "the a cat dog sat ran on under mat house, quickly slowly. New York's 3.5 % über naïve 猫"
)
WORDS = SENTENCE.split()


def label_rows(seed, n=200, num_classes=6):
    generator = np.random.default_rng(seed)
    reference = generator.choice(num_classes, n, p=np.arange(1, num_classes + 1) / 21)
    predicted = np.where(generator.random(n) < 0.6, reference, generator.integers(0, 8, n))
    return [
        Prediction(str(i), f"label {p}", f"label {r}")
        for i, (p, r) in enumerate(zip(predicted, reference, strict=True))
    ]


def value(name, rows):
    metric = find_metric(name)
    (sums,) = metric.sums([rows])
    return float(metric.score(sums.sum(axis=0)))


@pytest.mark.parametrize("seed", range(4))
def test_label_metrics_equal_sklearn(seed):
    rows = label_rows(seed)
    reference = [row.reference for row in rows]
    predicted = [row.prediction for row in rows]
    assert value("accuracy", rows) == pytest.approx(accuracy_score(reference, predicted), abs=1e-12)
    expected = f1_score(reference, predicted, average="macro")
    assert value("macro_f1", rows) == pytest.approx(expected, abs=1e-12)
    with warnings.catch_warnings():
        # Labels 6 and 7 are predicted but never right.
        warnings.simplefilter("ignore", UserWarning)
        expected = balanced_accuracy_score(reference, predicted)
    assert value("macro_recall", rows) == pytest.approx(expected, abs=1e-12)


def test_tables_equal_sklearn():
    rows = label_rows(9)
    reference = [row.reference for row in rows]
    predicted = [row.prediction for row in rows]
    labels = sorted({*reference, *predicted})
    counts = confusion(rows, labels)
    assert np.array_equal(counts, confusion_matrix(reference, predicted, labels=labels))
    expected = precision_recall_fscore_support(
        reference, predicted, labels=labels, zero_division=0.0
    )
    found = per_class(counts)
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert found[name] == pytest.approx(values, abs=1e-12)


def text_rows(seed, n=40, num_references=1):
    generator = np.random.default_rng(seed)

    def sentence(low, high):
        return " ".join(generator.choice(WORDS, generator.integers(low, high)))

    def answer(reference):
        kept = [word for word in reference.split() if generator.random() < 0.7]
        return " ".join([*kept, sentence(0, 3)]).strip()

    rows = []
    for number in range(n):
        references = tuple(
            sentence(1, 12) for _ in range(generator.integers(1, num_references + 1))
        )
        rows.append(Prediction(str(number), answer(references[0]), references))
    return rows


def streams(rows):
    most = max(len(row.reference) for row in rows)
    return [
        [row.reference[k] if k < len(row.reference) else None for row in rows] for k in range(most)
    ]


@pytest.mark.parametrize("num_references", [1, 3])
@pytest.mark.parametrize(
    ("name", "library"),
    [
        ("chrf", CHRF()),
        ("chrf:word_order=2", CHRF(word_order=2)),
        ("chrf:lowercase=yes", CHRF(lowercase=True)),
        ("bleu", BLEU()),
        ("bleu:tokenize=none,lowercase=yes", BLEU(tokenize="none", lowercase=True)),
        ("bleu:tokenize=char", BLEU(tokenize="char")),
    ],
)
def test_corpus_scores_equal_sacrebleu(name, library, num_references):
    for seed in range(3):
        rows = text_rows(seed, num_references=num_references)
        expected = library.corpus_score([row.prediction for row in rows], streams(rows)).score
        assert value(name, rows) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", ["bleu", "chrf", "chrf:word_order=2"])
def test_small_and_odd_corpora_equal_sacrebleu(name):
    """No matches, too short for 4-grams, empty answers: where smoothing decides."""
    library = {"bleu": BLEU(), "chrf": CHRF(), "chrf:word_order=2": CHRF(word_order=2)}[name]
    for prediction, reference in [
        ("", "a b c d e"),
        ("a b", "a b"),
        ("x y z", "a b c d e"),
        ("a b c d", "a b c d e f g h"),
        ("a c b d e f", "a b c d e f"),
        ("a b c d e f g h", "a b"),
        ("猫", "猫 dog"),
    ]:
        expected = library.corpus_score([prediction], [[reference]]).score
        found = value(name, [Prediction("0", prediction, reference)])
        assert found == pytest.approx(expected, abs=1e-9), (prediction, reference)


def test_row_values_equal_the_libraries():
    chrf, bleu = CHRF(), BLEU(effective_order=True)
    rouge = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    stemmed = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)
    for row in text_rows(5, num_references=2):
        answer, accepted = row.prediction, list(row.reference)
        assert find_metric("chrf").per_row(row) == chrf.sentence_score(answer, accepted).score
        assert find_metric("bleu").per_row(row) == bleu.sentence_score(answer, accepted).score
        best = max(rouge.score(one, answer)["rougeL"].fmeasure for one in accepted)
        assert find_metric("rouge_l").per_row(row) == best
        best = max(stemmed.score(one, answer)["rougeL"].fmeasure for one in accepted)
        assert find_metric("rouge_l:stemmer=yes").per_row(row) == best


@pytest.mark.parametrize(("name", "library"), [("bleu", BLEU()), ("chrf", CHRF())])
def test_randomization_agrees_with_sacrebleu(name, library, monkeypatch):
    """sacrebleu's approximate randomization (not its paired bootstrap, which is too liberal)."""
    monkeypatch.setenv("SACREBLEU_SEED", "1")
    base = text_rows(21, n=80)
    better = np.random.default_rng(3).random(80) < 0.06
    tuned = [
        Prediction(a.row_id, a.reference[0] if good else b.prediction, a.reference)
        for a, b, good in zip(base, resample_answers(base), better, strict=True)
    ]
    found = contrast(find_metric(name), base, tuned, num_resamples=10_000).comparison
    systems = [(arm, [row.prediction for row in rows]) for arm, rows in (("a", base), ("b", tuned))]
    test = PairedTest(systems, {name: library}, streams(base), test_type="ar", n_samples=10_000)
    _, scores = test()
    (reference,) = [value for key, value in scores.items() if key != "System"]
    assert found.base == pytest.approx(reference[0].score, abs=1e-9)
    assert found.tuned == pytest.approx(reference[1].score, abs=1e-9)
    assert found.p_value == pytest.approx(reference[1].p_value, abs=0.02)
    assert 0.01 < found.p_value < 0.9


def resample_answers(rows):
    """Other answers of about the same quality for the same references."""
    generator = np.random.default_rng(8)
    found = []
    for row in rows:
        kept = [word for word in row.reference[0].split() if generator.random() < 0.7]
        found.append(Prediction(row.row_id, " ".join([*kept, "a"]), row.reference))
    return found


def set_rows(seed, n=150, num_labels=5):
    generator = np.random.default_rng(seed)
    labels = [f"l{k}" for k in range(num_labels)]
    truth = generator.random((n, num_labels)) < 0.3
    said = np.where(generator.random((n, num_labels)) < 0.8, truth, ~truth)
    rows = [
        Prediction(str(i), *(labels_as_text(labels[k] for k in np.flatnonzero(x)) for x in pair))
        for i, pair in enumerate(zip(said, truth, strict=True))
    ]
    return rows, said, truth, labels


@pytest.mark.parametrize("seed", range(3))
def test_metrics_of_label_sets_equal_sklearn(seed):
    rows, said, truth, labels = set_rows(seed)
    assert value("micro_f1", rows) == pytest.approx(f1_score(truth, said, average="micro"))
    assert value("macro_f1", rows) == pytest.approx(f1_score(truth, said, average="macro"))
    assert value("subset_accuracy", rows) == pytest.approx(accuracy_score(truth, said))
    found = per_label(rows, labels)
    expected = precision_recall_fscore_support(truth, said, zero_division=0)
    for name, column in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert found[name] == pytest.approx(column)


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_metrics_of_numbers_equal_sklearn_and_scipy(scale):
    generator = np.random.default_rng(4)
    truth = np.round(generator.normal(10.0 * scale, 1.0, 80), 1)
    said = truth + generator.normal(0.0, 0.7, 80).round(1)
    rows = [
        Prediction(str(i), repr(float(s)), repr(float(t)))
        for i, (s, t) in enumerate(zip(said, truth, strict=True))
    ]
    assert value("mae", rows) == pytest.approx(mean_absolute_error(truth, said))
    assert value("rmse", rows) == pytest.approx(root_mean_squared_error(truth, said))
    assert value("pearson", rows) == pytest.approx(stats.pearsonr(said, truth).statistic, abs=1e-9)
    assert value("spearman", rows) == pytest.approx(
        stats.spearmanr(said, truth).statistic, abs=1e-9
    )


@pytest.mark.parametrize("name", ["mae", "rmse", "pearson", "spearman", "micro_f1"])
def test_the_difference_of_two_arms_is_that_of_their_values(name):
    if name == "micro_f1":
        (first, *_), (second, *_) = set_rows(1), set_rows(1)
        second = [Prediction(r.row_id, r.reference, r.reference) for r in second]
    else:
        generator = np.random.default_rng(5)
        truth = generator.normal(0, 1, 60)
        first, second = (
            [
                Prediction(str(i), repr(float(t + e)), repr(float(t)))
                for i, (t, e) in enumerate(zip(truth, noise, strict=True))
            ]
            for noise in (generator.normal(0, 2, 60), generator.normal(0, 0.1, 60))
        )
    found = contrast(find_metric(name), first, second, num_resamples=300).comparison
    assert found.base == pytest.approx(value(name, first), abs=1e-9)
    assert found.tuned == pytest.approx(value(name, second), abs=1e-9)
    assert found.p_value < 0.05
    assert (found.difference > 0) == find_metric(name).higher_is_better
    assert found.ci_low <= found.difference <= found.ci_high
