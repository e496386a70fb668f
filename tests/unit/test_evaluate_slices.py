"""Slices: found by what is known before, corrected for their number, worst first."""

import json

import numpy as np
import pytest

from fettle.evaluate.contrast import contrast
from fettle.evaluate.slices import MIN_ROWS, find_slices, slices
from fettle.metrics import find_metric
from fettle.records.outcomes import Prediction

ACCURACY = find_metric("accuracy")


def rows(right, labels, **more):
    return [
        Prediction(str(i), label if ok else "wrong", label,
                   **{name: values[i] for name, values in more.items()})
        for i, (ok, label) in enumerate(zip(right, labels, strict=True))
    ]  # fmt: skip


def test_a_label_that_got_worse_is_named_first():
    generator = np.random.default_rng(0)
    labels = [f"l{k}" for k in range(5) for _ in range(60)]
    base = generator.random(300) < 0.7
    tuned = np.where(generator.random(300) < 0.9, base, generator.random(300) < 0.7)
    tuned = tuned.copy()
    tuned[:60] = generator.random(60) < 0.2
    base[60:120], tuned[60:120] = generator.random(60) < 0.2, True
    found = slices(ACCURACY, rows(base, labels), rows(tuned, labels))
    first = found[0]
    assert (first.kind, first.value, first.n, first.worse) == ("label", "l0", 60, True)
    assert [item.value for item in found if item.better] == ["l1"]
    assert first.p_adjusted >= first.p_value
    assert first.ci_high < 0
    json.dumps([item.to_json() for item in found])
    own = contrast(ACCURACY, rows(base, labels)[:60], rows(tuned, labels)[:60]).comparison
    assert (first.p_value, first.difference) == (own.p_value, own.difference)


def test_direction_of_a_loss():
    base = [Prediction(str(i), "0", "1" if i < 40 else "2") for i in range(80)]
    tuned = [Prediction(str(i), "9" if i < 40 else "0", r.reference) for i, r in enumerate(base)]
    found = slices(find_metric("mae"), base, tuned)
    assert [(item.kind, item.value) for item in found if item.worse] == [("label", "1")]
    assert found[0].difference == 7.0


def test_no_false_claims_where_nothing_changed():
    """Forty tests a run under the null: at least one claim in at most about 5 % of the runs."""
    runs = 0
    for seed in range(25):
        generator = np.random.default_rng(seed)
        labels = [f"l{k}" for k in generator.integers(0, 10, 400)]
        tags = [{"channel": f"c{k}"} for k in generator.integers(0, 20, 400)]
        arms = [rows(generator.random(400) < 0.7, labels, tags=tags) for _ in range(2)]
        found = slices(ACCURACY, *arms, num_resamples=200)
        assert len(found) > 25
        runs += any(item.worse or item.better for item in found)
    # The 99.9 % quantile of 25 runs at 5 %.
    assert runs <= 5


def test_what_makes_a_slice():
    labels = ["a"] * 30 + ["b"] * 30 + ["c"] * (MIN_ROWS - 1)
    n = len(labels)
    tags = [{"channel": "mail" if i % 2 else "chat", "all": "same"} for i in range(n)]
    one = rows([True] * n, labels, tags=tags, group=[f"g{min(i // 20, 2)}" for i in range(n)],
               input=["word " * (i + 1) for i in range(n)])  # fmt: skip
    found = find_slices(one, {"domain": ["x"] * 35 + [None] * (n - 35)})
    kinds = {kind for kind, _ in found}
    assert kinds == {"label", "length", "group", "tag channel", "domain"}
    assert {value for kind, value in found if kind == "label"} == {"a", "b"}
    assert len(found["domain", "x"]) == 35
    lengths = [value for kind, value in found if kind == "length"]
    assert len(lengths) == 4
    assert found["group", "g0"] == list(range(20))
    assert sum(len(found["length", value]) for value in lengths) == n


def test_texts_are_no_labels_and_ties_of_length_stay_together():
    one = [Prediction(str(i), "x", f"answer number {i}") for i in range(50)]
    assert find_slices(one) == {}
    sets = [Prediction(str(i), "[]", '["a", "b"]' if i % 2 else '["a"]') for i in range(50)]
    assert [value for kind, value in find_slices(sets) if kind == "label"] == ["b"]
    assert find_slices([]) == {}
    assert slices(ACCURACY, [], []) == []


def test_rows_of_one_group_are_units_there():
    base = rows([True] * 40, ["a"] * 20 + ["b"] * 20, group=["g"] * 20 + ["h"] * 20)
    tuned = rows([False] * 20 + [True] * 20, ["a"] * 20 + ["b"] * 20,
                 group=["g"] * 20 + ["h"] * 20)  # fmt: skip
    found = {(item.kind, item.value): item for item in slices(ACCURACY, base, tuned)}
    assert found["group", "g"].worse
    assert found["group", "g"].clusters is None
    assert found["label", "a"].clusters == 1
    assert not found["label", "a"].worse, "one group says nothing of others"


def test_what_a_slice_has_no_value_of_is_left_out():
    base = [
        Prediction(str(i), "a", "ab"[i % 2], probabilities={"a": i / 50, "b": 1 - i / 50})
        for i in range(50)
    ]
    found = slices(find_metric("auroc"), base, base)
    assert "label" not in {item.kind for item in found}
    lossy = [Prediction(str(i), "x", "a" if i < 25 else "b",
                        score=float("nan") if i == 3 else 1.0) for i in range(50)]  # fmt: skip
    assert {item.value for item in slices(find_metric("score"), lossy, lossy)} == {"b"}
    with pytest.raises(ValueError, match="same rows"):
        slices(ACCURACY, base, base[::-1])
