"""Stage data: raw files -> the account on disk, and token ids under the base's own tokenizer.

In: the recipe and the base's facts. Out: data/ of the run; ``Tokens``. Must not know: models,
training.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import cast

from fettle.chat.preview import preview_chat
from fettle.chat.render import ChatTemplate, Turns
from fettle.chat.tokenizer import Tokenizer
from fettle.data.account.account import (
    SIDES,
    Prepared,
    load_account,
    move_to_quarantine,
    with_findings,
    write_account,
)
from fettle.data.account.earlier import SPLITS, rows_of
from fettle.data.account.updates import compare_sides
from fettle.data.batches import num_shared_tokens
from fettle.data.cleaning.policy import refuse_errors
from fettle.data.preview import preview_rows
from fettle.data.sensitive import redact
from fettle.data.tokenize import (
    Overlong,
    Tokenized,
    tokenize_chat,
    tokenize_classify,
    tokenize_text,
)
from fettle.data.weigh import Scale, check_class_weights, scale_of, standardised, weighed
from fettle.errors import DataError
from fettle.models.vocabulary import check_vocabulary
from fettle.recipe import defaults
from fettle.recipe.recipe import Recipe
from fettle.records.facts import BaseFacts, DataFacts
from fettle.records.rows import Example
from fettle.records.run_directory import RunDirectory
from fettle.records.tokens import TokenizedExample
from fettle.stages.context import Context
from fettle.stages.lineage import earlier_rows, earlier_sides, run_of, without_account
from fettle.stages.sizing import prepare_sized


@dataclass(frozen=True, slots=True)
class Tokens:
    """Every kept row as token ids."""

    tokenizer: Tokenizer
    template: ChatTemplate | None
    train: list[TokenizedExample]
    validation: list[TokenizedExample]
    holdout: list[TokenizedExample]
    max_length: int
    scale: Scale | None = None
    """regress: the unit in which the rows' values count."""


def read_rows(context: Context) -> Prepared:
    """Read, check and split; or read back the account that an interrupted run wrote.

    Raises:
        DataError, UsageError: as ``prepare`` says.
    """
    recipe = context.recipe
    if _is_written(context):
        return load_account(context.directory.data)
    earlier = run_of(recipe.base.id)
    for run in without_account(earlier):
        context.journal.note(
            f"the account of the earlier run {run} is gone: rows that it trained on can't be told"
            " from new ones, and may stand in the holdout"
        )
    prepared = prepare_sized(recipe, earlier_sides(earlier), earlier_rows(earlier))
    refuse_errors(prepared.findings, recipe.data.policies, prepared.waived)
    account = None if earlier is None else RunDirectory(earlier).data
    if account is not None and (account / SPLITS).is_file():
        changes = compare_sides(rows_of(account), prepared.splits, str(earlier))
        prepared = replace(prepared, against=changes)
    return prepared


def tokenize_rows(context: Context, prepared: Prepared, base: BaseFacts) -> tuple[Prepared, Tokens]:
    """Turn every kept row into token ids; write data/ and say what was found.

    Args:
        context: of the run.
        prepared: from ``read_rows``.
        base: whose tokenizer and template are used.

    Raises:
        DataError: E0340, a side has no row left; else as the tokenizers say.
    """
    recipe = context.recipe
    weights = recipe.train.class_weights
    check_class_weights(weights, prepared.task, prepared.labels, prepared.multi_label)
    tokenizer, template = _tokenizer(recipe, prepared.task, base)
    results = {
        side: tokenize(prepared, prepared.examples[side], tokenizer, template, recipe, base)
        for side in SIDES
    }
    _leave_out_weightless(results["train"], prepared, recipe)
    tokens = _as_tokens(tokenizer, template, results, recipe, base, prepared)
    if _is_written(context):
        return prepared, tokens
    for warning in () if template is None else template.verify():
        context.journal.note(warning)
    for result in results.values():
        reasons = {row.reason for row in result.quarantined}
        for reason in sorted(reasons):
            moved = [row.row_id for row in result.quarantined if row.reason == reason]
            prepared = move_to_quarantine(prepared, moved, reason)
        prepared = with_findings(prepared, result.findings)
    refuse_errors(prepared.findings, recipe.data.policies, prepared.waived)
    for side in SIDES:
        if not prepared.examples[side]:
            raise DataError(
                "E0340",
                f"no {side} row is left after tokenizing",
                why=f"all are longer than the {max_length(recipe, base)} tokens that are allowed,"
                " or none has a token to learn from",
                hint="shorten the rows, raise train.max_length, or choose a base that reads more",
            )
    write_account(context.directory.data, prepared)
    context.journal.emit("data", _summary(prepared, tokens, recipe.train.answers))
    return prepared, tokens


