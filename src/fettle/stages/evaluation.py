"""Stage evaluate: both arms and the baselines on the sealed holdout, then the verdict.

In: the sealed plan, the trained model as it lies in model/. Out: evaluation/ and verdict.json. Must
not know: how the model was trained. The tuned arm is read back from disk: what is judged is what
is served.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from fettle.data.account import Prepared
from fettle.data.features import fit_linear, fit_probe, nearest_answers
from fettle.errors import UsageError
from fettle.evaluate.baselines import (
    LINEAR,
    MAJORITY,
    NEAREST,
    ZERO_SHOT,
    as_predictions,
    linear_classifier,
    majority_class,
    nearest_answer,
)
from fettle.evaluate.grade import grades_of_arms
from fettle.evaluate.plan import make_plan, plan_power, task_metrics
from fettle.evaluate.verdict import decide
from fettle.inference.generate import generate
from fettle.inference.predict import label_likelihoods, predict_labels, representations, row_losses
from fettle.metrics import find_metric
from fettle.models.forward import autocast
from fettle.models.inspect_base import hash_files
from fettle.models.load import MODEL_FILE, load_for_task
from fettle.models.save import LoadedModel, load_saved, weights_sha256
from fettle.recipe.resolve import Settings, load_facts
from fettle.records.facts import BaseFacts
from fettle.records.journal import read_events
from fettle.records.outcomes import SCHEMA, BaselineResult, Comparison, Prediction, Verdict
from fettle.records.rows import Example
from fettle.records.run_directory import (
    RunDirectory,
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
    metrics = task_metrics(prepared.task, settings.metric)
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
        prepared.task,
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
    base_arm = _base_arm(base, settings, prepared, tokens, device, note)
    note("evaluating the holdout rows: tuned")
    tuned_arm = _answers(
        load_saved(context.directory.model, note), settings, prepared, tokens, device
    )
    baselines = _baselines(base, settings, prepared, tokens, device, note)
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
    holdout_hash = prepared.holdout_sha256()
    weights = weights_sha256(context.directory.model)
    looks = count_look(context.directory.root, holdout_hash, weights)
    verdict = decide(
        plan,
        base_arm,
        tuned_arm,
        sealed_sha256=sealed_hash(context) or NO_SEAL,
        expected_row_ids={row.row_id for row in prepared.examples["holdout"]},
        train_row_ids={row.row_id for row in tokens.train} | trained_before(base),
        baselines=baselines,
        holdout={
            "rows": len(prepared.examples["holdout"]),
            "sha256": holdout_hash,
            "looks": looks,
            "alpha_spent": min(1.0, looks * settings.alpha_level),
            "rows_with_train_twin": None,
        },
        weights={"sha256": weights},
        base_facts=base,
        seeds=[settings.seed],
        candidates_screened=training.looks,
    )
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
    if prepared.task == "classify":
        found = predict_labels(
            model,
            tokens.holdout,
            loaded.meta["labels"],
            pad_id,
            settings.micro_batch_tokens,
        )
        return [
            _labelled(examples[row.row_id], probabilities)
            for row, probabilities in zip(tokens.holdout, found, strict=True)
        ]
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
    base: BaseFacts,
    settings: Settings,
    prepared: Prepared,
    tokens: Tokens,
    device: str,
    note: Any,
) -> list[Prediction]:
    """Arm A: the incumbent, the untouched base, or for classify a linear probe on the base."""
    incumbent = _incumbent(base, prepared)
    if incumbent is not None:
        note(f"the base arm is the run {base.incumbent_run}")
        return _answers(load_saved(incumbent, note), settings, prepared, tokens, device)
    model = load_for_task(base, prepared.task, prepared.labels, tokens.tokenizer.pad_id)
    if prepared.task != "classify":
        untouched = LoadedModel(model, tokens.tokenizer, tokens.template, {})
        return _answers(untouched, settings, prepared, tokens, device)
    model.to(device)
    pad_id = tokens.tokenizer.pad_id or 0
    with autocast(settings.dtype, device):
        features = [
            representations(model, rows, pad_id, settings.micro_batch_tokens)
            for rows in (tokens.train, tokens.validation, tokens.holdout)
        ]
    names = prepared.labels
    probe = fit_probe(
        features[0],
        [names[row.label or 0] for row in tokens.train],
        features[1],
        [names[row.label or 0] for row in tokens.validation],
        settings.seed,
    )
    examples = {row.row_id: row for row in prepared.examples["holdout"]}
    return [
        _labelled(examples[row.row_id], dict(zip(probe.labels, scores.tolist(), strict=True)))
        for row, scores in zip(tokens.holdout, probe.predict_proba(features[2]), strict=True)
    ]


def trained_before(base: BaseFacts) -> set[str]:
    """Rows that the earlier run behind this base, and the runs before it, chose weights on."""
    found: set[str] = set()
    run = base.incumbent_run
    while run is not None:
        place = RunDirectory(Path(run))
        splits = place.data / "splits.jsonl"
        if splits.is_file():
            found |= {
                row["row_id"]
                for row in read_jsonl(splits)
                if row["split"] in ("train", "validation")
            }
        run = (
            load_facts(place.resolved.read_text(encoding="utf-8"))["base"].get("incumbent_run")
            if place.resolved.is_file()
            else None
        )
    return found


def _incumbent(base: BaseFacts, prepared: Prepared) -> Path | None:
    """The model of the earlier run, where it can answer these rows: same task, some same label."""
    if base.incumbent_run is None:
        return None
    model = Path(base.incumbent_run) / "model"
    meta = read_json(model / MODEL_FILE)
    if meta["task"] != prepared.task:
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
) -> dict[str, list[Prediction]]:
    """Cheap alternatives on the same rows, trained on the same training rows."""
    train, holdout = prepared.examples["train"], prepared.examples["holdout"]
    found: dict[str, list[Prediction]] = {}
    for name in _baseline_names(prepared, base):
        note(f"baseline: {name}")
        if name == MAJORITY:
            found[name] = majority_class(train, holdout)
        elif name == LINEAR:
            found[name] = linear_classifier(train, holdout, fit_linear)
        elif name == NEAREST:
            found[name] = nearest_answer(train, _chosen(holdout, settings), nearest_answers)
        elif name == ZERO_SHOT:
            found[name] = _zero_shot(base, settings, prepared, tokens, device)
    return found


def _baseline_names(prepared: Prepared, base: BaseFacts) -> list[str]:
    if prepared.task == "chat":
        return [NEAREST]
    if prepared.task == "text":
        return []
    # An earlier run that classifies has no head that writes labels.
    writes = base.kind == "decoder" and base.incumbent_run is None
    return [MAJORITY, LINEAR, *([ZERO_SHOT] if writes else [])]


def _zero_shot(
    base: BaseFacts, settings: Settings, prepared: Prepared, tokens: Tokens, device: str
) -> list[Prediction]:
    """How likely the untouched decoder finds each label after the text."""
    model = load_for_task(base, "text", (), tokens.tokenizer.pad_id).to(device)
    most = max(1, ZERO_SHOT_COST // max(1, len(prepared.labels)))
    rows = _sample(prepared.examples["holdout"], most, settings.seed)
    encode = tokens.tokenizer.encode_plain
    before, _ = tokens.tokenizer.affixes
    room = tokens.max_length - 32
    prompts = [[*before, *encode(f"Text: {row.text}")[:room], *encode("\nLabel:")] for row in rows]
    labels = {label: encode(f" {label.replace('_', ' ')}") for label in prepared.labels}
    scores = label_likelihoods(model, prompts, labels, settings.micro_batch_tokens)
    return as_predictions(rows, [max(row, key=row.__getitem__) for row in scores])


def _labelled(example: Example, probabilities: Mapping[str, float]) -> Prediction:
    return Prediction(
        example.row_id,
        max(probabilities, key=probabilities.__getitem__),
        example.target or "",
        group=example.group,
        probabilities=probabilities,
    )


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
