"""Nothing else broke: what must not get worse, its margin, and whether it held.

A guard is a set of rows of its own, a metric and a margin: the largest loss that is accepted. It is
*held* only when the rows show that the tuned model is not worse by the margin (non-inferiority,
one-sided at half the plan's two-sided level); *lost* when they show that it is worse and don't show
that; else *unproven*. That no harm was seen is not enough.

In: guards of the sealed plan, both arms' predictions on their rows. Out: plan entries, outcomes,
the word that follows. Must not know: files, models, how predictions are made.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fettle.errors import UsageError
from fettle.evaluate.contrast import contrast, group_numbers
from fettle.evaluate.integrity import row_fault, value_fault
from fettle.evaluate.wording import difference_text, metric_title, p_text
from fettle.metrics import find_metric
from fettle.metrics.metric import Metric
from fettle.records.outcomes import Prediction, VerdictWord
from fettle.statistics.noninferiority import (
    binary_noninferiority,
    joint_power,
    mean_noninferiority,
    noninferiority_power,
    rows_per_guard,
)

Outcome = Literal["held", "lost", "unproven"]

GENERAL_TEXT = "general text"
"""The guard that every generative run has: the loss on passages that ship with fettle."""
GENERAL_TEXT_MARGIN = 0.1
"""Nats per token; 0.1 is a perplexity that rises by a tenth."""
SHARE_MARGIN, POINTS_MARGIN = 0.05, 2.0
"""Margins where none is given, of shares (5 points) and of scores from 0 to 100."""
ASSUMED_DISCORDANCE = 0.1
"""As in the plan's power: share of rows on which exactly one arm is right."""
JOINT_POWER = 0.9
"""Chance that all guards hold, when nothing got worse, for which rows are recommended."""

GuardArms = Mapping[str, tuple[Sequence[Prediction], Sequence[Prediction]]]
"""Guard's name -> predictions of base and tuned model on its rows."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What one guard showed: a line of verdict.json's ``guards``."""

    name: str
    metric: str
    higher_is_better: bool | None
    base: float | None
    tuned: float | None
    difference: float | None
    """tuned - base, in the metric's own direction."""
    ci_low: float | None
    ci_high: float | None
    confidence: float
    margin: float
    p_value: float | None
    """One-sided, of "worse by the margin or more"."""
    test: str
    n: int
    clusters: int | None
    outcome: Outcome
    reason: str


def default_margin(metric: Metric) -> float:
    """The margin of a guard for which none was given.

    Raises:
        UsageError: E1020, the metric is in a unit of the data, where only the user knows.
    """
    if metric.unit == "nats":
        return GENERAL_TEXT_MARGIN
    if metric.unit == "points":
        return POINTS_MARGIN
    if metric.unit == "share":
        return SHARE_MARGIN
    raise UsageError(
        "E1020",
        f"a guard by {metric.name} needs a margin: the largest loss that you accept",
        why="The metric counts in the unit of your data",
        hint="write it in the recipe: evaluate: {guards: [{file: …, margin: …}]}",
    )


def plan_guard(
    name: str,
    metric: str,
    margin: float,
    predictions: Sequence[Prediction],
    rows_sha256: str,
    *,
    file: str | None = None,
    shared_with_train: int = 0,
    left_out: int = 0,
    alpha: float = 0.05,
) -> dict[str, Any]:
    """A guard as the plan holds it.

    Args:
        name: of the guard.
        metric: what is measured on its rows.
        margin: largest loss that is accepted, in the metric's unit.
        predictions: the rows; only their ids and groups are looked at.
        rows_sha256: from ``hash_lines``, over the rows as they were stored.
        file: where they were read from.
        shared_with_train: rows that were left out because they are trained on.
        left_out: rows that could not be used, for another reason.
        alpha: two-sided level of the plan.

    Returns:
        The entry, with the ``power`` to show that it holds when nothing got worse (0/1 metrics of
        independent rows; else None: the spread is known only after training).
    """
    numbers = group_numbers(predictions)
    clusters = None if numbers is None else int(numbers.max()) + 1
    found = find_metric(metric)
    power = None
    if found.binary and clusters is None:
        power = noninferiority_power(
            len(predictions), ASSUMED_DISCORDANCE, margin, alpha=alpha / 2.0
        )
    return {
        "name": name,
        "file": file,
        "metric": metric,
        "higher_is_better": found.higher_is_better,
        "margin": margin,
        "rows": len(predictions),
        "clusters": clusters,
        "rows_sha256": rows_sha256,
        "shared_with_train": shared_with_train,
        "left_out": left_out,
        "power": power,
    }