def _is_written(context: Context) -> bool:
    return (context.directory.data / "manifest.json").is_file()


def tokenize(
    prepared: Prepared,
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    template: ChatTemplate | None,
    recipe: Recipe,
    base: BaseFacts,
) -> Tokenized:
    """Rows of one side to token ids, by task."""
    limit = max_length(recipe, base)
    overlong = cast(Overlong, recipe.train.overlong or defaults.overlong(prepared.task)[0])
    if prepared.task in ("classify", "regress"):
        return tokenize_classify(examples, tokenizer, prepared.labels, limit, overlong)
    if template is not None:
        turns = recipe.train.answers
        return tokenize_chat(examples, tokenizer, template, limit, overlong, turns)
    return tokenize_text(examples, tokenizer, limit, overlong)


def _leave_out_weightless(found: Tokenized, prepared: Prepared, recipe: Recipe) -> None:
    """Training rows whose label has the weight 0 teach nothing: they go to quarantine."""
    weights = recipe.train.class_weights
    if isinstance(weights, str) or prepared.multi_label:
        return
    examples = {row.row_id: row for row in prepared.examples["train"]}
    kept = []
    for row in found.rows:
        label = prepared.labels[row.label or 0]
        if weights.get(label, 1.0) > 0:
            kept.append(row)
            continue
        found.quarantine(
            examples[row.row_id],
            "zero_weight",
            "note",
            f"train.class_weights gives {label!r} the weight 0",
            "give the label a weight above 0 to train on its rows",
        )
    found.rows = kept


def max_length(recipe: Recipe, base: BaseFacts) -> int:
    """Most tokens of a row: what the user allows, at most what the base can read."""
    return min(recipe.train.max_length or base.context_length, base.context_length)


def data_facts(prepared: Prepared, tokens: Tokens) -> DataFacts:
    """What ``resolve`` must know of the data."""
    lengths = [row.num_tokens for row in (*tokens.train, *tokens.validation, *tokens.holdout)]
    groups = {row.group for row in prepared.examples["holdout"] if row.group is not None}
    return DataFacts(
        task=prepared.task,
        num_rows=prepared.counts() | {"train": len(tokens.train)},
        labels=prepared.labels,
        label_counts=prepared.label_counts(),
        median_tokens=float(median(lengths)),
        max_tokens=max(lengths),
        train_tokens=sum(row.num_tokens for row in tokens.train),
        target_tokens=sum(row.num_targets for row in tokens.train),
        num_groups=len(groups) or None,
        shared_tokens=num_shared_tokens(tokens.train),
        validation_tokens=sum(row.num_tokens for row in tokens.validation),
    )


def _tokenizer(recipe: Recipe, task: str, base: BaseFacts) -> tuple[Tokenizer, ChatTemplate | None]:
    tokenizer = Tokenizer.load(base.path)
    template = ChatTemplate.choose(tokenizer, recipe.base.chat_template) if task == "chat" else None
    check_vocabulary(tokenizer, base, template.source if template is not None else None)
    return tokenizer, template


def _as_tokens(
    tokenizer: Tokenizer,
    template: ChatTemplate | None,
    results: dict[str, Tokenized],
    recipe: Recipe,
    base: BaseFacts,
    prepared: Prepared,
) -> Tokens:
    rows = {side: result.rows for side, result in results.items()}
    scale = scale_of(rows["train"]) if prepared.task == "regress" and rows["train"] else None
    if scale is not None:
        rows = {side: standardised(found, scale) for side, found in rows.items()}
    return Tokens(
        tokenizer,
        template,
        weighed(rows["train"], prepared.labels, recipe.train.class_weights),
        rows["validation"],
        rows["holdout"],
        max_length(recipe, base),
        scale,
    )


def _summary(prepared: Prepared, tokens: Tokens, answers: Turns) -> dict[str, object]:
    """The "data" event: what is shown to the user before anything is trained."""
    reasons: dict[str, int] = {}
    for _, _, reason in prepared.quarantined:
        reasons[reason] = reasons.get(reason, 0) + 1
    kinds: dict[str, int] = {}
    for finding in prepared.findings:
        kinds[finding.kind] = kinds.get(finding.kind, 0) + 1
    first = prepared.examples["train"][:3]
    return {
        "rows": len(prepared.splits),
        "task": prepared.task,
        "layout": prepared.layout.to_json(),
        "counts": prepared.counts(),
        "quarantine": reasons,
        "findings": kinds,
        "labels": len(prepared.labels),
        "train_tokens": sum(row.num_tokens for row in tokens.train),
        "preview": (
            preview_chat(first, tokens.template, turns=answers, redact=redact)
            if tokens.template is not None
            else preview_rows(first)
        ),
    }
