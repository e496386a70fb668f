"""Probabilities at the edges: one class, unknown labels, NaN, certainty; and who may decide."""

import math

import pytest

from fettle.errors import DataError, UsageError
from fettle.evaluate.compare import compare
from fettle.evaluate.measure import measure
from fettle.metrics import METRICS, find_metric
from fettle.metrics.auroc import FEWEST
from fettle.records.outcomes import Prediction


def row(truth, chances, row_id="r1", prediction=None):
    likeliest = prediction if prediction is not None else max(chances, key=chances.get)
    return Prediction(row_id, likeliest, truth, probabilities=chances)


def value(name, rows):
    metric = find_metric(name)
    (sums,) = metric.sums([rows])
    return float(metric.score(sums.sum(axis=0)))


def test_figures_by_hand():
    one = row("a", {"a": 0.8, "b": 0.2})
    assert METRICS["log_loss"].per_row(one) == pytest.approx(-math.log(0.8))
    assert METRICS["brier"].per_row(one) == pytest.approx(0.04)
    assert find_metric("brier:half=no").per_row(one) == pytest.approx(0.08)
    assert METRICS["log_loss"].reason(one) == "'a' had 0.8"


def test_certainty_and_unknown_labels_stay_finite():
    wrong = row("a", {"a": 0.0, "b": 1.0})
    unknown = row("z", {"a": 1.0, "b": 0.0})
    assert METRICS["log_loss"].per_row(wrong) == pytest.approx(52 * math.log(2))
    assert METRICS["log_loss"].per_row(unknown) == pytest.approx(52 * math.log(2))
    assert METRICS["brier"].per_row(wrong) == METRICS["brier"].per_row(unknown) == 1.0
    assert METRICS["log_loss"].reason(unknown) == "'z' had 0"


@pytest.mark.parametrize("broken", [float("nan"), -0.1, 1.1, float("inf")])
def test_numbers_that_are_no_probabilities(broken):
    one = row("a", {"a": broken, "b": 1.0, "c": 0.5}, prediction="a")
    for name in ("auroc", "log_loss", "brier", "calibration_error"):
        assert METRICS[name].covers(one)
        assert not METRICS[name].is_finite(one)
    with pytest.raises(DataError, match="not a finite number"):
        measure([one], "log_loss")


def test_the_likeliest_labels_alone_are_not_enough():
    """``fettle predict`` writes five: a label that is left out has not the probability 0."""
    few = row("z", {"a": 0.5, "b": 0.3})
    for name in ("auroc", "log_loss", "brier"):
        assert METRICS[name].lack(few).startswith("no probability of each label")
    assert METRICS["calibration_error"].covers(few)
    assert METRICS["log_loss"].covers(row("a", {"a": 0.3333, "b": 0.3333, "c": 0.3333}))
    several = Prediction("r", '["a"]', '["a"]', probabilities={"a": 0.5, "b": 0.1})
    assert METRICS["log_loss"].covers(several)


def binary(num_positive, num_rows):
    return [
        row(
            "yes" if i < num_positive else "no", {"yes": 0.5 + i / 1e3, "no": 0.5 - i / 1e3}, str(i)
        )
        for i in range(num_rows)
    ]


@pytest.mark.parametrize("num_positive", [0, 40])
def test_one_class_has_no_area(num_positive):
    rows = binary(num_positive, 40)
    said = METRICS["auroc"].undefined(rows)
    assert said.startswith("auroc needs rows of two classes, every row has ")
    with pytest.raises(DataError) as caught:
        value("auroc", rows)
    assert caught.value.code == "E1009"
    with pytest.raises(DataError, match="every row has"):
        measure(rows, "auroc")


def test_too_few_of_a_class_carry_no_verdict():
    assert METRICS["auroc"].undefined(binary(FEWEST, 60)) is None
    said = METRICS["auroc"].undefined(binary(FEWEST - 1, 60))
    assert said.startswith(f"auroc needs at least {FEWEST} rows on the rarer side")
    assert METRICS["auroc"].undefined([]) == "auroc needs rows of two classes, there are no rows"


def test_a_constant_probability_ranks_nothing():
    rows = [row("ab"[i % 2], {"a": 0.5, "b": 0.5}, str(i)) for i in range(20)]
    assert value("auroc", rows) == 0.5
    found = measure(rows, "auroc")
    assert (found.value, found.ci_low, found.ci_high) == (0.5, 0.5, 0.5)


def test_a_class_that_one_arm_never_names():
    """Labels that a model does not know have probability 0 for it."""
    base = [row("ab"[i % 2], {"a": 1.0}, str(i)) for i in range(20)]
    tuned = [row("ab"[i % 2], {"a": 1.0 - i % 2, "b": 0.0 + i % 2}, str(i)) for i in range(20)]
    sums = METRICS["auroc"].sums([base, tuned])
    assert sums[0].shape == sums[1].shape
    assert [float(METRICS["auroc"].score(s.sum(axis=0))) for s in sums] == [0.5, 1.0]


def test_a_resample_without_one_side_tells_of_the_other():
    metric = METRICS["auroc"]
    rows = binary(10, 30)
    (sums,) = metric.sums([rows])
    assert float(metric.score(sums.sum(axis=0))) == 0.0, "every positive ranks below"
    for side in (sums[:10], sums[10:]):
        assert float(metric.score(side.sum(axis=0))) == pytest.approx(0.0)


def test_calibration_is_shown_and_never_decides():
    sure = [row("a" if i < 9 else "b", {"a": 0.9, "b": 0.1}, str(i)) for i in range(10)]
    assert value("calibration_error", sure) == pytest.approx(0.0)
    too_sure = [row("b", {"a": 0.9, "b": 0.1}, str(i)) for i in range(10)]
    assert value("calibration_error", too_sure) == pytest.approx(0.9)
    assert {name for name, metric in METRICS.items() if metric.descriptive} == {
        "calibration_error",
        "novelty",
    }
    with pytest.raises(UsageError) as caught:
        compare(sure, too_sure, "calibration_error")
    assert caught.value.code == "E1007"
    plain = Prediction("r1", "a", "a", confidence=0.5)
    assert value("calibration_error", [plain]) == 0.5


def test_a_verdict_on_one_class_or_on_nan_is_invalid_and_says_why():
    one_class = compare(binary(0, 30), binary(0, 30), "auroc")
    assert one_class.verdict == "invalid"
    assert "every row has" in one_class.reason
    nan = [row("a", {"a": math.nan, "b": 0.5}, str(i), prediction="a") for i in range(30)]
    broken = compare(nan, nan, "log_loss")
    assert broken.verdict == "invalid"
    assert "not a finite number in 30 rows" in broken.reason
    with pytest.raises(DataError, match="the first has no input"):
        measure(nan, "novelty")


def test_what_is_right_or_wrong():
    assert {name for name, metric in METRICS.items() if metric.binary} == {
        "accuracy",
        "subset_accuracy",
        "exact_match",
        "normalized_match",
        "numeric_answer",
        "contains",
        "regex",
        "valid_json",
        "json_schema",
    }
