"""What is said of a text as a whole, by a model with a head or by a probe: one label, several, or a
number.

In: a model, tokenized rows, their examples. Out: predictions on those rows. Must not know: plans,
verdicts, files.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from fettle.data.account.account import Prepared
from fettle.data.features.features import fit_probe
from fettle.data.features.linear import probe_label_sets, probe_numbers
from fettle.inference.predict import predict_labels, predict_numbers, representations
from fettle.models.forward import autocast
from fettle.models.load import ON_TOP
from fettle.recipe.resolve import Settings
from fettle.records.outcomes import Prediction, labels_as_text
from fettle.records.rows import Example
from fettle.records.tokens import TokenizedExample
from fettle.stages.data import Tokens

HALF = 0.5
"""A label applies from this probability on, where each is decided by itself."""
FLOOR = 1e-12
"""Smallest probability in a mean log-likelihood."""


def is_labelled(task: str) -> bool:
    """Whether the task is to say something of a text as a whole."""
    return task in ON_TOP


def say(
    model: torch.nn.Module,
    meta: Mapping[str, Any],
    rows: Sequence[TokenizedExample],
    pad_id: int,
    micro_batch_tokens: int,
) -> list[tuple[str, dict[str, float] | None]]:
    """A model's word on each row, as prediction files hold it, with probabilities of labels.

    Args:
        model: with the head of ``meta``.
        meta: fettle.json: task, labels, multi_label, scale.
        rows: tokenized texts.
        pad_id: fills up short rows.
        micro_batch_tokens: most tokens in a forward pass.
    """
    if meta["task"] == "regress":
        numbers = predict_numbers(
            model, rows, pad_id, micro_batch_tokens, meta["scale"]["mean"], meta["scale"]["spread"]
        )
        return [(number_as_text(number), None) for number in numbers]
    several = bool(meta.get("multi_label"))
    found = predict_labels(model, rows, meta["labels"], pad_id, micro_batch_tokens, several)
    return [(decided(chances, several), chances) for chances in found]


def decided(probabilities: Mapping[str, float], multi_label: bool) -> str:
    """The prediction that follows from probabilities."""
    if multi_label:
        return labels_as_text(label for label, chance in probabilities.items() if chance >= HALF)
    return max(probabilities, key=probabilities.__getitem__)


def number_as_text(number: float) -> str:
    """A predicted number with all the digits that a float32 has."""
    return f"{number:.9g}"


def head_meta(prepared: Prepared, tokens: Tokens) -> dict[str, Any]:
    """The part of fettle.json that says what a head's outputs mean.

    ``scale`` (regress): a stock model gives (number - mean) / spread.
    """
    return {
        "task": prepared.task,
        "labels": list(prepared.labels),
        "multi_label": prepared.multi_label,
        "scale": None if tokens.scale is None else asdict(tokens.scale),
    }


def validated(
    model: torch.nn.Module,
    settings: Settings,
    prepared: Prepared,
    tokens: Tokens,
) -> tuple[float, list[Prediction]]:
    """The model as it is now on the validation rows.

    Returns:
        Mean loss of the objective, every row and label with weight 1, and predictions.
    """
    said = say(
        model,
        head_meta(prepared, tokens),
        tokens.validation,
        tokens.tokenizer.pad_id or 0,
        settings.micro_batch_tokens,
    )
    examples = {row.row_id: row for row in prepared.examples["validation"]}
    predictions, losses = [], []
    for row, (text, chances) in zip(tokens.validation, said, strict=True):
        example = examples[row.row_id]
        predictions.append(_prediction(example, text, chances))
        if chances is None:
            assert tokens.scale is not None
            error = (float(text) - (example.number or 0.0)) / tokens.scale.spread
            losses.append(error * error)
        else:
            losses.append(_log_loss(chances, example.classes, prepared.multi_label))
    return math.fsum(losses) / len(losses), predictions


def _log_loss(chances: Mapping[str, float], truth: Sequence[str], multi_label: bool) -> float:
    if not multi_label:
        return -math.log(max(chances[truth[0]], FLOOR))
    own = (chance if label in truth else 1.0 - chance for label, chance in chances.items())
    return -math.fsum(math.log(max(chance, FLOOR)) for chance in own) / len(chances)


def answered(
    model: torch.nn.Module,
    meta: Mapping[str, Any],
    settings: Settings,
    prepared: Prepared,
    tokens: Tokens,
) -> list[Prediction]:
    """One model's predictions on the holdout rows."""
    said = say(
        model, meta, tokens.holdout, tokens.tokenizer.pad_id or 0, settings.micro_batch_tokens
    )
    examples = {row.row_id: row for row in prepared.examples["holdout"]}
    return [
        _prediction(examples[row.row_id], text, chances)
        for row, (text, chances) in zip(tokens.holdout, said, strict=True)
    ]


def probed(
    model: torch.nn.Module, settings: Settings, prepared: Prepared, tokens: Tokens, device: str
) -> list[Prediction]:
    """What the untouched base knows: a linear probe on its pooled states, on the holdout rows."""
    pad_id = tokens.tokenizer.pad_id or 0
    sides = (tokens.train, tokens.validation, tokens.holdout)
    with autocast(settings.dtype, device):
        train, validation, holdout = (
            representations(model, rows, pad_id, settings.micro_batch_tokens) for rows in sides
        )
    examples = {row.row_id: row for row in prepared.examples["holdout"]}
    judged = [examples[row.row_id] for row in tokens.holdout]
    names = prepared.labels
    if prepared.task == "regress":
        assert tokens.scale is not None
        values = [[row.value or 0.0 for row in rows] for rows in sides[:2]]
        numbers = probe_numbers(train, values[0], validation, values[1], holdout)
        mean, spread = tokens.scale.mean, tokens.scale.spread
        return [
            _prediction(example, number_as_text(mean + spread * number), None)
            for example, number in zip(judged, numbers, strict=True)
        ]
    if prepared.multi_label:
        sets = [[{names[i] for i in row.labels or ()} for row in rows] for rows in sides[:2]]
        found = probe_label_sets(train, sets[0], validation, sets[1], holdout, settings.seed)
        return [
            _prediction(example, decided(chances, True), chances)
            for example, chances in zip(judged, found, strict=True)
        ]
    labels = [[names[row.label or 0] for row in rows] for rows in sides[:2]]
    probe = fit_probe(train, labels[0], validation, labels[1], settings.seed)
    return [
        _prediction(example, decided(chances, False), chances)
        for example, chances in zip(
            judged,
            (
                dict(zip(probe.labels, scores.tolist(), strict=True))
                for scores in probe.predict_proba(holdout)
            ),
            strict=True,
        )
    ]


def _prediction(
    example: Example, text: str, probabilities: Mapping[str, float] | None
) -> Prediction:
    return Prediction(
        example.row_id,
        text,
        example.target or "",
        group=example.group,
        probabilities=probabilities,
    )
