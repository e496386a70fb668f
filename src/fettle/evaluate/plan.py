"""The evaluation plan: fixed and hashed before training, so that nothing can be chosen afterwards.

In: the task, the holdout's size, the user's wishes. Out: plan.json as a dict.
Must not know: predictions, models.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fettle.errors import UsageError
from fettle.evaluate.looks import SPENDING
from fettle.metrics import find_metric
from fettle.records.outcomes import SCHEMA
from fettle.statistics.power import (
    detectable_mean_difference,
    exaggeration,
    minimum_detectable_difference,
    rows_for_difference,
)
from fettle.statistics.resampling import smallest_p_value

ASSUMED_DISCORDANCE = 0.1
"""Share of rows on which exactly one arm is right, where nothing is known beforehand."""

DISCORDANCES = (0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
"""Assumed in turn where so few rows can show nothing at less."""
STEPS = (0.1, 0.05, 0.03, 0.02, 0.01, 0.005)
"""Differences that people name; the first one well below the detectable one is stated too."""


@dataclass(frozen=True, slots=True)
class TaskMetrics:
    """What is measured for a task."""

    primary: str
    """The verdict rests on it."""
    secondary: tuple[str, ...]
    """Tested and corrected, for information."""
    display: tuple[str, ...]
    """Shown, never tested: the same comparison on another scale."""


TASK_METRICS = {
    "classify": TaskMetrics("accuracy", ("macro_f1", "macro_recall"), ()),
    "multi_label": TaskMetrics("micro_f1", ("macro_f1", "subset_accuracy"), ()),
    "regress": TaskMetrics("mae", ("rmse", "pearson", "spearman"), ()),
    "chat": TaskMetrics("loss", ("chrf", "rouge_l", "exact_match"), ("perplexity",)),
    "text": TaskMetrics("loss", (), ("perplexity",)),
}

MEASURED = {
    "classify": ("prediction", "probabilities", "confidence"),
    "multi_label": ("label set", "prediction", "probabilities", "confidence"),
    "regress": ("number",),
    "chat": ("loss", "prediction"),
    "text": ("loss",),
}
"""What the rows of a run bring, by task; see ``Metric.needs``."""


def task_metrics(task: str, primary: str | None = None) -> TaskMetrics:
    """The metrics of a task; a primary that the user chose takes the default's place.

    Args:
        task: classify, regress, chat or text; multi_label for classify with any number of labels.
        primary: a metric's name with parameters, or None.

    Returns:
        Primary, secondary (without the primary) and display metrics.

    Raises:
        UsageError: E1001 or E1002, an unknown metric or parameter; E1007, one that this task does
            not measure.
    """
    default = TASK_METRICS[task]
    chosen = primary or default.primary
    metric = find_metric(chosen)
    if metric.descriptive:
        raise UsageError(
            "E1007",
            f"the metric {chosen} describes an answer and does not say whether it is better",
            hint=f"let the verdict rest on another, such as {default.primary}",
        )
    needed = metric.needs
    if needed not in MEASURED[task]:
        raise UsageError(
            "E1007",
            f"the metric {chosen} needs a {needed} for each row, which a {task} run has not",
            hint=f"leave it out, or use one of {', '.join((default.primary, *default.secondary))}",
        )
    others = (default.primary, *default.secondary)
    return TaskMetrics(chosen, tuple(name for name in others if name != chosen), default.display)


def plan_power(
    metric: str,
    n: int,
    *,
    clusters: int | None = None,
    alpha: float = 0.05,
    power: float = 0.8,
    discordance: float = ASSUMED_DISCORDANCE,
    standard_deviation: float | None = None,
    design_effect: float = 1.0,
) -> dict[str, Any]:
    """The smallest difference that a holdout can be expected to show, before any training.

    Args:
        metric: the primary metric's name.
        n: holdout rows.
        clusters: independent groups among them; None when rows are independent.
        alpha: two-sided level.
        power: chance to show that difference.
        discordance: for metrics of right and wrong: expected share of rows on which exactly one
            arm is right; few rows can show nothing at so little, and then more is assumed.
        standard_deviation: for other metrics: of one row's paired difference, where known.
        design_effect: how many times the variance grows because rows share clusters.

    Returns:
        The verdict's ``power`` object; ``minimum_detectable_difference`` is None where nothing can
        be said (no standard deviation) or nothing could be shown (too few rows). Without a standard
        deviation a mean over rows has ``standardized`` instead: the difference in units of that
        spread, with each group counted as one row. Metrics of right and
        wrong have ``smaller`` (a smaller difference, and the rows that would show it) and
        ``exaggeration`` (by what factor a significant result overstates a true difference of half
        the detectable one, and the power there). ``too_few``: no result could reach alpha.
    """
    measured = find_metric(metric)
    effective = max(int(n / design_effect), 0)
    units = n if clusters is None else clusters
    found: float | None = None
    stated: dict[str, Any] = {"n": n, "clusters": clusters}
    if smallest_p_value(units, num_draws=10**9) > alpha:
        stated["too_few"] = True
    elif measured.binary:
        stated["discordance"] = discordance
        for share in (discordance, *(other for other in DISCORDANCES if other > discordance)):
            found = minimum_detectable_difference(effective, share, power, alpha)
            if found is not None:
                stated |= {"discordance": share} | _beyond(effective, found, share, power, alpha)
                break
    elif standard_deviation is not None and effective > 0:
        stated["standard_deviation"] = standard_deviation
        found = detectable_mean_difference(effective, standard_deviation, power, alpha)
    elif measured.kind != "corpus" and units > 1:
        stated["standardized"] = detectable_mean_difference(units, 1.0, power, alpha)
    return {"minimum_detectable_difference": found, "power": power, "alpha": alpha} | stated


def _beyond(n: int, found: float, discordance: float, power: float, alpha: float) -> dict[str, Any]:
    """What a smaller difference would take, and by how much a lucky result on it exaggerates."""
    beyond: dict[str, Any] = {}
    smaller = next((step for step in STEPS if step < 0.8 * found), None)
    if smaller is not None:
        rows = rows_for_difference(smaller, discordance, power=power, alpha=alpha)
        beyond["smaller"] = {"difference": smaller, "rows": rows}
    if found > 0.0:
        lucky = exaggeration(n, found / 2.0, discordance, alpha)
        beyond["exaggeration"] = {
            "difference": found / 2.0,
            "power": lucky.power,
            "type_m": lucky.type_m,
        }
    return beyond


def make_plan(
    task: str,
    metric: str,
    higher_is_better: bool | None = None,
    alpha: float = 0.05,
    minimum_difference: float = 0.0,
    n_holdout: int = 0,
    clusters: int | None = None,
    seeds: Sequence[int] = (0,),
    baselines: Sequence[str] = (),
    secondary: Sequence[str] = (),
    power: Mapping[str, Any] | None = None,
    *,
    display: Sequence[str] = (),
    num_resamples: int = 10_000,
    holdout_row_ids: Collection[str] | None = None,
    guards: Sequence[Mapping[str, Any]] = (),
    looks: int = 1,
) -> dict[str, Any]:
    """Fix everything that the verdict will rest on, and seal it with a hash.

    Args:
        task: as in ``task_metrics``, or compare for two prediction files.
        metric: the primary metric.
        higher_is_better: its direction; None takes the metric's own.
        alpha: two-sided.
        minimum_difference: smallest difference that matters, in the metric's unit, 0 for any.
        n_holdout: rows.
        clusters: groups among them; None when rows are independent.
        seeds: of training; the first also seeds the resampling.
        baselines: names of the cheap alternatives.
        secondary: metrics that are tested besides, with Holm's correction.
        power: from ``plan_power``.
        display: metrics that are only shown.
        num_resamples: bootstrap resamples and randomization draws.
        holdout_row_ids: seals which rows are judged; None seals only their number.
        guards: what must not get worse, each with its margin (``plan_guard``).
        looks: which look at this holdout this is, as far as is known beforehand.

    Returns:
        The plan with ``schema`` and ``sha256``.

    Raises:
        UsageError: E1001 or E1002, an unknown metric or parameter.
    """
    primary = find_metric(metric)
    for name in (*secondary, *display):
        find_metric(name)
    direction = primary.higher_is_better if higher_is_better is None else higher_is_better
    plan: dict[str, Any] = {
        "schema": SCHEMA,
        "task": task,
        "metric": metric,
        "higher_is_better": direction,
        "alpha": alpha,
        "sides": 2,
        "minimum_difference": minimum_difference,
        "unit": "row" if clusters is None else "group",
        "holdout": {
            "rows": n_holdout,
            "clusters": clusters,
            "row_ids_sha256": None if holdout_row_ids is None else hash_ids(holdout_row_ids),
        },
        "secondary": list(secondary),
        "correction": "holm",
        "display": list(display),
        "signatures": {name: find_metric(name).signature() for name in (metric, *secondary)},
        "baselines": list(baselines),
        "guards": [dict(guard) for guard in guards],
        "looks": looks,
        "spending": SPENDING,
        "seeds": list(seeds),
        "resamples": num_resamples,
        "power": None if power is None else dict(power),
    }
    return plan | {"sha256": plan_hash(plan)}


def plan_hash(plan: Mapping[str, Any]) -> str:
    """sha256 over the plan's canonical JSON without its own hash."""
    content = {key: value for key, value in plan.items() if key != "sha256"}
    text = json.dumps(
        content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def verify_plan(plan: Mapping[str, Any]) -> bool:
    """Whether the plan is as it was sealed."""
    return bool(plan.get("sha256")) and plan["sha256"] == plan_hash(plan)


def hash_ids(row_ids: Collection[str]) -> str:
    """sha256 over sorted row ids, whatever their order in the file."""
    text = json.dumps(sorted(row_ids), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
