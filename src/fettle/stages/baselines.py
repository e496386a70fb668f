"""The cheap alternatives of a run, on the same holdout rows, trained on the same training rows.

In: the rows, their tokens, the base. Out: predictions by name, and why one was left out. Must not
know: the tuned model, verdicts.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from fettle.data.account.account import Prepared
from fettle.data.features.features import fit_linear, nearest_answers
from fettle.data.features.linear import fit_text_label_sets, fit_text_numbers
from fettle.evaluate.baselines import (
    FEW_SHOT,
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
from fettle.inference.predict import label_likelihoods
from fettle.models.load import load_for_task
from fettle.records.facts import BaseFacts
from fettle.records.outcomes import Prediction
from fettle.records.rows import Example
from fettle.stages.data import Tokens
from fettle.stages.exam import Answers, Exam, answered_in_full, sample
from fettle.stages.few_shot import few_shot

ZERO_SHOT_COST = 40_000
"""Most rows x labels that a decoder scores without training; fewer holdout rows are taken above."""


def answer_cheaply(
    exam: Exam, base: BaseFacts, note: Callable[[str], None]
) -> tuple[dict[str, Answers], dict[str, str]]:
    """Cheap alternatives on the same rows, trained on the same training rows.

    Args:
        exam: the rows.
        base: the base.
        note: told of each.

    Returns:
        Name to answers, and name to the reason why there are none.
    """
    found: dict[str, Answers] = {}
    skipped: dict[str, str] = {}
    for name in baseline_names(exam.prepared, base):
        note(f"baseline: {name}")
        started = time.monotonic()
        said = _said(name, exam, base)
        if isinstance(said, str):
            skipped[name] = said
            note(f"baseline: {name} is left out: {said}")
        else:
            seconds = (time.monotonic() - started) / max(1, len(said))
            found[name] = Answers(said, {}, seconds)
    return found, skipped


def _said(name: str, exam: Exam, base: BaseFacts) -> list[Prediction] | str:
    """One alternative's predictions; the reason where it has none."""
    train, holdout = exam.prepared.examples["train"], exam.prepared.examples["holdout"]
    if name in (MAJORITY, MAJORITY_SET):
        return majority_class(train, holdout)
    if name == LINEAR:
        return linear_classifier(train, holdout, fit_linear)
    if name == LINEAR_SET:
        return linear_label_sets(train, holdout, fit_text_label_sets)
    if name == MEAN:
        return training_mean(train, holdout)
    if name == RIDGE:
        return linear_numbers(train, holdout, fit_text_numbers)
    if name == NEAREST:
        return nearest_answer(train, answered_in_full(holdout, exam.settings), nearest_answers)
    if name == FEW_SHOT:
        return few_shot(exam, base)
    prompts = zero_shot_prompts(exam.prepared, exam.tokens, exam.settings.seed)
    return prompts if isinstance(prompts, str) else _zero_shot(base, prompts, exam)


def baseline_names(prepared: Prepared, base: BaseFacts) -> list[str]:
    """The alternatives of a run, as the plan names them."""
    if prepared.task == "chat":
        return [NEAREST, *([FEW_SHOT] if base.incumbent_run is None else [])]
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


def zero_shot_prompts(prepared: Prepared, tokens: Tokens, seed: int) -> ZeroShot | str:
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
    rows = sample(prepared.examples["holdout"], most, seed)
    prompts = [[*before, *encode(f"Text: {row.text}")[:room], *after] for row in rows]
    return ZeroShot(rows, prompts, labels)


def _zero_shot(base: BaseFacts, asked: ZeroShot, exam: Exam) -> list[Prediction]:
    """How likely the untouched decoder finds each label after the text."""
    model = load_for_task(base, "text", (), exam.tokens.tokenizer.pad_id).to(exam.device)
    budget = exam.settings.micro_batch_tokens
    scores = label_likelihoods(model, asked.prompts, asked.labels, budget)
    return as_predictions(asked.rows, [max(row, key=row.__getitem__) for row in scores])
