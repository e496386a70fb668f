"""One metric on one set of predictions: the value, its interval, what is refused."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

import fettle
from fettle.errors import DataError, UsageError
from fettle.evaluate.measure import measure, measure_file
from fettle.records.outcomes import Prediction
from fettle.statistics.clustered import wider_interval


def rows(right: int, n: int, **values: Any) -> list[Prediction]:
    return [Prediction(str(i), "a" if i < right else "b", "a", **values) for i in range(n)]


def test_a_share_has_wilsons_interval() -> None:
    found = measure(rows(33, 50), "accuracy")
    expected = binomtest(33, 50).proportion_ci(0.95, "wilson")
    assert (found.value, found.n, found.clusters) == (0.66, 50, None)
    assert (found.ci_low, found.ci_high) == pytest.approx((expected.low, expected.high))
    assert found.interval == "Wilson"
    assert repr(found) == "accuracy 66.0 % (95 % CI 52.2 to 77.6, n = 50)"
    one = measure(rows(1, 1), "accuracy")
    assert one.ci_low is not None
    assert 0.2 < one.ci_low < 0.21


def test_groups_widen_it() -> None:
    grouped = [
        Prediction(str(i), "a" if i // 10 % 3 else "b", "a", group=f"g{i // 10}")
        for i in range(100)
    ]
    plain = [Prediction(row.row_id, row.prediction, row.reference) for row in grouped]
    wide, narrow = measure(grouped, "accuracy"), measure(plain, "accuracy")
    assert None not in (wide.ci_low, wide.ci_high, narrow.ci_low, narrow.ci_high)
    assert wide.ci_high - wide.ci_low > 1.8 * (narrow.ci_high - narrow.ci_low)  # type: ignore[operator]
    assert (wide.clusters, wide.interval) == (10, "wider of cluster t and Wilson")
    assert "10 groups" in repr(wide)
    alike = [Prediction(str(i), "a", "a", group=f"g{i // 10}") for i in range(40)]
    expected = binomtest(4, 4).proportion_ci(0.95, "wilson")
    assert measure(alike, "accuracy").ci_low == pytest.approx(expected.low)
    (alone,) = {row.group for row in alike[:10]}
    assert alone == "g0"
    assert measure(alike[:10], "accuracy").ci_low is None


def test_means_ratios_and_metrics_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    losses = [
        Prediction(str(i), None, "", loss_sum=float(s), num_targets=int(c))
        for i, (s, c) in enumerate(zip(rng.gamma(2, 5, 200), rng.integers(1, 9, 200), strict=True))
    ]
    found = measure(losses, "loss", alpha=0.1)
    sums = np.array([[row.loss_sum or 0.0, float(row.num_targets or 0)] for row in losses])
    expected = wider_interval(sums[:, 0], sums[:, 1], confidence=0.9)
    assert found.value == pytest.approx(sums[:, 0].sum() / sums[:, 1].sum())
    assert (found.ci_low, found.ci_high) == pytest.approx((expected.low, expected.high))
    assert not found.higher_is_better
    f1 = measure(rows(33, 50), "macro_f1")
    assert f1.interval == "bootstrap"
    assert f1.ci_low is not None
    assert f1.ci_high is not None
    assert 0.0 <= f1.ci_low < f1.value < f1.ci_high <= 1.0


def test_what_the_rows_do_not_bring() -> None:
    for bad, metric in (
        (rows(1, 3), "loss"),
        ([*rows(1, 3), Prediction("9", None, "a")], "accuracy"),
        ([Prediction("1", None, "", loss_sum=1e9, num_targets=1)], "perplexity"),
        ([Prediction("1", "x", "", score=math.nan)], "score"),
    ):
        with pytest.raises(DataError) as caught:
            measure(bad, metric)
        assert caught.value.code == "E1009"
    for metric, alpha, code in (("accuracy", 0.7, "E1005"), ("frobnication", 0.05, "E1001")):
        with pytest.raises(UsageError) as refused:
            measure(rows(1, 3), metric, alpha)
        assert refused.value.code == code


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(row.to_json()) + "\n" for row in rows(33, 50)))
    found = fettle.evaluate(path)
    assert found == measure_file(path) == measure(rows(33, 50), "exact_match")
    record = found.to_json()
    assert record["schema"] == 1
    assert (record["metric"], record["value"], record["n"]) == ("exact_match", 0.66, 50)
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert fettle.evaluate(path, metric="macro_f1", alpha=0.1).confidence == 0.9
    with pytest.raises(DataError) as caught:
        fettle.evaluate(tmp_path / "none.jsonl")
    assert caught.value.code == "E1003"
    with pytest.raises(UsageError) as refused:
        fettle.evaluate(tmp_path, alpha=0.1)
    assert refused.value.code == "E0117"
