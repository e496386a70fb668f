"""Stage evaluate: both arms and the baselines on the sealed holdout, then the verdict.

In: the sealed plan, the trained model as it lies in model/. Out: evaluation/ and verdict.json. Must
not know: how the model was trained. The tuned arm is read back from disk: what is judged is what
is served.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from fettle.data.account import Prepared
from fettle.data.check.leaks import with_train_twin
from fettle.data.features import fit_linear, nearest_answers
from fettle.data.linear import fit_text_label_sets, fit_text_numbers
from fettle.errors import UsageError
from fettle.evaluate.baselines import (
    LINEAR,
    LINEAR_SET,
    MAJORITY,
    MAJORITY_SET,
    MEAN,
    NEAREST,
    RIDGE,
    ZERO_SHOT,
    as_predictions,
    linear_classifier,
    linear_label_sets,
    linear_numbers,
    majority_class,
    nearest_answer,
    training_mean,
)
from fettle.evaluate.grade import grades_of_arms
from fettle.evaluate.plan import make_plan, plan_power, task_metrics
from fettle.evaluate.verdict import decide
from fettle.inference.generate import generate
from fettle.inference.predict import label_likelihoods, row_losses
from fettle.metrics import find_metric
from fettle.models.inspect_base import hash_files
from fettle.models.load import MODEL_FILE, load_for_task
from fettle.models.save import LoadedModel, load_saved, weights_sha256
from fettle.recipe.resolve import Settings
from fettle.records.facts import BaseFacts
from fettle.records.journal import read_events
from fettle.records.outcomes import SCHEMA, BaselineResult, Comparison, Prediction, Verdict
from fettle.records.rows import Example
from fettle.records.run_directory import (
    disk_errors,
    read_json,
    read_jsonl,
    staged_directory,
    write_atomic,
    write_json,
    write_jsonl,
)
from fettle.stages.context import Context
from fettle.stages.data import Tokens
from fettle.stages.labelled import answered, is_labelled, probed
from fettle.stages.lineage import seen_among
from fettle.train.train import TrainingResult

NO_SEAL = "no seal was noted"
"""No plan has this hash: one whose seal is gone from events.jsonl can't be trusted."""
ZERO_SHOT_COST = 40_000
"""Most rows x labels that a decoder scores without training; fewer holdout rows are taken above."""


