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
from fettle.metrics import find_metric
from fettle.records.outcomes import SCHEMA
from fettle.statistics.power import detectable_mean_difference, minimum_detectable_difference
from fettle.statistics.resampling import smallest_p_value

ASSUMED_DISCORDANCE = 0.1
"""Share of rows on which exactly one arm is right, where nothing is known beforehand."""


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
    "classify": ("prediction",),
    "multi_label": ("label set", "prediction"),
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
    needed = find_metric(chosen).needs
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
            arm is right.
        standard_deviation: for other metrics: of one row's paired difference, where known.
        design_effect: how many times the variance grows because rows share clusters.

    Returns:
        The verdict's ``power`` object; ``minimum_detectable_difference`` is None where nothing can
        be said (no standard deviation) or nothing could be shown (too few rows). Without a standard
        deviation a mean over rows has ``standardized`` instead: the difference in units of that
        spread, with each group counted as one row.
    """
    effective = max(int(n / design_effect), 0)
    units = n if clusters is None else clusters
    found: float | None = None
    stated: dict[str, Any] = {"n": n, "clusters": clusters}
    if find_metric(metric).name.partition(":")[0] in {"accuracy", "subset_accuracy", "exact_match"}:
        stated["discordance"] = discordance
        found = minimum_detectable_difference(effective, discordance, power, alpha)
    elif standard_deviation is not None and effective > 0:
        stated["standard_deviation"] = standard_deviation
        found = detectable_mean_difference(effective, standard_deviation, power, alpha)
    elif find_metric(metric).kind != "corpus" and units > 1:
        stated["standardized"] = detectable_mean_difference(units, 1.0, power, alpha)
    if smallest_p_value(units, num_draws=10**9) > alpha:
        found = None
        stated.pop("standardized", None)
    return {"minimum_detectable_difference": found, "power": power, "alpha": alpha} | stated


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
        guards: what must not get worse, each with its margin.
        looks: how often the holdout will be opened.

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
        "baselines": list(baselines),
        "guards": [dict(guard) for guard in guards],
        "looks": looks,
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
