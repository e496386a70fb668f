"""Abstaining: the threshold comes from validation, the figures from the holdout."""

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fettle.data.features.features import fit_linear
from fettle.evaluate.abstain import (
    abstain,
    area_under_risk,
    coverage_curve,
    lowest_threshold,
)
from fettle.records.outcomes import Prediction, confidence_of


def rows(sure, right):
    return [
        Prediction(str(i), "a", "a" if ok else "b", confidence=float(chance))
        for i, (chance, ok) in enumerate(zip(sure, right, strict=True))
    ]


def test_the_lowest_threshold_that_reaches_the_target():
    sure = np.array([0.9, 0.8, 0.8, 0.7, 0.6])
    right = np.array([True, True, False, True, False])
    assert lowest_threshold(sure, right, 0.75) == 0.7
    assert lowest_threshold(sure, right, 0.6) == 0.6
    assert lowest_threshold(sure, right, 0.9) == 0.9
    assert lowest_threshold(sure, ~right, 0.9) is None
    assert lowest_threshold(sure, right, 0.7) == 0.7, "equal confidences are answered together"


def test_figures_by_hand():
    validation = rows([0.9, 0.8, 0.7, 0.2], [True, True, True, False])
    holdout = [*rows([0.95, 0.75, 0.6, 0.5], [True, False, True, False]), Prediction("x", "a", "a")]
    found = abstain(validation, holdout, target_accuracy=1.0)
    assert found.threshold == 0.7
    assert (found.rows, found.without_confidence, found.answered) == (4, 1, 2)
    assert (found.coverage, found.accuracy, found.accuracy_of_all) == (0.5, 0.5, 0.5)
    assert 0.0 < found.ci_low < 0.5 < found.ci_high < 1.0
    assert found.area == pytest.approx(np.mean([0, 1 / 2, 1 / 3, 2 / 4]))
    assert found.curve[-1].coverage == 1.0
    assert found.out_of_scope is None
    json.dumps(found.to_json(), allow_nan=False)


def test_the_holdout_has_no_part_in_the_threshold():
    generator = np.random.default_rng(0)
    validation = rows(generator.random(50), generator.random(50) < 0.7)
    thresholds = {
        abstain(validation, rows(generator.random(40), generator.random(40) < p)).threshold
        for p in (0.1, 0.5, 0.9)
    }
    assert len(thresholds) == 1


def test_an_unreachable_target_answers_nothing():
    found = abstain(rows([0.9, 0.8], [False, False]), rows([0.9], [True]), target_accuracy=0.9)
    assert (found.threshold, found.answered, found.coverage) == (None, 0, 0.0)
    assert (found.accuracy, found.ci_low) == (None, None)


def test_sides_without_confidences():
    plain = [Prediction("a", "a", "a")]
    broken = rows([float("nan"), 1.5], [True, True])
    fine = rows([0.5], [True])
    assert abstain(plain, fine) is None
    assert abstain(fine, plain) is None
    assert abstain(broken, fine) is None
    assert abstain([], []) is None


def test_area_among_ties_is_the_mean_over_all_orders():
    generator = np.random.default_rng(1)
    sure = np.array([0.9, 0.5, 0.5, 0.5, 0.5, 0.1])
    right = np.array([True, False, True, True, False, False])
    drawn = []
    for _ in range(4_000):
        order = generator.permutation(6)
        order = order[np.argsort(-sure[order], kind="stable")]
        wrong = np.cumsum(~right[order]) / np.arange(1, 7)
        drawn.append(wrong.mean())
    assert area_under_risk(sure, right) == pytest.approx(np.mean(drawn), abs=0.005)
    assert area_under_risk(np.zeros(4), np.ones(4, dtype=bool)) == 0.0


def test_a_long_curve_is_thinned_out():
    sure = np.linspace(0, 1, 1_000)
    curve = coverage_curve(sure, np.ones(1_000, dtype=bool))
    assert len(curve) == 101
    assert (curve[0].coverage, curve[-1].coverage) == (0.001, 1.0)
    assert len(coverage_curve(np.full(50, 0.5), np.ones(50, dtype=bool))) == 1


def test_confidence_of_a_row():
    assert confidence_of(Prediction("r", "a", "a", probabilities={"a": 0.6, "b": 0.4})) == 0.6
    assert confidence_of(Prediction("r", "a", "a", probabilities={"a": 0.6}, confidence=0.1)) == 0.1
    assert confidence_of(Prediction("r", None, "a", probabilities={"a": 0.6})) is None
    assert confidence_of(Prediction("r", "z", "a", probabilities={"a": 0.6})) is None
    several = Prediction("r", '["a"]', '["a"]', probabilities={"a": 0.9, "b": 0.2})
    assert confidence_of(several) == pytest.approx(0.9 * 0.8)
    assert confidence_of(Prediction("r", "[]", "[]", probabilities={"a": 0.9})) == pytest.approx(
        0.1
    )


def test_out_of_scope_rows_of_clinc150(shared):
    """A linear classifier of 30 intents meets questions that belong to none of 150."""
    data = json.loads((shared / "data/clinc150/data_full.json").read_text())
    kept = sorted({label for _, label in data["train"]})[::5]
    sides = {
        name: [(text, label) for text, label in data[name] if label in kept]
        for name in ("train", "val", "test")
    }
    fitted = fit_linear(*zip(*((text, label) for text, label in sides["train"][::4]), strict=True))
    outside = [(text, label) for text, label in data["oos_test"]][:300]

    def predicted(found):
        chances = fitted.predict_proba([text for text, _ in found])
        return [
            Prediction(str(i), fitted.labels[int(p.argmax())], label, confidence=float(p.max()))
            for i, ((_, label), p) in enumerate(zip(found, chances, strict=True))
        ]

    validation = predicted([*sides["val"], *[tuple(row) for row in data["oos_val"]]])
    holdout = predicted([*sides["test"], *outside])
    found = abstain(validation, holdout, target_accuracy=0.95)
    assert found.out_of_scope.rows == 300
    assert found.accuracy > found.accuracy_of_all + 0.1
    assert abs(found.accuracy - 0.95) < 0.04
    assert found.out_of_scope.abstained / 300 > 0.8
    inside = [row.reference != "oos" for row in holdout]
    expected = roc_auc_score(inside, [row.confidence for row in holdout])
    assert found.out_of_scope.auroc == pytest.approx(expected, abs=1e-12)


def test_a_label_of_its_own_for_what_is_out_of_scope():
    """Told apart by the label or by abstaining: either way no wrong answer goes out."""
    holdout = [
        Prediction("a", "oos", "oos", confidence=0.9),
        Prediction("b", "x", "oos", confidence=0.2),
        Prediction("c", "x", "oos", confidence=0.9),
        Prediction("d", "x", "x", confidence=0.9),
    ]
    found = abstain(holdout, holdout, target_accuracy=0.5).out_of_scope
    assert (found.rows, found.abstained) == (3, 1)
    found = abstain(rows([0.9, 0.5], [True, False]), holdout, target_accuracy=1.0).out_of_scope
    assert (found.rows, found.abstained) == (3, 2)
    assert found.auroc == pytest.approx((1 + 1 + 0.5) / 3)
