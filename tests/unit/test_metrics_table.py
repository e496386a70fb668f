"""Known right and known wrong answers for every grader, and the names that are refused."""

import math

import numpy as np
import pytest

from fettle.errors import DataError, UsageError
from fettle.metrics import FAMILIES, METRICS, find_metric
from fettle.records.outcomes import Prediction


def row(prediction, reference, **more):
    return Prediction("r1", prediction, reference, **more)


def value(name, rows):
    metric = find_metric(name)
    (sums,) = metric.sums([rows])
    return float(metric.score(sums.sum(axis=0)))


RIGHT_AND_WRONG = [
    ("accuracy", row("cat", "cat"), row("Cat", "cat"), 1.0, 0.0),
    ("accuracy", row("b", ("a", "b")), row("ab", ("a", "b")), 1.0, 0.0),
    ("exact_match", row(" Yes.\n", "Yes."), row("yes.", "Yes."), 1.0, 0.0),
    ("exact_match", row("two", ("one", " two")), row("one two", ("one", "two")), 1.0, 0.0),
    ("chrf", row("the cat", "the cat"), row("xyz", "the cat"), 100.0, 0.0),
    ("bleu", row("a b c d e", "a b c d e"), row("x y", "a b c d e"), 100.0, 0.0),
    ("rouge_l", row("The cat sat!", "the cat sat"), row("dog", "the cat sat"), 1.0, 0.0),
    ("rouge_l", row("a b c", "a x b y c"), row("c b a", "a b c"), 0.75, 1 / 3),
    ("mae", row("2.5", "2.5"), row("-1", "2.5"), 0.0, 3.5),
    ("subset_accuracy", row('["b", "a"]', '["a", "b"]'), row('["a"]', '["a", "b"]'), 1.0, 0.0),
    ("subset_accuracy", row("[]", "[]"), row('["a"]', "[]"), 1.0, 0.0),
    ("score", row(None, "", score=0.7), row(None, "", score=-2.0), 0.7, -2.0),
]


@pytest.mark.parametrize(("name", "right", "wrong", "high", "low"), RIGHT_AND_WRONG)
def test_known_answers(name, right, wrong, high, low):
    metric = find_metric(name)
    assert metric.per_row(right) == pytest.approx(high, abs=1e-9)
    assert metric.per_row(wrong) == pytest.approx(low, abs=1e-9)


def test_loss_weighs_rows_by_their_tokens():
    rows = [
        row(None, "", loss_sum=10.0, num_targets=10),
        row(None, "", loss_sum=90.0, num_targets=30),
    ]
    assert [find_metric("loss").per_row(one) for one in rows] == [1.0, 3.0]
    assert value("loss", rows) == 2.5
    assert value("perplexity", rows) == pytest.approx(math.exp(2.5))
    assert find_metric("perplexity").per_row(rows[0]) == pytest.approx(math.e)


def test_macro_figures_by_hand():
    """a: 1 of 2 found, 1 of 1 right; b: 1 of 1 found, 1 of 2 right; c: predicted by none."""
    rows = [row("a", "a"), row("b", "a"), row("b", "b")]
    assert value("macro_f1", rows) == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert value("macro_recall", rows) == pytest.approx((0.5 + 1.0) / 2)
    wrong = [row("a", "b"), row("b", "a")]
    assert value("macro_f1", wrong) == value("macro_recall", wrong) == 0.0


def test_classes_absent_from_a_resample_do_not_count():
    metric = find_metric("macro_f1")
    rows = [row("a", "a"), row("b", "b")]
    (sums,) = metric.sums([rows])
    assert float(metric.score(sums[0])) == 1.0
    assert float(metric.score(sums[0] * 5)) == 1.0


def test_arms_share_their_columns():
    """A label that only one arm predicts is a class for both, in the same place."""
    metric = find_metric("macro_f1")
    base, tuned = metric.sums([[row("a", "a")], [row("z", "a")]])
    assert base.shape == tuned.shape == (1, 6)
    assert float(metric.score(base.sum(axis=0))) == 1.0
    assert float(metric.score(tuned.sum(axis=0))) == 0.0


