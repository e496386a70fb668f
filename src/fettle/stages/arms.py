"""What an arm says about rows: the tuned model, the untouched base, a probe, or an earlier run.

In: a model and tokenized rows. Out: predictions on the holdout and on every guard, and how long
they took. Must not know: plans, verdicts, files of a run. Both arms go the same way, with the same
prompts and decoding.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fettle.data.account.account import Prepared
from fettle.metrics import find_metric
from fettle.models.load import MODEL_FILE, load_for_task
from fettle.models.save import LoadedModel, load_saved
from fettle.records.facts import BaseFacts
from fettle.records.outcomes import Prediction
from fettle.records.run_directory import read_json
from fettle.stages.context import Context
from fettle.stages.data import Tokens
from fettle.stages.exam import Answers, Exam, answered_in_full, write_and_weigh
from fettle.stages.labelled import answered, is_labelled, probed, validated


def tuned_arm(context: Context, exam: Exam) -> Answers:
    """Arm B: the trained model, read back from disk."""
    note, offline = context.journal.note, context.recipe.base.offline
    loaded = load_saved(context.directory.model, note, offline)
    found = _said_by(loaded, exam)
    if not is_labelled(exam.prepared.task):
        return found
    _, validation = validated(loaded.model, exam.settings, exam.prepared, exam.tokens)
    return replace(found, validation=validation)


def base_arm(context: Context, base: BaseFacts, exam: Exam) -> Answers:
    """Arm A: the incumbent, the untouched base, or a linear probe where a head is trained."""
    prepared, tokens = exam.prepared, exam.tokens
    incumbent = _incumbent(base, prepared)
    if incumbent is not None:
        note = context.journal.note
        note(f"the base arm is the run {base.incumbent_run}")
        return _said_by(load_saved(incumbent, note, context.recipe.base.offline), exam)
    model = load_for_task(
        base,
        prepared.task,
        prepared.labels,
        tokens.tokenizer.pad_id,
        multi_label=prepared.multi_label,
    )
    if not is_labelled(prepared.task):
        return _said_by(LoadedModel(model, tokens.tokenizer, tokens.template, {}), exam)
    started = time.monotonic()
    rows, everything = _with_guards(exam)
    found = probed(model.to(exam.device), exam.settings, everything, rows, exam.device)
    return _apart(found, exam, started)


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


def _said_by(loaded: LoadedModel, exam: Exam) -> Answers:
    """All rows answered by one model."""
    model = loaded.model.to(exam.device)
    started = time.monotonic()
    if is_labelled(exam.prepared.task):
        rows, everything = _with_guards(exam)
        found = answered(model, loaded.meta, exam.settings, everything, rows)
        return _apart(found, exam, started)
    examples = exam.prepared.examples["holdout"]
    chosen = answered_in_full(examples, exam.settings) if exam.settings.generate_rows else []
    found = write_and_weigh(model, examples, exam.tokens.holdout, chosen, exam)
    for guard in exam.guards:
        needs_answers = find_metric(guard.metric).needs != "loss"
        chosen = guard.examples if needs_answers else []
        found += write_and_weigh(model, guard.examples, guard.rows, chosen, exam)
    return _apart(found, exam, started)


def _with_guards(exam: Exam) -> tuple[Tokens, Prepared]:
    """Holdout and guards as one set of rows: a head, or a probe, answers them in one go."""
    rows = [row for guard in exam.guards for row in guard.rows]
    examples = [example for guard in exam.guards for example in guard.examples]
    prepared, tokens = exam.prepared, exam.tokens
    sides = dict(prepared.examples) | {"holdout": [*prepared.examples["holdout"], *examples]}
    return (
        replace(tokens, holdout=[*tokens.holdout, *rows]),
        replace(prepared, examples=sides),
    )


def _apart(found: Sequence[Prediction], exam: Exam, started: float) -> Answers:
    """The predictions of the holdout and of each guard."""
    seconds = time.monotonic() - started
    own = {row.row_id: guard.name for guard in exam.guards for row in guard.examples}
    guards: dict[str, list[Prediction]] = {guard.name: [] for guard in exam.guards}
    holdout = []
    for row in found:
        (guards[own[row.row_id]] if row.row_id in own else holdout).append(row)
    return Answers(holdout, guards, seconds / max(1, len(found)))
