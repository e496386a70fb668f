"""The verdict: which of eight words the evidence allows (DESIGN section 5).

In: the sealed plan, both arms' predictions on the holdout, baselines. Out: a ``Verdict``.
Must not know: how predictions were made, files, reports.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from fettle.evaluate.baselines import baseline_result
from fettle.evaluate.contrast import Contrast, contrast
from fettle.evaluate.extras import tables, without_twins
from fettle.evaluate.guards import (
    GuardArms,
    guard_fault,
    guard_notes,
    judge_guard,
    word_with_guards,
)
from fettle.evaluate.integrity import (
    holdout_fault,
    plan_fault,
    row_fault,
    settings_fault,
    value_fault,
)
from fettle.evaluate.looks import look_alpha
from fettle.evaluate.wording import (
    baseline_note,
    difference_text,
    headline,
    holdout_notes,
    p_text,
    twins_note,
)
from fettle.metrics import find_metric
from fettle.metrics.metric import Metric
from fettle.records.facts import BaseFacts
from fettle.records.outcomes import (
    Comparison,
    Prediction,
    Verdict,
    VerdictWord,
)
from fettle.statistics.correction import holm

POWER = 0.8
"""Chance with which "more rows would decide"."""


def decide(
    plan: Mapping[str, Any],
    base: Sequence[Prediction],
    tuned: Sequence[Prediction],
    *,
    sealed_sha256: str | None = None,
    asked: Mapping[str, Any] | None = None,
    expected_row_ids: Collection[str] | None = None,
    train_row_ids: Collection[str] = (),
    baselines: Mapping[str, Sequence[Prediction]] | None = None,
    holdout: Mapping[str, Any] | None = None,
    weights: Mapping[str, Any] | None = None,
    base_facts: BaseFacts | None = None,
    seeds: Sequence[int] | None = None,
    candidates_screened: int | None = None,
    train_twins: Collection[str] = (),
    guards: GuardArms | None = None,
    guard_rows: Mapping[str, str] | None = None,
) -> Verdict:
    """Judge a tuned model against its base by the sealed plan.

    Args:
        plan: from ``make_plan``.
        base: arm A on the holdout rows.
        tuned: arm B on the same rows, in any order.
        sealed_sha256: the plan's hash as it was noted before training.
        asked: what the run's settings say of the plan's keys; a difference makes it invalid.
        expected_row_ids: all rows of the holdout; one that is missing makes the verdict invalid.
        train_row_ids: rows that were trained on; one of them in the holdout makes it invalid.
        baselines: name to predictions on the same rows.
        holdout: verdict.json's ``holdout`` object; ``looks`` decides at which level is tested, and
            what it says of rows that share a group with train, and of rows that were left out, goes
            into reason and headline.
        weights: verdict.json's ``weights`` object.
        base_facts: of the base model.
        seeds: of training; the plan's when None.
        candidates_screened: how many were tried on validation.
        train_twins: holdout rows that a training row tells about; the primary comparison is given
            once more without them.
        guards: both arms' predictions on the rows of every guard of the plan.
        guard_rows: hash of each guard's rows as they are stored.

    Returns:
        The verdict. Faults of the comparison give ``invalid`` with the reason, never an exception.

    Raises:
        UsageError: E1001 or E1002, the plan names an unknown metric.
        DataError: E1006, references that a class metric can't use.
    """
    frame = Verdict(
        verdict="invalid",
        reason="",
        primary=None,
        power=plan.get("power"),
        holdout=holdout,
        plan={"sha256": plan.get("sha256")},
        candidates_screened=candidates_screened,
        weights=weights,
        base=None if base_facts is None else _base_object(base_facts),
        seeds=tuple(plan.get("seeds", ()) if seeds is None else seeds),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    fault = plan_fault(plan, sealed_sha256) or settings_fault(plan, asked)
    if fault is not None:
        return _invalid(frame, fault)
    metric = replace(find_metric(plan["metric"]), higher_is_better=plan["higher_is_better"])
    arms = arm_names(plan)
    look = int((holdout or {}).get("looks") or 1)
    alpha = look_alpha(look, float(plan["alpha"]))
    fault = (
        row_fault(base, tuned, arms)
        or holdout_fault(plan, {row.row_id for row in base}, expected_row_ids, train_row_ids)
        or guard_fault(plan["guards"], guards or {}, guard_rows or {})
    )
    if fault is not None:
        return _invalid(frame, fault)
    by_id = {row.row_id: row for row in tuned}
    tuned = [by_id[row.row_id] for row in base]
    fault = value_fault(metric, base, tuned, arms)
    if fault is not None:
        return _invalid(frame, fault)

    settings = {
        "alpha": alpha,
        "num_resamples": plan["resamples"],
        "seed": plan["seeds"][0] if plan["seeds"] else 0,
    }
    primary = contrast(metric, base, tuned, **settings)
    word, reason = choose_word(plan, primary, look)
    judged = [
        judge_guard(guard, *(guards or {})[guard["name"]], **settings) for guard in plan["guards"]
    ]
    word, reason = word_with_guards(word, reason, judged)
    secondary, skipped = _secondary(plan, base, tuned, settings)
    measured = [metric, *(find_metric(name) for name in plan["secondary"])]
    cheap = [
        found
        for name, rows in (baselines or {}).items()
        if (found := baseline_result(name, rows, tuned, measured, **settings)) is not None
    ]
    shown = [baseline_note(found, alpha, len(base)) for found in cheap]
    notes = [note for note in shown if note is not None]
    clear = without_twins(train_twins, metric, base, tuned, settings)
    limits = [*holdout_notes(holdout or {}), *twins_note(clear, len(base))]
    return replace(
        frame,
        verdict=word,
        reason=" ".join([reason, *(f"It is {note}." for note in notes), *_sentences(limits)]),
        primary=primary.comparison,
        secondary=secondary,
        guards=[asdict(guard) for guard in judged],
        baselines=cheap,
        headline=headline(word, primary.comparison, [*guard_notes(judged), *notes, *limits]),
        extra=tables(plan, base, tuned, primary, skipped) | clear,
    )


def choose_word(plan: Mapping[str, Any], found: Contrast, look: int = 1) -> tuple[VerdictWord, str]:
    """The word that the primary contrast allows, and the sentence that says why.

    Args:
        plan: the sealed plan (alpha, minimum_difference, guards).
        found: the primary contrast, with an interval of the level of this look.
        look: how often this holdout was opened, this time included.

    Returns:
        Word and reason. Improved needs p <= alpha and an interval whose lower end, in the
        direction of better, lies above the smallest difference that matters.
    """
    alpha, margin = look_alpha(look, float(plan["alpha"])), float(plan["minimum_difference"])
    level = f"alpha {alpha:.3g}" + (f" for look {look} at this holdout" if look > 1 else "")
    comparison = found.comparison
    metric = find_metric(comparison.metric)
    first, second = arm_names(plan)
    if found.smallest_p > alpha:
        return "too_few_rows", _too_few(comparison, found.smallest_p, alpha)
    low, high = oriented_interval(comparison)
    shown = comparison.p_value <= alpha
    band = difference_text(metric, margin, sign=False)
    if shown and low is not None and low > margin:
        least = difference_text(metric, low, sign=False)
        beyond = f", more than the {band} that matter" if margin else ""
        alone = "" if plan["guards"] else " No guard sets were given, so nothing else was tested."
        return (
            "improved",
            f"{second} is better than {first} by at least {least}{beyond} "
            f"({p_text(comparison.p_value)}, {level}).{alone}",
        )
    inside = low is not None and high is not None and -margin < low < high < margin
    if inside:
        return (
            "equivalent",
            f"the whole interval lies within ±{band}, the band that the plan calls equal.",
        )
    if shown and high is not None and high < 0.0:
        least = difference_text(metric, -high, sign=False)
        return (
            "worse",
            f"{second} is worse than {first} by at least {least} "
            f"({p_text(comparison.p_value)}, {level}).",
        )
    return "no_clear_difference", _undecided(found, metric, margin, alpha, level)


def oriented_interval(found: Comparison) -> tuple[float | None, float | None]:
    """The interval in the direction of better: above 0 speaks for arm B."""
    if found.ci_low is None or found.ci_high is None:
        return None, None
    if found.higher_is_better:
        return found.ci_low, found.ci_high
    return -found.ci_high, -found.ci_low


def arm_names(plan: Mapping[str, Any]) -> tuple[str, str]:
    """How sentences call the two arms."""
    return ("A", "B") if plan["task"] == "compare" else ("the base", "the tuned model")


def _too_few(found: Comparison, smallest: float, alpha: float) -> str:
    needed = 1 + math.ceil(math.log2(1.0 / alpha))
    units, kind = (found.n, "row") if found.clusters is None else (found.clusters, "group")
    count = f"{units} {kind}" + ("" if units == 1 else "s")
    if units >= needed:
        return (
            f"so few resamples can't give p ≤ {alpha:g} (the smallest possible is {smallest:.2g}): "
            f"raise evaluate.resamples above {math.ceil(1.0 / alpha)}."
        )
    return (
        f"with {count} no result could have reached p ≤ {alpha:g} (the smallest possible is "
        f"{smallest:.2g}): at least {needed} {kind}s are needed, and many more to show a small "
        "difference."
    )


def _undecided(found: Contrast, metric: Metric, margin: float, alpha: float, level: str) -> str:
    comparison = found.comparison
    low, _ = oriented_interval(comparison)
    if comparison.p_value > alpha:
        start = f"p = {comparison.p_value:.2g} is above {level}"
    elif margin and low is not None and 0.0 < low <= margin:
        band = difference_text(metric, margin, sign=False)
        start = f"a difference is shown, but not that it exceeds the {band} that matter"
    elif low is None:
        start = "these rows can't bound the difference"
    else:
        start = "the interval reaches 0, though the p-value is small"
    rows = found.rows_to_decide(margin, POWER)
    if rows is None:
        return f"{start}. No practical number of rows would show a difference as small as this one."
    return (
        f"{start}. If the difference seen is the true one, about {rows - comparison.n:,} more rows "
        f"would decide ({rows:,} in all, {100 * POWER:g} % power)."
    )


def _secondary(
    plan: Mapping[str, Any],
    base: Sequence[Prediction],
    tuned: Sequence[Prediction],
    settings: Mapping[str, Any],
) -> tuple[list[Comparison], dict[str, str]]:
    """Secondary comparisons on the rows that both arms bring, with Holm's correction.

    Returns:
        The comparisons, and by name why a metric was left out.
    """
    found: list[Comparison] = []
    skipped: dict[str, str] = {}
    for name in plan["secondary"]:
        metric = find_metric(name)
        base_rows = [row for row in base if metric.covers(row)]
        tuned_rows = [row for row in tuned if metric.covers(row)]
        if not base_rows and not tuned_rows:
            skipped[name] = f"no row has a {metric.needs}"
            continue
        arms = arm_names(plan)
        fault = row_fault(base_rows, tuned_rows, arms)
        fault = fault or value_fault(metric, base_rows, tuned_rows, arms)
        if fault is not None:
            skipped[name] = fault
            continue
        found.append(contrast(metric, base_rows, tuned_rows, **settings).comparison)
    adjusted = holm([item.p_value for item in found])
    return [
        replace(item, p_adjusted=value) for item, value in zip(found, adjusted, strict=True)
    ], skipped


def _sentences(notes: Sequence[str]) -> list[str]:
    return [f"{note[:1].upper()}{note[1:]}." for note in notes]


def _invalid(frame: Verdict, fault: str) -> Verdict:
    return replace(frame, reason=f"{fault}.", headline=f"INVALID  {fault}")


def _base_object(facts: BaseFacts) -> dict[str, Any]:
    return {"id": facts.id, "revision": facts.revision, "sha256": facts.sha256}
