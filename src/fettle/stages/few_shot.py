"""Is a prompt enough? The untouched base with a few training rows in front of the question.

In: the rows, the base. Out: predictions on the holdout rows that are answered in full. Must not
know: the tuned model. Which rows stand in the prompt, and how many, is chosen on validation rows.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from fettle.data.tokenize import tokenize_chat
from fettle.errors import DataError
from fettle.models.load import load_for_task
from fettle.records.facts import BaseFacts
from fettle.records.outcomes import Prediction
from fettle.records.rows import Example, Message
from fettle.records.tokens import TokenizedExample
from fettle.stages.exam import Exam, answered_in_full, sample, write_and_weigh

NUM_SHOTS, DRAWS = (1, 3), 2
"""Prompts that are tried: so many examples, each in so many draws."""
VALIDATION_ROWS = 24
"""Rows on which a prompt is chosen."""


def few_shot(exam: Exam, base: BaseFacts) -> list[Prediction] | str:
    """See ``_few_shot``; a template that refuses such prompts is a reason why there are none."""
    try:
        return _few_shot(exam, base)
    except DataError as error:
        return f"[{error.code}] {error.message}"


def _few_shot(exam: Exam, base: BaseFacts) -> list[Prediction] | str:
    """The base's losses and answers with the best prompt; the reason where none fits.

    Args:
        exam: the rows.
        base: the base.

    Returns:
        Predictions on the rows that are answered in full and whose prompt fits into the length that
        is allowed, with the same target tokens as in the other arms.
    """
    tokens, prepared = exam.tokens, exam.prepared
    if tokens.template is None or not prepared.examples["train"]:
        return "there is nothing to put into a prompt"
    model = load_for_task(base, "text", (), tokens.tokenizer.pad_id).to(exam.device)
    chosen_on = sample(prepared.examples["validation"], VALIDATION_ROWS, exam.settings.seed)
    best: tuple[float, Sequence[Message]] | None = None
    for shots in _candidates(prepared.examples["train"], exam.settings.seed):
        examples, rows = _with_shots(chosen_on, shots, exam)
        # A prompt that leaves out half of the rows would be chosen by the short ones.
        if len(examples) <= len(chosen_on) / 2:
            continue
        said = write_and_weigh(model, examples, rows, (), exam)
        losses = math.fsum(row.loss_sum or 0.0 for row in said)
        loss = losses / max(1, sum(row.num_targets or 0 for row in said))
        if best is None or loss < best[0]:
            best = (loss, shots)
    if best is None:
        return f"no prompt with examples fits into {tokens.max_length:,} tokens"
    judged = answered_in_full(prepared.examples["holdout"], exam.settings)
    examples, rows = _with_shots(judged, best[1], exam)
    said = write_and_weigh(model, examples, rows, examples, exam) if examples else []
    counts: dict[str, int] = {}
    for row in tokens.holdout:
        counts[row.row_id] = counts.get(row.row_id, 0) + row.num_targets
    kept = [row for row in said if row.num_targets == counts.get(row.row_id)]
    return kept or "its prompt with examples leaves no room for the rows"


def _candidates(train: Sequence[Example], seed: int) -> list[Sequence[Message]]:
    """Turns of training rows, none of them trained on here."""
    generator = np.random.default_rng(seed)
    found: list[Sequence[Message]] = []
    train = [row for row in train if not row.tools] or train
    for number, _ in product(NUM_SHOTS, range(DRAWS)):
        picked = generator.permutation(len(train))[:number]
        turns = [turn for index in picked for turn in train[index].messages]
        found.append([replace(turn, weight=0.0) for turn in turns if turn.role != "system"])
    return found


def _with_shots(
    examples: Sequence[Example], shots: Sequence[Message], exam: Exam
) -> tuple[list[Example], list[TokenizedExample]]:
    """The rows with the shots after their system message; those that are too long are left out."""
    longer = [replace(row, messages=(*_system(row), *shots, *_talk(row))) for row in examples]
    tokens, settings = exam.tokens, exam.settings
    assert tokens.template is not None
    turns = "last" if settings.answers == "last" else "all"
    found = tokenize_chat(
        longer, tokens.tokenizer, tokens.template, tokens.max_length, "quarantine", turns
    )
    fits = {row.row_id for row in found.rows}
    return [row for row in longer if row.row_id in fits], found.rows


def _system(row: Example) -> tuple[Message, ...]:
    return tuple(turn for turn in row.messages[:1] if turn.role == "system")


def _talk(row: Example) -> tuple[Message, ...]:
    return row.messages[len(_system(row)) :]
