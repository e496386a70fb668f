"""The plan of a run: read the guards, state the power, fix everything, note the seal.

In: settings, rows, tokens, base. Out: plan.json and guards.jsonl, the plan's hash in events.jsonl.
Must not know: models, predictions.
"""

from typing import Any

from fettle.data.account.account import Prepared
from fettle.errors import UsageError
from fettle.evaluate.guards import guards_power, plan_guard
from fettle.evaluate.looks import look_alpha, looks_before
from fettle.evaluate.plan import make_plan, plan_power, task_metrics
from fettle.evaluate.wording import power_sentence
from fettle.metrics import find_metric
from fettle.recipe.resolve import Settings
from fettle.records.facts import BaseFacts
from fettle.records.journal import read_events
from fettle.records.outcomes import Prediction
from fettle.records.run_directory import write_json
from fettle.stages.baselines import baseline_names
from fettle.stages.context import Context
from fettle.stages.data import Tokens
from fettle.stages.guarding import GuardRows, read_guards, write_guards

NO_SEAL = "no seal was noted"
"""No plan has this hash: one whose seal is gone from events.jsonl can't be trusted."""


def seal_plan(
    context: Context, settings: Settings, prepared: Prepared, tokens: Tokens, base: BaseFacts
) -> dict[str, Any]:
    """Fix metric, test, rows, guards and baselines before anything is trained; write plan.json.

    Raises:
        UsageError: E1007, the verdict would rest on answers, and not all rows are answered; E1020
            and E1021, a guard that can't be used.
    """
    holdout = prepared.examples["holdout"]
    metrics = task_metrics(prepared.judged_as, settings.metric)
    by_answers = prepared.task == "chat" and find_metric(metrics.primary).needs == "prediction"
    if by_answers and settings.generate_rows < len(holdout):
        raise UsageError(
            "E1007",
            f"the metric {metrics.primary} needs an answer to each of the {len(holdout):,} holdout"
            f" rows; evaluate.generate_rows is {settings.generate_rows:,}",
            hint="leave evaluate.generate_rows out, or leave the metric out to judge by the loss",
        )
    groups = [row.group or row.row_id for row in holdout]
    clusters = len(set(groups)) if len(set(groups)) < len(holdout) else None
    look = 1 + looks_before(context.directory.root, prepared.holdout_sha256)
    alpha = look_alpha(look, settings.alpha_level)
    guards = read_guards(context, prepared, tokens)
    entries = [_entry(guard, alpha) for guard in guards]
    power = plan_power(metrics.primary, len(holdout), clusters=clusters, alpha=alpha)
    plan = make_plan(
        prepared.judged_as,
        metrics.primary,
        alpha=settings.alpha_level,
        minimum_difference=settings.minimum_difference,
        n_holdout=len(holdout),
        clusters=clusters,
        seeds=[settings.seed],
        baselines=baseline_names(prepared, base),
        secondary=metrics.secondary,
        display=metrics.display,
        power=power | {"guards": guards_power(entries, alpha)},
        num_resamples=settings.resamples,
        holdout_row_ids=[row.row_id for row in holdout],
        guards=entries,
        looks=look,
    )
    write_guards(context.directory.guards, guards)
    write_json(context.directory.plan, plan)
    said = power_sentence(plan)
    context.journal.emit("plan", {"sha256": plan["sha256"], "power": plan["power"], "said": said})
    return plan


def sealed_hash(context: Context) -> str | None:
    """The plan's hash as events.jsonl noted it before training."""
    from_events = [
        event["sha256"]
        for event in read_events(context.directory.events)
        if event.get("event") == "plan"
    ]
    return from_events[0] if from_events else None


def _entry(guard: GuardRows, alpha: float) -> dict[str, Any]:
    rows = [Prediction(row.row_id, None, "", group=row.group) for row in guard.examples]
    return plan_guard(
        guard.name,
        guard.metric,
        guard.margin,
        rows,
        guard.sha256,
        file=guard.file,
        shared_with_train=guard.shared_with_train,
        left_out=guard.left_out,
        alpha=alpha,
    )
