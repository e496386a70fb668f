"""What makes a comparison invalid, whatever its figures say.

In: the sealed plan and both arms' predictions. Out: the first fault as a sentence, or None.
Must not know: tests, intervals.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from fettle.evaluate.plan import hash_ids, verify_plan
from fettle.metrics import find_metric
from fettle.metrics.metric import Metric, references_of
from fettle.records.outcomes import Prediction

NUM_SHOWN = 3
"""Examples of row ids in a reason."""


def plan_fault(plan: Mapping[str, Any], sealed_sha256: str | None) -> str | None:
    """Whether the plan was changed.

    Args:
        plan: as it is now.
        sealed_sha256: the hash noted before training; None when only its own can be checked.

    Returns:
        The fault, or None.
    """
    if not verify_plan(plan):
        return "the evaluation plan was changed after it was sealed: its content and hash differ"
    if sealed_sha256 is not None and plan["sha256"] != sealed_sha256:
        return "the evaluation plan is not the one that was sealed before training"
    return None


def settings_fault(plan: Mapping[str, Any], asked: Mapping[str, Any] | None) -> str | None:
    """Whether the run's settings, or the metrics themselves, are others than the sealed ones.

    Args:
        plan: the sealed plan.
        asked: what the settings say now of the plan's own keys; None when there are none.

    Returns:
        The fault, or None.
    """
    for key, value in (asked or {}).items():
        if plan.get(key) != value:
            return f"the settings say {key} = {value}, the plan was sealed for {plan.get(key)}"
    for name, sealed in plan.get("signatures", {}).items():
        now = find_metric(name).signature()
        if now != sealed:
            return (
                f"the metric {name} is computed otherwise now ({now}) than when sealed ({sealed})"
            )
    return None


def row_fault(
    base: Sequence[Prediction], tuned: Sequence[Prediction], arms: tuple[str, str]
) -> str | None:
    """Whether both arms hold the same rows, once each, with the same references and groups.

    Args:
        base: arm A.
        tuned: arm B.
        arms: their names for the sentence.

    Returns:
        The fault with counts and examples, or None.
    """
    ids = [[row.row_id for row in rows] for rows in (base, tuned)]
    for name, row_ids in zip(arms, ids, strict=True):
        if len(set(row_ids)) == len(row_ids):
            continue
        twice = [row_id for row_id, count in Counter(row_ids).items() if count > 1]
        return f"{name} has {_rows(len(twice))} more than once ({_examples(twice)})"
    if not base and not tuned:
        return "there are no rows to compare"
    if ids[0] != ids[1]:
        base_ids, tuned_ids = set(ids[0]), set(ids[1])
        only_base = [row_id for row_id in ids[0] if row_id not in tuned_ids]
        only_tuned = [row_id for row_id in ids[1] if row_id not in base_ids]
        if only_base or only_tuned:
            parts = [
                f"{_rows(len(only))} only in {name} ({_examples(only)})"
                for name, only in zip(arms, (only_base, only_tuned), strict=True)
                if only
            ]
            both = len(base_ids) - len(only_base)
            return f"the rows differ: {both} in both, " + ", ".join(parts)
        tuned_by_id = dict(zip(ids[1], tuned, strict=True))
        tuned = [tuned_by_id[row_id] for row_id in ids[0]]
    other = [
        a.row_id
        for a, b in zip(base, tuned, strict=True)
        # One accepted answer may be written as a text or as a list of one.
        if a.reference != b.reference and references_of(a) != references_of(b)
    ]
    if other:
        return f"the reference differs between the arms in {_rows(len(other))} ({_examples(other)})"
    other = [a.row_id for a, b in zip(base, tuned, strict=True) if a.group != b.group]
    if other:
        return f"the group differs between the arms in {_rows(len(other))} ({_examples(other)})"
    return None


def holdout_fault(
    plan: Mapping[str, Any],
    row_ids: Collection[str],
    expected_row_ids: Collection[str] | None,
    train_row_ids: Collection[str],
) -> str | None:
    """Whether the rows judged are the sealed holdout, and none of them was trained on.

    Args:
        plan: the sealed plan.
        row_ids: rows judged.
        expected_row_ids: rows of the holdout split; None when unknown.
        train_row_ids: rows of the training split.

    Returns:
        The fault, or None.
    """
    found = set(row_ids)
    if expected_row_ids is not None:
        expected = set(expected_row_ids)
        missing, extra = sorted(expected - found), sorted(found - expected)
        if missing:
            return (
                f"predictions are missing for {_rows(len(missing))} of the holdout's "
                f"{len(expected)} ({_examples(missing)})"
            )
        if extra:
            return f"{_rows(len(extra))} judged are not in the holdout ({_examples(extra)})"
    holdout = plan["holdout"]
    if holdout["rows"] != len(found):
        return f"the plan was sealed for {holdout['rows']} holdout rows, {len(found)} were judged"
    if holdout["row_ids_sha256"] is not None and holdout["row_ids_sha256"] != hash_ids(found):
        return "the rows judged are not those that the plan was sealed for"
    trained = sorted(found.intersection(train_row_ids))
    if trained:
        return f"{_rows(len(trained))} of the holdout were trained on ({_examples(trained)})"
    return None


def value_fault(
    metric: Metric, base: Sequence[Prediction], tuned: Sequence[Prediction], arms: tuple[str, str]
) -> str | None:
    """Whether every row of both arms brings a finite value for a metric.

    Args:
        metric: what is measured.
        base: arm A.
        tuned: arm B, the same rows in the same order.
        arms: their names for the sentence.

    Returns:
        The fault, or None.
    """
    for name, rows in zip(arms, (base, tuned), strict=True):
        missing = metric.uncovered(rows)
        if missing:
            return (
                f"{name} has {metric.lack(missing[0])} for {metric.name} in {_rows(len(missing))} "
                f"({_examples([row.row_id for row in missing])})"
            )
        broken = [row.row_id for row in metric.broken(rows)]
        if broken:
            return (
                f"{name}'s {metric.needs} is not a finite number in {_rows(len(broken))} "
                f"({_examples(broken)})"
            )
    undefined = None if metric.undefined is None else metric.undefined(base)
    if undefined is not None:
        return undefined
    if metric.needs == "loss":
        pairs = zip(base, tuned, strict=True)
        other = [a.row_id for a, b in pairs if a.num_targets != b.num_targets or not a.num_targets]
        if other:
            return (
                f"the arms count other target tokens, or none, in {_rows(len(other))} "
                f"({_examples(other)}): their losses can't be compared"
            )
    return None


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _examples(row_ids: Sequence[str]) -> str:
    shown = ", ".join(row_ids[:NUM_SHOWN])
    return shown if len(row_ids) <= NUM_SHOWN else shown + ", …"