def guards_power(guards: Sequence[Mapping[str, Any]], alpha: float = 0.05) -> dict[str, Any] | None:
    """The chance that all guards hold together when nothing got worse, said before training.

    Args:
        guards: entries of the plan.
        alpha: two-sided level of the plan.

    Returns:
        ``joint`` over the guards whose power is known, ``guards`` (how many those are), the
        ``discordance`` assumed, and ``rows_needed``: the rows that each would need for all to hold
        with 90 %; None where no guard's power is known.
    """
    known = [guard for guard in guards if guard["power"] is not None]
    if not known:
        return None
    smallest = min(float(guard["margin"]) for guard in known)
    needed = None
    if smallest > 0.0:
        needed = rows_per_guard(
            smallest, ASSUMED_DISCORDANCE, len(known), power=JOINT_POWER, alpha=alpha / 2.0
        )
    return {
        "joint": joint_power(float(guard["power"]) for guard in known),
        "guards": len(known),
        "discordance": ASSUMED_DISCORDANCE,
        "rows_needed": needed,
    }


def judge_guard(
    guard: Mapping[str, Any],
    base: Sequence[Prediction],
    tuned: Sequence[Prediction],
    *,
    alpha: float = 0.05,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Judged:
    """Whether one guard held.

    Args:
        guard: entry of the sealed plan.
        base: arm A on the guard's rows.
        tuned: arm B on the same rows, in any order.
        alpha: two-sided level; the guard is tested one-sided at half of it.
        num_resamples: of a bootstrap, for metrics of the whole set.
        seed: of the random generator.

    Returns:
        The outcome; *unproven* with the reason where the arms can't be compared.
    """
    metric = find_metric(guard["metric"])
    margin = float(guard["margin"])
    arms = ("the base", "the tuned model")
    fault = row_fault(base, tuned, arms)
    if fault is None:
        by_id = {row.row_id: row for row in tuned}
        tuned = [by_id[row.row_id] for row in base]
        fault = value_fault(metric, base, tuned, arms)
    if fault is not None:
        return _unproven(guard, len(base), 1.0 - alpha, fault)
    better, p_value, test = _tested(metric, base, tuned, margin, alpha, num_resamples, seed)
    base_sums, tuned_sums = metric.sums([base, tuned])
    before, after = (float(metric.score(sums.sum(axis=0))) for sums in (base_sums, tuned_sums))
    low, high = better
    outcome: Outcome = "unproven"
    if low is not None and low > -margin:
        outcome = "held"
    elif high is not None and high < 0.0:
        outcome = "lost"
    groups = group_numbers(base)
    ends = (low, high)
    if not metric.higher_is_better:
        ends = (None if high is None else -high, None if low is None else -low)
    return Judged(
        name=guard["name"],
        metric=guard["metric"],
        higher_is_better=metric.higher_is_better,
        base=before,
        tuned=after,
        difference=after - before,
        ci_low=ends[0],
        ci_high=ends[1],
        confidence=1.0 - alpha,
        margin=margin,
        p_value=p_value,
        test=test,
        n=len(base),
        clusters=None if groups is None else int(groups.max()) + 1,
        outcome=outcome,
        reason=_reason(metric, outcome, after - before, low, margin, p_value),
    )


def word_with_guards(
    word: VerdictWord, reason: str, judged: Sequence[Judged]
) -> tuple[VerdictWord, str]:
    """The verdict's word and reason after the guards.

    Args:
        word: what the primary metric allows.
        reason: its sentence.
        judged: the guards.

    Returns:
        A gain, or equality, becomes ``regressed_elsewhere`` where a guard is lost and
        ``guard_unproven`` where one could not be shown to hold; other words stay, as they promise
        nothing. The reason names every guard that is not held.
    """
    if not judged:
        return word, reason
    lost = [guard for guard in judged if guard.outcome == "lost"]
    unproven = [guard for guard in judged if guard.outcome == "unproven"]
    said = [f"Guard {guard.name!r} is {guard.outcome}: {guard.reason}" for guard in lost + unproven]
    if not said:
        held = "the guard" if len(judged) == 1 else f"all {len(judged)} guards"
        names = ", ".join(guard.name for guard in judged)
        return word, f"{reason} Nothing got worse by its margin on {held} ({names})."
    whole = " ".join([reason, *said])
    if word not in ("improved", "equivalent"):
        return word, whole
    return ("regressed_elsewhere" if lost else "guard_unproven"), whole


def guard_notes(judged: Sequence[Judged]) -> list[str]:
    """What the headline must say of the guards: nothing where all are held."""
    return [f"guard {guard.name} {guard.outcome}" for guard in judged if guard.outcome != "held"]


def guard_fault(
    guards: Sequence[Mapping[str, Any]],
    arms: GuardArms,
    stored: Mapping[str, str],
) -> str | None:
    """Whether the guards that were answered are those of the sealed plan.

    Args:
        guards: entries of the plan.
        arms: both arms' predictions by guard.
        stored: name to the hash of the guard's rows as they are now (``hash_lines``).

    Returns:
        The first fault as a sentence, or None.
    """
    for guard in guards:
        name = guard["name"]
        if name not in arms or name not in stored:
            return f"the rows of the guard {name!r} are missing"
        if stored[name] != guard["rows_sha256"]:
            return f"the rows of the guard {name!r} are not those that the plan was sealed for"
        for rows in arms[name]:
            if len({row.row_id for row in rows}) != guard["rows"]:
                return (
                    f"the guard {name!r} was sealed for {guard['rows']:,} rows,"
                    f" {len(rows):,} were answered"
                )
    extra = sorted(arms.keys() - {guard["name"] for guard in guards})
    return f"the guard {extra[0]!r} is not in the sealed plan" if extra else None


def hash_lines(lines: Iterable[Mapping[str, Any]]) -> str:
    """sha256 over a guard's rows as they are stored, in their order."""
    digest = hashlib.sha256()
    for line in lines:
        text = json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        digest.update(text.encode() + b"\n")
    return digest.hexdigest()


def _tested(
    metric: Metric,
    base: Sequence[Prediction],
    tuned: Sequence[Prediction],
    margin: float,
    alpha: float,
    num_resamples: int,
    seed: int,
) -> tuple[tuple[float | None, float | None], float | None, str]:
    """Both ends of the interval, above 0 is better; the one-sided p-value; the test's name."""
    if metric.kind == "corpus":
        found = contrast(
            metric, base, tuned, alpha=alpha, num_resamples=num_resamples, seed=seed
        ).comparison
        low, high = found.ci_low, found.ci_high
        if not metric.higher_is_better:
            low, high = (None if end is None else -end for end in (high, low))
        return (low, high), None, found.interval
    groups = group_numbers(base)
    base_sums, tuned_sums = metric.sums([base, tuned])
    sign = 1.0 if metric.higher_is_better else -1.0
    values = np.concatenate([base_sums[:, 0], tuned_sums[:, 0]])
    binary = metric.kind == "row" and np.all((values == 0.0) | (values == 1.0))
    # Right and wrong, more is better: what Tango's test is for.
    if binary and metric.higher_is_better and margin < 1.0:
        shown = binary_noninferiority(
            base_sums[:, 0], tuned_sums[:, 0], margin, groups=groups, alpha=alpha / 2.0
        )
    else:
        shown = mean_noninferiority(
            sign * (tuned_sums[:, 0] - base_sums[:, 0]),
            base_sums[:, 1],
            margin,
            groups=groups,
            alpha=alpha / 2.0,
        )
    return (shown.low, shown.upper), shown.p_value, shown.test


def _reason(
    metric: Metric,
    outcome: Outcome,
    difference: float,
    low: float | None,
    margin: float,
    p_value: float | None,
) -> str:
    seen = f"{metric_title(metric.name)} {difference_text(metric, difference)}"
    accepted = difference_text(metric, margin, sign=False)
    chance = "" if p_value is None else f", {p_text(p_value)} for worse by {accepted}"
    if outcome == "held":
        return f"{seen}; a loss of {accepted} or more is ruled out{chance}."
    if outcome == "lost":
        return f"{seen}, shown to be worse; up to {accepted} was accepted."
    if low is None:
        return f"{seen}; these rows can't bound the difference."
    worst = difference_text(metric, max(0.0, -low), sign=False)
    return f"{seen}; a loss of up to {worst} is possible, {accepted} was accepted{chance}."


def _unproven(guard: Mapping[str, Any], n: int, confidence: float, fault: str) -> Judged:
    return Judged(
        name=guard["name"],
        metric=guard["metric"],
        higher_is_better=guard.get("higher_is_better"),
        base=None,
        tuned=None,
        difference=None,
        ci_low=None,
        ci_high=None,
        confidence=confidence,
        margin=float(guard["margin"]),
        p_value=None,
        test="",
        n=n,
        clusters=None,
        outcome="unproven",
        reason=f"{fault}.",
    )
