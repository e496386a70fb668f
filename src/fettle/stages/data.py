"""Stage data: raw files -> the account on disk, and token ids under the base's own tokenizer.

In: the recipe and the base's facts. Out: data/ of the run; ``Tokens``. Must not know: models,
training.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import cast

from fettle.chat.preview import preview_chat
from fettle.chat.render import ChatTemplate
from fettle.chat.tokenizer import Tokenizer
from fettle.data.account import SIDES, Prepared, load_account, move_to_quarantine, write_account
from fettle.data.prepare import prepare
from fettle.data.tokenize import (
    Overlong,
    Tokenized,
    tokenize_chat,
    tokenize_classify,
    tokenize_text,
)
from fettle.errors import DataError
from fettle.recipe import defaults
from fettle.recipe.recipe import Recipe
from fettle.records.facts import BaseFacts, DataFacts
from fettle.records.rows import Example
from fettle.records.tokens import TokenizedExample
from fettle.stages.context import Context


@dataclass(frozen=True, slots=True)
class Tokens:
    """Every kept row as token ids."""

    tokenizer: Tokenizer
    template: ChatTemplate | None
    train: list[TokenizedExample]
    validation: list[TokenizedExample]
    holdout: list[TokenizedExample]
    max_length: int


def read_rows(context: Context) -> Prepared:
    """Read, check and split; or read back the account that an interrupted run wrote.

    Raises:
        DataError, UsageError: as ``prepare`` says.
    """
    if _is_written(context):
        return load_account(context.directory.data)
    return prepare(context.recipe.data, context.recipe.task, context.recipe.seed)


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
    tokenizer, template = _tokenizer(recipe, prepared.task, base)
    results = {
        side: tokenize(prepared, prepared.examples[side], tokenizer, template, recipe, base)
        for side in SIDES
    }
    tokens = _as_tokens(tokenizer, template, results, recipe, base)
    if _is_written(context):
        return prepared, tokens
    for warning in () if template is None else template.verify():
        context.journal.note(warning)
    for result in results.values():
        reasons = {row.reason for row in result.quarantined}
        for reason in sorted(reasons):
            moved = [row.row_id for row in result.quarantined if row.reason == reason]
            prepared = move_to_quarantine(prepared, moved, reason)
        prepared.findings.extend(result.findings)
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
    context.journal.emit("data", _summary(prepared, tokens))
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
    if prepared.task == "classify":
        return tokenize_classify(examples, tokenizer, prepared.labels, limit, overlong)
    if template is not None:
        return tokenize_chat(examples, tokenizer, template, limit, overlong)
    return tokenize_text(examples, tokenizer, limit)


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
    )


def _tokenizer(recipe: Recipe, task: str, base: BaseFacts) -> tuple[Tokenizer, ChatTemplate | None]:
    tokenizer = Tokenizer.load(base.path)
    if task != "chat":
        return tokenizer, None
    return tokenizer, ChatTemplate.choose(tokenizer, recipe.base.chat_template)


def _as_tokens(
    tokenizer: Tokenizer,
    template: ChatTemplate | None,
    results: dict[str, Tokenized],
    recipe: Recipe,
    base: BaseFacts,
) -> Tokens:
    return Tokens(
        tokenizer,
        template,
        results["train"].rows,
        results["validation"].rows,
        results["holdout"].rows,
        max_length(recipe, base),
    )


def _summary(prepared: Prepared, tokens: Tokens) -> dict[str, object]:
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
            preview_chat(first, tokens.template) if tokens.template is not None else _preview(first)
        ),
    }


def _preview(examples: Sequence[Example]) -> str:
    """classify, text: the first examples; what is trained stands in [[ ]]."""
    shown = []
    for number, row in enumerate(examples, start=1):
        text = " ".join((row.text or "").split())
        text = text if len(text) <= 200 else text[:199] + "…"
        trained = f"{text} -> [[{row.target}]]" if row.target is not None else f"[[{text}]]"
        shown.append(f"example {number}, {row.source}:{row.line or row.record}\n{trained}")
    return "\n\n".join(shown)
