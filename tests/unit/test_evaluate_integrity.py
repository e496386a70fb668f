"""Faults of rows and values: each short way against a plain one, and the sentences."""

import math
import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from fettle.evaluate.integrity import row_fault, value_fault
from fettle.metrics import find_metric
from fettle.metrics.metric import references_of
from fettle.records.outcomes import Prediction

ARMS = ("A", "B")
METRICS = ("exact_match", "accuracy", "score", "loss", "mae", "normalized_match", "brier")


def plain_row_fault_kind(base, tuned):
    """Which fault two arms have first, and in how many rows, from their definitions alone."""
    for name, rows in zip(ARMS, (base, tuned), strict=True):
        twice = [i for i, count in Counter(row.row_id for row in rows).items() if count > 1]
        if twice:
            return f"{name} has", len(twice)
    if not base and not tuned:
        return "there are no rows", 0
    by_id = {row.row_id: row for row in tuned}
    both = [(row, by_id[row.row_id]) for row in base if row.row_id in by_id]
    if len(both) < max(len(base), len(tuned)):
        return f"the rows differ: {len(both)} in both", 0
    for what in ("reference", "group"):
        look = references_of if what == "reference" else (lambda row: row.group)
        other = sum(look(a) != look(b) for a, b in both)
        if other:
            return f"the {what} differs", other
    return None


def random_arm(rng):
    """Few rows of few values, so that each fault turns up, and none at times."""
    ids = rng.sample("abcd", rng.choice([0, 3, 4, 4, 4, 4]))
    if ids and rng.random() < 0.1:
        ids.append(ids[0])
    references = ["x", ("x",)] + ([("x", "y")] if rng.random() < 0.2 else [])
    groups = ["g", "h"] if rng.random() < 0.2 else ["g"]
    return [Prediction(i, "x", rng.choice(references), group=rng.choice(groups)) for i in ids]


def test_row_faults_are_those_of_the_definition():
    rng = random.Random(0)
    kinds = Counter()
    for _ in range(3000):
        base, tuned = random_arm(rng), random_arm(rng)
        found, wanted = row_fault(base, tuned, ARMS), plain_row_fault_kind(base, tuned)
        kinds[None if wanted is None else wanted[0].split(":")[0]] += 1
        if wanted is None:
            assert found is None
            continue
        start, count = wanted
        assert found.startswith(start)
        shown = "1 row " if count == 1 else f"{count} rows "
        assert not count or shown in found
    assert min(kinds.values()) > 20, kinds
    assert len(kinds) == 7, kinds


def test_one_reference_may_be_a_text_or_a_list_of_one():
    rows = [Prediction("a", "x", "x"), Prediction("b", "x", "y")]
    listed = [replace(row, reference=(row.reference,)) for row in rows]
    assert row_fault(rows, listed[::-1], ARMS) is None
    other = [listed[0], replace(listed[1], reference=("z",))]
    assert "reference differs between the arms in 1 row (b)" in row_fault(rows, other, ARMS)


def random_row(rng, number):
    """A row that may lack anything, or bring numbers that are none."""
    value = [None, 0.5, 1.0, math.nan, math.inf, -1.0]
    return Prediction(
        f"r{number}",
        rng.choice([None, "x", "1.5", "nan", "inf"]),
        rng.choice(["x", "2"]),
        score=rng.choice(value),
        loss_sum=rng.choice(value),
        num_targets=rng.choice([None, 0, 3]),
        probabilities=rng.choice([None, {"x": 0.5, "2": 0.5}, {"x": math.nan, "2": 0.1}]),
    )


@pytest.mark.parametrize("name", METRICS)
def test_the_short_ways_find_the_rows_that_each_row_says(name):
    metric = find_metric(name)
    rng = random.Random(name)
    rows = [random_row(rng, number) for number in range(300)]
    uncovered = [row.row_id for row in rows if not metric.covers(row)]
    assert [row.row_id for row in metric.uncovered(rows)] == uncovered
    assert 0 < len(uncovered) < len(rows)
    covered = [row for row in rows if metric.covers(row)]
    broken = [row.row_id for row in covered if not metric.is_finite(row)]
    assert [row.row_id for row in metric.broken(covered)] == broken
    fault = value_fault(metric, rows, rows, ARMS)
    assert f"in {len(uncovered)} rows ({', '.join(uncovered[:3])}, …)" in fault
    if broken:
        fault = value_fault(metric, covered, covered, ARMS)
        assert f"not a finite number in {len(broken)} rows ({', '.join(broken[:3])}, …)" in fault


def test_what_a_metric_needs_besides_is_asked_for():
    rows = [Prediction("a", "x", "x", score=1.0)]
    for needs in ("score", "prediction"):
        metric = replace(find_metric("score"), needs=needs, also=("input",))
        assert metric.uncovered(rows) == rows
        metric = replace(find_metric("score"), needs=needs, fault=lambda row: "no sense")
        assert metric.uncovered(rows) == rows
    # A value that a graded metric finds may be none, though its row brings only text.
    graded = replace(
        find_metric("exact_match"), fault=lambda row: None, per_row=lambda row: math.nan
    )
    assert graded.broken(rows) == rows


@pytest.mark.parametrize("name", ["exact_match", "score", "loss"])
def test_sums_are_the_values_row_by_row(name):
    metric = find_metric(name)
    rows = [
        Prediction(f"r{i}", "xyz"[i % 3], "x", score=i / 7, loss_sum=i / 3, num_targets=1 + i % 4)
        for i in range(20)
    ]
    first, none = metric.sums([rows, []])
    assert (first.shape, first.dtype, none.shape) == ((20, 2), np.float64, (0, 2))
    if metric.kind == "row":
        assert first.tolist() == [[metric.per_row(row), 1.0] for row in rows]
    else:
        assert first.tolist() == [[row.loss_sum, row.num_targets] for row in rows]
