"""Several labels a row, numbers, and what training rows count."""

import math

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from fettle.data.meaning.targets import TargetError, label_set, number
from fettle.data.weigh import check_class_weights, scale_of, standardised, weighed
from fettle.errors import RecipeError
from fettle.records.outcomes import labels_as_text, labels_from_text
from fettle.records.tokens import Batch, TokenizedExample

LABELS = ("billing", "delivery", "refund")


@pytest.mark.parametrize(
    ("value", "separator", "labels"),
    [
        ("refund, billing,refund", ",", ("billing", "refund")),
        ("", ",", ()),
        (" | ", "|", ()),
        ("a;b", None, ("a;b",)),
        (["refund", "billing"], None, ("billing", "refund")),
        ([], None, ()),
        ([3, 1.0, "x "], ",", ("1", "3", "x")),
        (7, ",", ("7",)),
    ],
)
def test_labels_of_a_value(value, separator, labels):
    assert label_set(value, separator) == labels


@pytest.mark.parametrize("value", [None, [None], [["a"]], [{"a": 1}]])
def test_values_that_hold_no_labels(value):
    with pytest.raises(TargetError):
        label_set(value, None)


@pytest.mark.parametrize(
    ("value", "found"),
    [("3", 3.0), (" -2.5e1 ", -25.0), (4, 4.0), (0.125, 0.125), ("+.5", 0.5), ("7.", 7.0)],
)
def test_numbers(value, found):
    assert number(value) == found


@pytest.mark.parametrize(
    "value",
    ["", None, "abc", "nan", "inf", "-Infinity", "1,5", "1_000", "1e999", "1e101", True, math.nan,
     math.inf, 10**400, [1], "3 stars"],
)  # fmt: skip
def test_values_that_are_no_numbers(value):
    with pytest.raises(TargetError):
        number(value)


@pytest.mark.parametrize("labels", [(), ("a",), ('he said "no"', "b, c", "ä")])
def test_sets_of_labels_survive_a_prediction_file(labels):
    assert labels_from_text(labels_as_text(labels)) == set(labels)


def test_other_texts_are_one_label():
    for text in ("a", "", "[", "[1]", '["a", 1]', "[not json]", '{"a": 1}'):
        assert labels_from_text(text) == {text}


# --- weights -------------------------------------------------------------------------------------


def rows_of(*labels):
    return [TokenizedExample(str(i), (1, 2), label=label) for i, label in enumerate(labels)]


def sets_of(*sets):
    return [TokenizedExample(str(i), (1, 2), labels=labels) for i, labels in enumerate(sets)]


def test_balanced_weights_are_those_of_sklearn():
    indices = [0] * 12 + [1] * 3 + [2]
    rows = weighed(rows_of(*indices), LABELS, "balanced")
    expected = compute_class_weight("balanced", classes=np.arange(3), y=indices)
    assert [row.weight for row in rows] == pytest.approx([expected[i] for i in indices])
    assert Batch(tuple(rows)).target_weight == pytest.approx(len(rows))
    assert Batch(tuple(rows)).num_targets == len(rows)


def test_a_label_that_no_training_row_has_does_not_count():
    rows = weighed(rows_of(0, 0, 2), LABELS, "balanced")
    assert [row.weight for row in rows] == [0.75, 0.75, 1.5]


def test_weights_from_a_table():
    rows = weighed(rows_of(0, 1, 2), LABELS, {"billing": 2.5, "refund": 0})
    assert [row.weight for row in rows] == [2.5, 1.0, 0.0]
    assert [row.num_targets for row in rows] == [1, 1, 0]
    assert weighed(rows_of(0, 1), LABELS, "none") == rows_of(0, 1)


def test_weights_of_label_sets():
    rows = sets_of((0,), (0, 1), (), (0,))
    balanced = weighed(rows, LABELS, "balanced")
    assert [row.label_weights for row in balanced] == [(1 / 3,), (1 / 3, 3.0), (), (1 / 3,)]
    assert {row.weight for row in balanced} == {1.0}
    table = weighed(rows, LABELS, {"delivery": 4})
    assert [row.label_weights for row in table] == [(1.0,), (1.0, 4.0), (), (1.0,)]
    always = weighed(sets_of((0,), (0, 1)), LABELS, "balanced")
    assert always[1].label_weights == (1.0, 1.0)


@pytest.mark.parametrize(
    ("wanted", "task", "several", "said"),
    [
        ("balanced", "chat", False, "not for chat"),
        ({"refnd": 2.0}, "classify", False, "did you mean 'refund'"),
        ({"refund": 0.0}, "classify", True, "only ever be taught as absent"),
        (dict.fromkeys(LABELS, 0.0), "classify", False, "every label the weight 0"),
    ],
)
def test_class_weights_that_are_refused(wanted, task, several, said):
    with pytest.raises(RecipeError) as caught:
        check_class_weights(wanted, task, LABELS, several)
    assert caught.value.code == "E0365"
    assert said in str(caught.value)


def test_class_weights_that_are_taken():
    check_class_weights("none", "chat", (), False)
    check_class_weights("balanced", "classify", LABELS, True)
    check_class_weights({"refund": 0.0}, "classify", LABELS, False)


# --- numbers -------------------------------------------------------------------------------------


def test_the_scale_is_mean_and_standard_deviation():
    values = [1e6, 1e6 + 3.0, 1e6 - 1.5, 1e6 + 0.25]
    rows = [TokenizedExample(str(i), (1,), value=value) for i, value in enumerate(values)]
    scale = scale_of(rows)
    assert scale.mean == pytest.approx(np.mean(values), rel=1e-15)
    assert scale.spread == pytest.approx(np.std(values), rel=1e-9)
    found = [row.value for row in standardised(rows, scale)]
    assert np.mean(found) == pytest.approx(0.0, abs=1e-9)
    assert np.std(found) == pytest.approx(1.0)
    assert scale_of(rows[:1]).spread == 1.0
    unknown = TokenizedExample("x", (1,))
    assert standardised([unknown], scale) == [unknown]


def test_what_a_row_counts():
    chat = TokenizedExample("a", (1, 2, 3, 4), (1, 0, 0.5, 2.0), weight=0.5)
    assert (chat.num_targets, chat.target_weight) == (2, 1.25)
    assert TokenizedExample("a", (1,), value=0.0).num_targets == 1
    nothing = TokenizedExample("a", (1,), labels=())
    assert (nothing.num_targets, nothing.target_weight) == (1, 1.0)
    off = TokenizedExample("a", (1, 2), (1, 1), weight=0.0)
    assert (off.num_targets, off.target_weight) == (0, 0.0)
