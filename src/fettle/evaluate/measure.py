"""One metric on one set of predictions, with its interval: how good, not whether better.

| metric                      | interval                    |
|-----------------------------|-----------------------------|
| 0 or 1, independent rows    | Wilson                      |
| 0 or 1, rows in clusters    | wider of cluster t, Wilson  |
| mean or ratio               | wider of t and bootstrap-t  |
| corpus                      | (cluster) bootstrap         |

In: predictions. Out: a ``Measurement``. Must not know: a second arm, plans, verdicts.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fettle.errors import DataError
from fettle.evaluate.compare import check_settings, default_metric, load_prediction_file
from fettle.evaluate.contrast import group_numbers
from fettle.evaluate.integrity import value_fault
from fettle.evaluate.wording import interval_text, value_text
from fettle.metrics import find_metric
from fettle.metrics.metric import Metric
from fettle.records.outcomes import SCHEMA, Prediction
from fettle.statistics.clustered import cluster_t_interval, wider_interval
from fettle.statistics.resampling import FloatArray, IntArray
from fettle.statistics.single import bootstrap_interval, wilson_interval


@dataclass(frozen=True, slots=True)
class Measurement:
    """The value of a metric on some rows."""

    metric: str
    higher_is_better: bool
    value: float
    ci_low: float | None
    """None where the rows can't bound the value (a single row or cluster)."""
    ci_high: float | None
    confidence: float
    interval: str
    """How ci_low and ci_high were found."""
    n: int
    clusters: int | None
    signature: str

    def to_json(self) -> dict[str, Any]:
        """What ``fettle evaluate FILE --json`` prints."""
        return {"schema": SCHEMA} | asdict(self)

    def __repr__(self) -> str:
        metric = find_metric(self.metric)
        figures = [interval_text(metric, self), f"n = {self.n:,}"]
        if self.clusters is not None:
            figures.append(f"{self.clusters:,} groups")
        return f"{self.metric} {value_text(metric, self.value)} ({', '.join(figures)})"


def measure_file(path: str | Path, metric: str | None = None, alpha: float = 0.05) -> Measurement:
    """Measure a prediction file.

    Args:
        path: JSONL file, or a run directory (then its tuned model's predictions).
        metric: a metric's name with parameters; None takes ``default_metric``.
        alpha: the interval has confidence 1 - alpha.

    Raises:
        DataError: E0302 a line, E1003 a file that can't be read, E1004 a row id that occurs twice,
            E1006 several references, E1009 rows that the metric can't measure.
        UsageError: E1001, E1002 the metric; E1005 alpha.
    """
    rows = load_prediction_file(path)
    return measure(rows, metric or default_metric(rows), alpha)


def measure(
    rows: Sequence[Prediction],
    metric: str,
    alpha: float = 0.05,
    *,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Measurement:
    """Measure one list of predictions; see ``measure_file``.

    Args:
        rows: at least one.
        metric: a metric's name with parameters.
        alpha: the interval has confidence 1 - alpha.
        num_resamples: bootstrap resamples.
        seed: of the random generator.
    """
    check_settings(alpha, 0.0, num_resamples)
    found = find_metric(metric)
    if not any(found.covers(row) for row in rows):
        lack = found.lack(rows[0]) if rows else f"no {found.needs}"
        raise _not_measured(f"{found.name} can't measure any row: the first has {lack}")
    fault = value_fault(found, rows, rows, ("the file", "the file"))
    if fault is not None:
        raise _not_measured(fault)
    (sums,) = found.sums([rows])
    groups = group_numbers(rows)
    confidence = 1.0 - alpha
    value = float(found.score(sums.sum(axis=0)))
    if not np.isfinite(value):
        raise _not_measured(f"{found.name} of these rows is not a finite number")
    low, high, interval = _interval(found, sums, groups, confidence, num_resamples, seed)
    return Measurement(
        metric=found.name,
        higher_is_better=found.higher_is_better,
        value=value,
        ci_low=low,
        ci_high=high,
        confidence=confidence,
        interval=interval,
        n=len(rows),
        clusters=None if groups is None else int(groups.max()) + 1,
        signature=found.signature(),
    )


def _interval(
    metric: Metric,
    sums: FloatArray,
    groups: IntArray | None,
    confidence: float,
    num_resamples: int,
    seed: int,
) -> tuple[float | None, float | None, str]:
    """Both ends, and how they were found."""
    binary = metric.kind == "row" and bool(np.all((sums[:, 0] == 0.0) | (sums[:, 0] == 1.0)))
    num_rows = len(sums)
    right = float(sums[:, 0].sum())
    if binary and groups is None:
        return *wilson_interval(right, num_rows, confidence), "Wilson"
    num_units = num_rows if groups is None else int(groups.max()) + 1
    if num_units < 2:
        return None, None, ""
    prefix = "" if groups is None else "cluster "
    if metric.kind == "corpus":
        ends = bootstrap_interval(
            sums,
            metric.score,
            groups=groups,
            num_resamples=num_resamples,
            confidence=confidence,
            seed=seed,
        )
        return *_within(metric, *ends), f"{prefix}bootstrap"
    if binary:
        found = cluster_t_interval(sums[:, 0], sums[:, 1], groups=groups, confidence=confidence)
        # Clusters that are all alike bound nothing: each counts as one row then.
        rows = num_units if found.standard_error == 0.0 else num_rows
        low, high = wilson_interval(right * rows / num_rows, rows, confidence)
        ends = min(low, found.low), max(high, found.high)
        return *_within(metric, *ends), "wider of cluster t and Wilson"
    found = wider_interval(
        sums[:, 0],
        sums[:, 1],
        groups=groups,
        num_resamples=num_resamples,
        confidence=confidence,
        seed=seed,
    )
    return *_within(metric, found.low, found.high), f"wider of {prefix}t and {prefix}bootstrap-t"


def _within(metric: Metric, low: float, high: float) -> tuple[float | None, float | None]:
    """Clip to the metric's scale; an end that nothing bounds makes the interval None."""
    top = {"share": 1.0, "points": 100.0}.get(metric.unit)
    if top is not None and metric.span == top:
        return max(0.0, low), min(top, high)
    return (low, high) if np.isfinite(low) and np.isfinite(high) else (None, None)


def _not_measured(fault: str) -> DataError:
    return DataError(
        "E1009",
        fault,
        hint="choose another --metric, or give every row what it needs: prediction and reference,"
        " score, or loss_sum with num_targets",
    )