def seal_plan(
    context: Context, settings: Settings, prepared: Prepared, base: BaseFacts
) -> dict[str, Any]:
    """Fix metric, test, rows and baselines before anything is trained; write plan.json.

    Raises:
        UsageError: E1007, the verdict would rest on answers, and not all rows are answered.
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
    plan = make_plan(
        prepared.judged_as,
        metrics.primary,
        alpha=settings.alpha_level,
        minimum_difference=settings.minimum_difference,
        n_holdout=len(holdout),
        clusters=clusters,
        seeds=[settings.seed],
        baselines=_baseline_names(prepared, base),
        secondary=metrics.secondary,
        display=metrics.display,
        power=plan_power(
            metrics.primary, len(holdout), clusters=clusters, alpha=settings.alpha_level
        ),
        num_resamples=settings.resamples,
        holdout_row_ids=[row.row_id for row in holdout],
    )
    write_json(context.directory.plan, plan)
    context.journal.emit("plan", {"sha256": plan["sha256"], "power": plan["power"]})
    return plan


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
    note = context.journal.note
    note(f"evaluating {len(tokens.holdout):,} holdout rows: base")
    base_arm = _base_arm(context, base, settings, prepared, tokens, device)
    note("evaluating the holdout rows: tuned")
    offline = context.recipe.base.offline
    tuned_arm = _answers(
        load_saved(context.directory.model, note, offline), settings, prepared, tokens, device
    )
    baselines, left_aside = _baselines(base, settings, prepared, tokens, device, note)
    plan = read_json(context.directory.plan)
    measured = [find_metric(name) for name in (plan["metric"], *plan["secondary"])]
    with staged_directory(context.directory.evaluation) as folder:
        arms = {"base": base_arm, "tuned": tuned_arm}
        for name, rows in arms.items():
            write_jsonl(folder / f"predictions.{name}.jsonl", (row.to_json() for row in rows))
        grades = grades_of_arms(arms, measured)
        write_jsonl(folder / "grades.jsonl", (_as_json(grade) for grade in grades))
        write_json(
            folder / "baselines.json",
            {
                "schema": SCHEMA,
                "baselines": {
                    name: [row.to_json() for row in rows] for name, rows in baselines.items()
                },
            },
        )
        hashes = {path.name: hash_files((path,)) for path in sorted(folder.iterdir())}
        write_json(folder / "manifest.json", {"schema": SCHEMA, "sha256": hashes})
    weights = weights_sha256(context.directory.model)
    looks = count_look(context.directory.root, prepared.holdout_sha256, weights)
    incumbent = None if base.incumbent_run is None else Path(base.incumbent_run)
    twins = with_train_twin(prepared.splits, prepared.findings)
    verdict = decide(
        plan,
        base_arm,
        tuned_arm,
        sealed_sha256=sealed_hash(context) or NO_SEAL,
        expected_row_ids={row.row_id for row in prepared.examples["holdout"]},
        train_row_ids={row.row_id for row in tokens.train}
        | seen_among(prepared.examples["holdout"], incumbent),
        baselines=baselines,
        holdout={
            "rows": len(prepared.examples["holdout"]),
            "sha256": prepared.holdout_sha256,
            "looks": looks,
            "alpha_spent": min(1.0, looks * settings.alpha_level),
            "rows_with_train_twin": len(twins),
            "rows_with_train_group": prepared.rows_with_train_group(),
            "left_out": dict(prepared.left_out),
        },
        weights={"sha256": weights},
        base_facts=base,
        seeds=[settings.seed],
        candidates_screened=training.looks,
        train_twins=twins,
    )
    if left_aside:
        skipped = {**verdict.extra.get("skipped", {}), **left_aside}
        verdict = replace(verdict, extra={**verdict.extra, "skipped": skipped})
    write_atomic(context.directory.verdict, verdict.dumps() + "\n")
    context.journal.emit("verdict", {"verdict": verdict.verdict, "headline": verdict.headline})
    return verdict


def sealed_hash(context: Context) -> str | None:
    """The plan's hash as events.jsonl noted it before training."""
    from_events = [
        event["sha256"]
        for event in read_events(context.directory.events)
        if event.get("event") == "plan"
    ]
    return from_events[0] if from_events else None


