"""Stage evaluate: both arms and the baselines on the sealed holdout, then the verdict.

In: the sealed plan, the trained model as it lies in model/. Out: evaluation/ and verdict.json. Must
not know: how the model was trained. The tuned arm is read back from disk: what is judged is what
is served.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fettle.data.account.account import Prepared
from fettle.data.check.leaks import with_train_twin
from fettle.evaluate.extras import explored
from fettle.evaluate.grade import grades_of_arms
from fettle.evaluate.inputs import with_inputs
from fettle.evaluate.integrity import plan_fault
from fettle.evaluate.looks import count_look, spent_alpha
from fettle.evaluate.verdict import decide
from fettle.metrics import find_metric
from fettle.models.inspect_base import hash_files
from fettle.models.save import weights_sha256
from fettle.recipe.resolve import Settings
from fettle.records.facts import BaseFacts
from fettle.records.outcomes import SCHEMA, BaselineResult, Comparison, Verdict
from fettle.records.run_directory import (
    read_json,
    staged_directory,
    write_atomic,
    write_json,
    write_jsonl,
)
from fettle.stages.arms import base_arm, tuned_arm
from fettle.stages.baselines import answer_cheaply
from fettle.stages.context import Context
from fettle.stages.data import Tokens
from fettle.stages.exam import Answers, Exam
from fettle.stages.guarding import load_guards
from fettle.stages.lineage import seen_among
from fettle.stages.sealing import NO_SEAL, sealed_hash
from fettle.train.train import TrainingResult

TAMPERED = ("E0901", "E0905", "E0906", "E0920", "E0921")
"""Errors that say that rows, account or plan are not what was written."""


def evaluate_run(
    context: Context,
    settings: Settings,
    base: BaseFacts,
    prepared: Prepared,
    tokens: Tokens,
    training: TrainingResult,
    device: str,
) -> Verdict:
    """Measure both arms and the baselines on the holdout, and decide by the sealed plan."""
    note, place = context.journal.note, context.directory
    plan = read_json(place.plan)
    sealed = sealed_hash(context) or NO_SEAL
    fault = plan_fault(plan, sealed)
    if fault is not None:
        return void_verdict(context, fault)
    guards = load_guards(place.guards, plan["guards"], prepared, tokens)
    exam = Exam(settings, prepared, tokens, guards, device)
    note(f"evaluating {len(tokens.holdout):,} holdout rows: base")
    before = base_arm(context, base, exam)
    note("evaluating the holdout rows: tuned")
    after = tuned_arm(context, exam)
    baselines, left_aside = answer_cheaply(exam, base, note)
    seconds = {"base": before.seconds_per_row, "tuned": after.seconds_per_row}
    seconds |= {name: cheap.seconds_per_row for name, cheap in baselines.items()}
    measured = [find_metric(name) for name in (plan["metric"], *plan["secondary"])]
    examples = {row.row_id: row for row in prepared.examples["holdout"]}
    before, after = (
        replace(said, holdout=with_inputs(said.holdout, examples, measured))
        for said in (before, after)
    )
    with staged_directory(place.evaluation) as folder:
        arms = {"base": before, "tuned": after}
        for name, said in arms.items():
            write_jsonl(
                folder / f"predictions.{name}.jsonl", (row.to_json() for row in said.holdout)
            )
            if guards:
                write_jsonl(folder / f"guards.{name}.jsonl", _guard_lines(said))
        if after.validation:
            lines = (row.to_json() for row in after.validation)
            write_jsonl(folder / "predictions.validation.jsonl", lines)
        write_json(folder / "seconds.json", {"schema": SCHEMA, "seconds_per_row": seconds})
        grades = grades_of_arms({name: said.holdout for name, said in arms.items()}, measured)
        write_jsonl(folder / "grades.jsonl", (_as_json(grade) for grade in grades))
        write_json(folder / "baselines.json", _baselines_object(baselines))
        hashes = {path.name: hash_files((path,)) for path in sorted(folder.iterdir())}
        write_json(folder / "manifest.json", {"schema": SCHEMA, "sha256": hashes})
    weights = weights_sha256(place.model)
    looks = count_look(place.root, prepared.holdout_sha256, weights)
    holdout = prepared.examples["holdout"]
    incumbent = None if base.incumbent_run is None else Path(base.incumbent_run)
    twins = with_train_twin(prepared.splits, prepared.findings)
    verdict = decide(
        plan,
        before.holdout,
        after.holdout,
        sealed_sha256=sealed,
        asked=asked_for(settings),
        expected_row_ids={row.row_id for row in holdout},
        train_row_ids={row.row_id for row in tokens.train} | seen_among(holdout, incumbent),
        baselines={name: cheap.holdout for name, cheap in baselines.items()},
        holdout={
            "rows": len(holdout),
            "sha256": prepared.holdout_sha256,
            "looks": looks,
            "alpha_spent": spent_alpha(looks, float(plan["alpha"])),
            "rows_with_train_twin": len(twins),
            "rows_with_train_group": prepared.rows_with_train_group(),
            "left_out": dict(prepared.left_out),
        },
        weights={"sha256": weights},
        base_facts=base,
        seeds=[settings.seed],
        candidates_screened=training.looks,
        train_twins=twins,
        guards={
            guard.name: (before.guards[guard.name], after.guards[guard.name]) for guard in guards
        },
        guard_rows={guard.name: guard.sha256 for guard in guards},
    )
    if verdict.primary is not None:
        alpha = 1.0 - verdict.primary.confidence
        more = explored(plan, before.holdout, after.holdout, after.validation, alpha)
        verdict = replace(verdict, extra={**verdict.extra, **more})
    if left_aside:
        skipped = {**verdict.extra.get("skipped", {}), **left_aside}
        verdict = replace(verdict, extra={**verdict.extra, "skipped": skipped})
    return write_verdict(context, verdict)


def asked_for(settings: Settings) -> dict[str, Any]:
    """What the run's settings say of its judgement, in the words of the plan."""
    return {
        "metric": settings.metric,
        "alpha": settings.alpha_level,
        "minimum_difference": settings.minimum_difference,
        "resamples": settings.resamples,
    }


