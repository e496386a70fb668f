"""What a verdict shows besides its word: tables, and what was looked at without being planned.

In: the plan, both arms' predictions. Out: values of ``Verdict.extra``. Nothing here changes the
word. Must not know: how a word is chosen, files, reports.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from fettle.evaluate.abstain import abstain
from fettle.evaluate.contrast import Contrast, contrast
from fettle.evaluate.integrity import value_fault
from fettle.evaluate.slices import slices
from fettle.metrics import find_metric
from fettle.metrics.labels import confusion, labels_of, per_class, per_label
from fettle.metrics.metric import Metric
from fettle.records.outcomes import Prediction

MOST_SLICED_ROWS = 50_000
"""Slices of more rows are not compared: each takes as long as the verdict."""


def explored(
    plan: Mapping[str, Any],
    base: Sequence[Prediction],
    tuned: Sequence[Prediction],
    validation: Sequence[Prediction],
    alpha: float,
) -> dict[str, Any]:
    """Slices of the holdout, and what a threshold for abstaining would do.

    Args:
        plan: the sealed plan.
        base: arm A, valid for the primary metric.
        tuned: arm B on the same rows, in any order.
        validation: the tuned model on validation rows, which choose the threshold.
        alpha: of the verdict's look.

    Returns:
        ``slices`` and ``abstain``, where there are any.
    """
    found: dict[str, Any] = {}
    by_id = {row.row_id: row for row in tuned}
    tuned = [by_id[row.row_id] for row in base]
    if len(base) <= MOST_SLICED_ROWS:
        seed = plan["seeds"][0] if plan["seeds"] else 0
        parts = slices(find_metric(plan["metric"]), base, tuned, alpha=alpha, seed=seed)
        found["slices"] = [part.to_json() for part in parts]
    if plan["task"] == "classify":
        abstention = abstain(validation, tuned)
        if abstention is not None:
            # Lists, as verdict.json has them, and no tuples.
            found["abstain"] = json.loads(json.dumps(abstention.to_json()))
    return found


def without_twins(
    twins: Collection[str],
    metric: Metric,
    base: Sequence[Prediction],
    tuned: Sequence[Prediction],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """The primary comparison on rows that no training row tells about, where there are others.

    ``without_train_twins`` is None where nothing can be compared, with the reason beside it.

    Args:
        twins: rows that a training row tells about.
        metric: the primary metric.
        base: arm A.
        tuned: arm B, the same rows in the same order.
        settings: for ``contrast``.
    """
    kept = [index for index, row in enumerate(base) if row.row_id not in twins]
    if len(kept) == len(base):
        return {}
    others, theirs = ([rows[index] for index in kept] for rows in (base, tuned))
    fault = "no row is left" if not kept else None
    fault = fault or value_fault(metric, others, theirs, ("the base", "the tuned model"))
    if fault is not None:
        return {"without_train_twins": None, "without_train_twins_fault": fault}
    found = contrast(metric, others, theirs, **settings).comparison
    return {"without_train_twins": asdict(found)}


def tables(
    plan: Mapping[str, Any],
    base: Sequence[Prediction],
    tuned: Sequence[Prediction],
    primary: Contrast,
    skipped: Mapping[str, str],
) -> dict[str, Any]:
    """What the report shows besides: rows to decide, discordant rows, tables of classes.

    Args:
        plan: the sealed plan.
        base: arm A.
        tuned: arm B, the same rows in the same order.
        primary: their contrast.
        skipped: planned metric to the reason why it was left out.
    """
    extra: dict[str, Any] = {"rows_to_decide": primary.rows_to_decide(plan["minimum_difference"])}
    if primary.discordant is not None:
        base_only, tuned_only = primary.discordant
        extra["discordant"] = {"base_only": base_only, "tuned_only": tuned_only}
    if skipped:
        extra["skipped"] = dict(skipped)
    display = {
        name: _value_of(find_metric(name), base, tuned)
        for name in plan["display"]
        if all(find_metric(name).covers(row) for row in (*base, *tuned))
    }
    if display:
        extra["display"] = display
    answered = all(row.prediction is not None for row in (*base, *tuned))
    if plan["task"] == "classify" and answered:
        extra |= class_tables(base, tuned)
    if plan["task"] == "multi_label" and answered:
        extra |= label_table(base, tuned)
    return extra


def class_tables(base: Sequence[Prediction], tuned: Sequence[Prediction]) -> dict[str, Any]:
    """Per-class figures and confusion matrices of both arms, for the report.

    Args:
        base: arm A; every row has one reference.
        tuned: arm B on the same rows.

    Returns:
        ``per_class``: a list of {label, support, base, tuned}, each arm with precision, recall and
        f1. ``confusion``: labels, and per arm a matrix with a line per true class.
    """
    labels = labels_of([base, tuned], "the table of classes")
    matrices = {"base": confusion(base, labels), "tuned": confusion(tuned, labels)}
    figures = {arm: per_class(matrix) for arm, matrix in matrices.items()}
    rows = _lines(labels, figures)
    shown = {arm: matrix.tolist() for arm, matrix in matrices.items()}
    return {"per_class": rows, "confusion": {"labels": labels} | shown}


def label_table(base: Sequence[Prediction], tuned: Sequence[Prediction]) -> dict[str, Any]:
    """Per-label figures of both arms where a row has any number of labels; no label is taken for
    another, so that there is no confusion to show.

    Args:
        base: arm A; every row has one reference, a set of labels.
        tuned: arm B on the same rows.

    Returns:
        ``per_class`` as in ``class_tables``.
    """
    labels = labels_of([base, tuned], "the table of labels")
    figures = {"base": per_label(base, labels), "tuned": per_label(tuned, labels)}
    return {"per_class": _lines(labels, figures)}


def _lines(labels: Sequence[str], figures: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"label": label, "support": int(figures["base"]["support"][number])}
        | {
            arm: {name: float(table[name][number]) for name in ("precision", "recall", "f1")}
            for arm, table in figures.items()
        }
        for number, label in enumerate(labels)
    ]


def _value_of(
    metric: Metric, base: Sequence[Prediction], tuned: Sequence[Prediction]
) -> dict[str, float | None]:
    values = {}
    for arm, sums in zip(("base", "tuned"), metric.sums([base, tuned]), strict=True):
        value = float(metric.score(sums.sum(axis=0)))
        # JSON has no infinity.
        values[arm] = value if np.isfinite(value) else None
    return values