def test_scores_are_vectorised():
    """One call on a stack of sums equals one call for each of them."""
    generator = np.random.default_rng(0)
    texts = ["a b c d e", "the cat sat on the mat", "x", "one two three four"]
    rows = [row(text, texts[(i + 1) % 4] + " a b c d") for i, text in enumerate(texts)]
    for name in ("bleu", "chrf", "accuracy", "macro_f1", "macro_recall", "rouge_l", "micro_f1"):
        metric = METRICS[name]
        (sums,) = metric.sums([rows])
        stack = generator.integers(0, 3, (7, len(rows))).astype(float) @ sums + sums.sum(axis=0)
        assert metric.score(stack) == pytest.approx([float(metric.score(one)) for one in stack])


def test_directions():
    lower = {name for name, metric in METRICS.items() if not metric.higher_is_better}
    assert lower == {
        "loss",
        "perplexity",
        "mae",
        "rmse",
        "log_loss",
        "brier",
        "calibration_error",
        "slot_error_rate",
    }
    assert find_metric("score:higher_is_better=no").higher_is_better is False


def test_signatures_name_settings_and_versions():
    assert METRICS["chrf"].signature().startswith("chrf|sacrebleu 2.")
    assert "nw:2" in find_metric("chrf:word_order=2").signature()
    assert find_metric("bleu:tokenize=none").signature().startswith("bleu:tokenize=none|sacrebleu")
    assert "tok:none" in find_metric("bleu:tokenize=none").signature()
    assert len({metric.signature() for metric in METRICS.values()}) == len(FAMILIES)


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("acuracy", "E1001", "did you mean --metric accuracy?"),
        ("rouge-l", "E1001", "did you mean --metric rouge_l?"),
        ("ChrF", "E1001", "did you mean --metric chrf?"),
        ("qqqq", "E1001", "choose one of"),
        ("bleu:tokenise=none", "E1002", "no parameter 'tokenise'"),
        ("bleu:tokenize=klingon", "E1002", "no tokenizer 'klingon'"),
        ("bleu:tokenize", "E1002", "bleu has no parameter"),
        ("chrf:lowercase=maybe", "E1002", "yes or no"),
        ("chrf:word_order=two", "E1002", "whole number"),
        ("accuracy:x=1", "E1002", "it takes no parameters"),
    ],
)
def test_names_that_are_refused(name, code, said):
    with pytest.raises(UsageError) as caught:
        find_metric(name)
    assert caught.value.code == code
    assert said in str(caught.value)


def test_micro_f1_counts_all_labels_together():
    """Hits 2; said 3; true 4."""
    rows = [row('["a", "b"]', '["a"]'), row("[]", '["b", "c"]'), row('["c"]', '["c"]')]
    assert value("micro_f1", rows) == pytest.approx(2 * 2 / (3 + 4))
    assert value("micro_f1", [row("[]", "[]")]) == 1.0
    assert value("macro_f1", rows) == pytest.approx((1.0 + 0.0 + 2 / 3) / 3)


def test_numbers_that_are_none():
    assert not METRICS["mae"].is_finite(row("nan", "1"))
    assert not METRICS["mae"].is_finite(row("abc", "1"))
    assert METRICS["mae"].is_finite(row("-1e3", "1"))
    with pytest.raises(DataError) as caught:
        value("rmse", [row("1", "one")])
    assert caught.value.code == "E1008"
    with pytest.raises(DataError) as caught:
        value("mae", [row("1", ("1", "2"))])
    assert caught.value.code == "E1006"


def test_a_correlation_without_variation_is_zero():
    rows = [row("3", str(number)) for number in range(5)]
    assert value("pearson", rows) == value("spearman", rows) == 0.0


def test_class_metrics_need_one_reference():
    with pytest.raises(DataError) as caught:
        value("macro_f1", [row("a", ("a", "b"))])
    assert caught.value.code == "E1006"
    assert "r1" in str(caught.value)


def test_what_a_row_must_bring():
    assert not METRICS["accuracy"].covers(row(None, "a"))
    assert METRICS["accuracy"].covers(row("", "a"))
    assert not METRICS["loss"].covers(row("x", "a", loss_sum=1.0))
    assert METRICS["loss"].covers(row(None, "a", loss_sum=1.0, num_targets=2))
    assert not METRICS["loss"].is_finite(row(None, "a", loss_sum=math.nan, num_targets=2))
    assert not METRICS["score"].is_finite(row(None, "a", score=math.inf))
    assert not METRICS["score"].covers(row("x", "a"))
