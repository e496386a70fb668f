"""The rows that every arm answers, and how a language model answers them.

In: rows, tokens, settings. Out: ``Exam``, ``Answers``; losses and texts of a model. Must not know:
which arm is asked, plans, verdicts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from fettle.data.account.account import Prepared
from fettle.inference.generate import generate
from fettle.inference.predict import row_losses
from fettle.recipe.resolve import Settings
from fettle.records.outcomes import Prediction
from fettle.records.rows import Example
from fettle.records.tokens import TokenizedExample
from fettle.stages.data import Tokens
from fettle.stages.guarding import GuardRows


@dataclass(frozen=True, slots=True)
class Answers:
    """One arm's predictions."""

    holdout: list[Prediction]
    guards: dict[str, list[Prediction]]
    """By the guard's name."""
    seconds_per_row: float
    """Wall-clock time of the holdout and guard rows, each alike."""
    validation: list[Prediction] = field(default_factory=list)
    """A head's word on the validation rows, which choose a threshold for abstaining."""


@dataclass(frozen=True, slots=True)
class Exam:
    """The rows that every arm answers, and how."""

    settings: Settings
    prepared: Prepared
    tokens: Tokens
    guards: Sequence[GuardRows]
    device: str


def write_and_weigh(
    model: torch.nn.Module,
    examples: Sequence[Example],
    rows: Sequence[TokenizedExample],
    chosen: Sequence[Example],
    exam: Exam,
) -> list[Prediction]:
    """The loss of every row, and the answers to some.

    Args:
        model: a causal language model on its device.
        examples: the rows.
        rows: their tokens; a long document is several.
        chosen: conversations that are answered in full.
        exam: template and limits.
    """
    answers = write(model, chosen, exam) if chosen else {}
    by_id = {row.row_id: row for row in examples}
    pad_id = exam.tokens.tokenizer.pad_id or 0
    sums: dict[str, tuple[float, int]] = {}
    losses = row_losses(model, rows, pad_id, exam.settings.micro_batch_tokens)
    for row, (loss, count) in zip(rows, losses, strict=True):
        # A long document is several pieces of one row.
        before = sums.get(row.row_id, (0.0, 0))
        sums[row.row_id] = (before[0] + loss, before[1] + count)
    return [
        Prediction(
            row_id,
            answers.get(row_id),
            by_id[row_id].target or "",
            group=by_id[row_id].group,
            loss_sum=loss,
            num_targets=count,
        )
        for row_id, (loss, count) in sums.items()
    ]


def write(model: torch.nn.Module, examples: Sequence[Example], exam: Exam) -> dict[str, str]:
    """Answers in full, by row id; rows whose prompt alone is too long have none.

    Args:
        model: a causal language model on its device.
        examples: conversations.
        exam: template and limits.
    """
    tokens = exam.tokens
    if tokens.template is None:
        return {}
    prompts = {
        row.row_id: tokens.template.render_prompt(row.messages[:-1], row.tools) for row in examples
    }
    # Of a row that was cut, the last prompt alone may be longer than the base can read.
    prompts = {key: ids for key, ids in prompts.items() if len(ids) < tokens.max_length}
    written = generate(
        model,
        list(prompts.values()),
        exam.settings.max_new_tokens,
        set(tokens.template.stop_ids),
        tokens.tokenizer.pad_id or 0,
    )
    return {
        row_id: tokens.tokenizer.decode(ids).strip()
        for row_id, ids in zip(prompts, written, strict=True)
    }


def answered_in_full(examples: Sequence[Example], settings: Settings) -> list[Example]:
    """The holdout rows that are answered in full: always the same for all arms."""
    return sample(examples, settings.generate_rows, settings.seed)


def sample(examples: Sequence[Example], most: int, seed: int) -> list[Example]:
    """At most so many rows, drawn by the seed, in their order."""
    if len(examples) <= most:
        return list(examples)
    order = np.random.default_rng(seed).permutation(len(examples))[:most]
    return [examples[i] for i in sorted(order)]