def void_verdict(context: Context, fault: str) -> Verdict:
    """An ``invalid`` verdict where nothing can be measured by the sealed plan any more.

    Args:
        context: of the run.
        fault: why, as a sentence without its full stop.

    Returns:
        What was known of holdout, weights and base stays; the figures go.
    """
    place = context.directory
    before = load_verdict(place.verdict) if place.verdict.is_file() else None
    fresh = Verdict("invalid", "", None)
    verdict = replace(
        before or fresh,
        verdict="invalid",
        reason=f"{fault}.",
        headline=f"INVALID  {fault}",
        primary=None,
        secondary=(),
        guards=(),
        baselines=(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        extra={},
    )
    return write_verdict(context, verdict)


def write_verdict(context: Context, verdict: Verdict) -> Verdict:
    """Write verdict.json and say what it is."""
    write_atomic(context.directory.verdict, verdict.dumps() + "\n")
    context.journal.emit("verdict", {"verdict": verdict.verdict, "headline": verdict.headline})
    return verdict


def load_verdict(path: Path) -> Verdict:
    """Read verdict.json back."""
    record = read_json(path)
    record.pop("schema")
    primary = record.pop("primary")
    return Verdict(
        primary=None if primary is None else Comparison(**primary),
        secondary=[Comparison(**item) for item in record.pop("secondary")],
        baselines=[BaselineResult(**item) for item in record.pop("baselines")],
        **record,
    )


def _guard_lines(said: Answers) -> list[dict[str, Any]]:
    return [{"guard": name, **row.to_json()} for name, rows in said.guards.items() for row in rows]


def _baselines_object(baselines: Mapping[str, Answers]) -> dict[str, Any]:
    found = {name: [row.to_json() for row in said.holdout] for name, said in baselines.items()}
    return {"schema": SCHEMA, "baselines": found}


def _as_json(grade: Any) -> dict[str, Any]:
    return {
        "row_id": grade.row_id,
        "arm": grade.arm,
        "metric": grade.metric,
        "value": grade.value,
        "reason": grade.reason,
    }
