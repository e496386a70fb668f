"""The cheap alternatives of a run, on the same holdout rows, trained on the same training rows.

In: the rows, their tokens, the base. Out: predictions by name, and why one was left out. Must not
know: the tuned model, verdicts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fettle.data.account.account import Prepared
from fettle.data.features.features import fit_linear, nearest_answers
from fettle.data.features.linear import fit_text_label_sets, fit_text_numbers
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
from fettle.inference.predict import label_likelihoods
from fettle.models.load import load_for_task
from fettle.recipe.resolve import Settings
from fettle.records.facts import BaseFacts
from fettle.records.outcomes import Prediction
from fettle.records.rows import Example
from fettle.stages.data import Tokens

ZERO_SHOT_COST = 40_000
"""Most rows x labels that a decoder scores without training; fewer holdout rows are taken above."""


def answer_cheaply(
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
    for name in baseline_names(prepared, base):
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
            found[name] = nearest_answer(
                train, answered_in_full(holdout, settings), nearest_answers
            )
        elif name == ZERO_SHOT:
            prompts = zero_shot_prompts(prepared, tokens, settings.seed)
            if isinstance(prompts, str):
                skipped[name] = prompts
                note(f"baseline: {name} is left out: {prompts}")
            else:
                found[name] = _zero_shot(base, settings, prompts, tokens, device)
    return found, skipped


def baseline_names(prepared: Prepared, base: BaseFacts) -> list[str]:
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


def answered_in_full(examples: Sequence[Example], settings: Settings) -> list[Example]:
    """The holdout rows that are answered in full: always the same for all arms."""
    return _sample(examples, settings.generate_rows, settings.seed)


def _sample(examples: Sequence[Example], most: int, seed: int) -> list[Example]:
    if len(examples) <= most:
        return list(examples)
    order = np.random.default_rng(seed).permutation(len(examples))[:most]
    return [examples[i] for i in sorted(order)]