def count_look(run: Path, holdout_sha256: str, weights: str) -> int:
    """Note in the project's ledger that this holdout is opened; return the number of this look.

    The ledger is ``.fettle/looks.jsonl`` in the nearest ancestor that has ``.fettle/``, else beside
    the run, so that another --out does not reset it. Measuring the same weights again tells nothing
    new: it keeps its number.
    """
    run = run.resolve()
    home = next((p for p in run.parents if (p / ".fettle").is_dir()), run.parent)
    ledger = home / ".fettle" / "looks.jsonl"
    with disk_errors(ledger):
        ledger.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(ledger.with_suffix(".lock"))):
        # A writer that was killed leaves one behind; whoever has the lock knows that none is alive.
        for left_behind in ledger.parent.glob(f".{ledger.name}.tmp-*"):
            left_behind.unlink(missing_ok=True)
        looks = list(read_jsonl(ledger)) if ledger.is_file() else []
        same = [look for look in looks if look["holdout_sha256"] == holdout_sha256]
        for number, look in enumerate(same, start=1):
            if (look["run"], look.get("weights_sha256")) == (str(run), weights):
                return number
        look = {
            "schema": SCHEMA,
            "holdout_sha256": holdout_sha256,
            "weights_sha256": weights,
            "run": str(run),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_jsonl(ledger, [*looks, look])
    return len(same) + 1


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


def _answers(
    loaded: LoadedModel, settings: Settings, prepared: Prepared, tokens: Tokens, device: str
) -> list[Prediction]:
    """One arm's predictions on the holdout rows."""
    model = loaded.model.to(device)
    examples = {row.row_id: row for row in prepared.examples["holdout"]}
    pad_id = tokens.tokenizer.pad_id or 0
    if is_labelled(prepared.task):
        return answered(model, loaded.meta, settings, prepared, tokens)
    answers: dict[str, str] = {}
    if tokens.template is not None and settings.generate_rows:
        chosen = _chosen(list(examples.values()), settings)
        prompts = {
            row.row_id: tokens.template.render_prompt(row.messages[:-1], row.tools)
            for row in chosen
        }
        # Of a row that was cut, the last prompt alone may be longer than the base can read.
        prompts = {key: ids for key, ids in prompts.items() if len(ids) < tokens.max_length}
        written = generate(
            model,
            list(prompts.values()),
            settings.max_new_tokens,
            set(tokens.template.stop_ids),
            pad_id,
        )
        answers = {
            row_id: tokens.tokenizer.decode(ids).strip()
            for row_id, ids in zip(prompts, written, strict=True)
        }
    sums: dict[str, tuple[float, int]] = {}
    losses = row_losses(model, tokens.holdout, pad_id, settings.micro_batch_tokens)
    for row, (loss, count) in zip(tokens.holdout, losses, strict=True):
        # A long document is several pieces of one row.
        before = sums.get(row.row_id, (0.0, 0))
        sums[row.row_id] = (before[0] + loss, before[1] + count)
    return [
        Prediction(
            row_id,
            answers.get(row_id),
            examples[row_id].target or "",
            group=examples[row_id].group,
            loss_sum=loss,
            num_targets=count,
        )
        for row_id, (loss, count) in sums.items()
    ]


def _base_arm(
    context: Context,
    base: BaseFacts,
    settings: Settings,
    prepared: Prepared,
    tokens: Tokens,
    device: str,
) -> list[Prediction]:
    """Arm A: the incumbent, the untouched base, or a linear probe where a head is trained."""
    incumbent = _incumbent(base, prepared)
    if incumbent is not None:
        note = context.journal.note
        note(f"the base arm is the run {base.incumbent_run}")
        earlier = load_saved(incumbent, note, context.recipe.base.offline)
        return _answers(earlier, settings, prepared, tokens, device)
    model = load_for_task(
        base,
        prepared.task,
        prepared.labels,
        tokens.tokenizer.pad_id,
        multi_label=prepared.multi_label,
    )
    if not is_labelled(prepared.task):
        untouched = LoadedModel(model, tokens.tokenizer, tokens.template, {})
        return _answers(untouched, settings, prepared, tokens, device)
    return probed(model.to(device), settings, prepared, tokens, device)


def _incumbent(base: BaseFacts, prepared: Prepared) -> Path | None:
    """The model of the earlier run, where it can answer these rows: same task, some same label."""
    if base.incumbent_run is None:
        return None
    model = Path(base.incumbent_run) / "model"
    meta = read_json(model / MODEL_FILE)
    same = meta["task"] == prepared.task
    if not same or bool(meta.get("multi_label")) != prepared.multi_label:
        return None
    shares = prepared.task != "classify" or not set(meta["labels"]).isdisjoint(prepared.labels)
    return model if shares else None


def _baselines(
    base: BaseFacts,
    settings: Settings,
    prepared: Prepared,
    tokens: Tokens,
    device: str,
    note: Any,
) -> tuple[dict[str, list[Prediction]], dict[str, str]]:
    """Cheap alternatives on the same rows, trained on the same training rows.

    Returns:
        Name to predictions, and name to the reason why there are none.
    """
    train, holdout = prepared.examples["train"], prepared.examples["holdout"]
    found: dict[str, list[Prediction]] = {}
    skipped: dict[str, str] = {}
    for name in _baseline_names(prepared, base):
        note(f"baseline: {name}")
        if name == MAJORITY:
            found[name] = majority_class(train, holdout)
        elif name == LINEAR:
            found[name] = linear_classifier(train, holdout, fit_linear)
        elif name == MAJORITY_SET:
            found[name] = majority_class(train, holdout)
        elif name == LINEAR_SET:
            found[name] = linear_label_sets(train, holdout, fit_text_label_sets)
        elif name == MEAN:
            found[name] = training_mean(train, holdout)
        elif name == RIDGE:
            found[name] = linear_numbers(train, holdout, fit_text_numbers)
        elif name == NEAREST:
            found[name] = nearest_answer(train, _chosen(holdout, settings), nearest_answers)
        elif name == ZERO_SHOT:
            prompts = _zero_shot_prompts(prepared, tokens, settings.seed)
            if isinstance(prompts, str):
                skipped[name] = prompts
                note(f"baseline: {name} is left out: {prompts}")
            else:
                found[name] = _zero_shot(base, settings, prompts, tokens, device)
    return found, skipped


def _baseline_names(prepared: Prepared, base: BaseFacts) -> list[str]:
    if prepared.task == "chat":
        return [NEAREST]
    if prepared.task == "text":
        return []
    if prepared.task == "regress":
        return [MEAN, RIDGE]
    if prepared.multi_label:
        return [MAJORITY_SET, LINEAR_SET]
    # An earlier run that classifies has no head that writes labels.
    writes = base.kind == "decoder" and base.incumbent_run is None
    return [MAJORITY, LINEAR, *([ZERO_SHOT] if writes else [])]


@dataclass(frozen=True, slots=True)
class ZeroShot:
    """What a decoder without training is asked."""

    rows: list[Example]
    prompts: list[list[int]]
    labels: dict[str, list[int]]


def _zero_shot_prompts(prepared: Prepared, tokens: Tokens, seed: int) -> ZeroShot | str:
    """Prompts that leave room for the longest label; the reason where there is none for a text."""
    encode = tokens.tokenizer.encode_plain
    labels = {label: encode(f" {label.replace('_', ' ')}") for label in prepared.labels}
    before, _ = tokens.tokenizer.affixes
    after = encode("\nLabel:")
    taken = len(before) + len(after) + max(map(len, labels.values()))
    room = tokens.max_length - taken
    if room <= len(encode("Text:")):
        return (
            f"its prompt and the longest label leave no room for a text in the"
            f" {tokens.max_length:,} tokens that are allowed"
        )
    most = max(1, ZERO_SHOT_COST // max(1, len(labels)))
    rows = _sample(prepared.examples["holdout"], most, seed)
    prompts = [[*before, *encode(f"Text: {row.text}")[:room], *after] for row in rows]
    return ZeroShot(rows, prompts, labels)


def _zero_shot(
    base: BaseFacts, settings: Settings, asked: ZeroShot, tokens: Tokens, device: str
) -> list[Prediction]:
    """How likely the untouched decoder finds each label after the text."""
    model = load_for_task(base, "text", (), tokens.tokenizer.pad_id).to(device)
    scores = label_likelihoods(model, asked.prompts, asked.labels, settings.micro_batch_tokens)
    return as_predictions(asked.rows, [max(row, key=row.__getitem__) for row in scores])


def _chosen(examples: Sequence[Example], settings: Settings) -> list[Example]:
    """The holdout rows that are answered in full: always the same for all arms."""
    return _sample(examples, settings.generate_rows, settings.seed)


def _sample(examples: Sequence[Example], most: int, seed: int) -> list[Example]:
    if len(examples) <= most:
        return list(examples)
    order = np.random.default_rng(seed).permutation(len(examples))[:most]
    return [examples[i] for i in sorted(order)]


def _as_json(grade: Any) -> dict[str, Any]:
    return {
        "row_id": grade.row_id,
        "arm": grade.arm,
        "metric": grade.metric,
        "value": grade.value,
        "reason": grade.reason,
    }
