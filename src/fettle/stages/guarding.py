"""The rows of the guards: read like other rows, kept apart from training, stored with the run.

In: guard files of the recipe, the rows that are trained on. Out: guards.jsonl of the run, and for
each guard its examples and token ids. Must not know: what a guard shows.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from fettle.data.account.account import Prepared, example_from_json, example_to_json
from fettle.data.deduplicate import input_key
from fettle.data.meaning.detect import Layout, detect
from fettle.data.meaning.normalize import normalize
from fettle.data.reading.read import read
from fettle.data.tokenize import tokenize_chat, tokenize_classify, tokenize_text
from fettle.errors import UsageError
from fettle.evaluate.guards import GENERAL_TEXT, GENERAL_TEXT_MARGIN, default_margin, hash_lines
from fettle.evaluate.plan import task_metrics
from fettle.metrics import find_metric
from fettle.models.catalog import RANDOM, STARTER
from fettle.recipe.recipe import DataSection, GuardSection
from fettle.records.rows import Example, RawRow
from fettle.records.run_directory import read_jsonl, write_jsonl
from fettle.records.tokens import TokenizedExample
from fettle.stages.context import Context
from fettle.stages.data import Tokens
from fettle.stages.labelled import is_labelled

PASSAGES = "general_text.jsonl"
"""Inside ``fettle.evaluate``: short passages of general English, with their sources."""


@dataclass(frozen=True, slots=True)
class GuardRows:
    """One guard, ready to be answered."""

    name: str
    metric: str
    margin: float
    examples: list[Example]
    """Row ids begin with the guard's name, so that they differ from those of the holdout."""
    rows: list[TokenizedExample]
    file: str | None = None
    shared_with_train: int = 0
    left_out: int = 0

    @property
    def is_chat(self) -> bool:
        """Whether its rows are conversations."""
        return bool(self.examples[0].messages)

    @property
    def sha256(self) -> str:
        """Hash of the rows as they are stored."""
        return hash_lines(_lines(self))


def read_guards(context: Context, prepared: Prepared, tokens: Tokens) -> list[GuardRows]:
    """Read every guard of the recipe, and the general text of a generative run.

    Args:
        context: of the run.
        prepared: rows of the run; a guard's row that trains or chooses is left out and counted.
        tokens: tokenizer, template, longest row.

    Raises:
        UsageError: E1020, a guard that this run can't be tested on; E1021, all its rows are trained
            on; else as ``read`` says.
    """
    section = context.recipe.evaluate
    found = []
    margin = None if is_labelled(prepared.task) else _general_text_margin(context)
    if margin is not None:
        found.append(_guard(GENERAL_TEXT, "loss", margin, general_text(), prepared, tokens))
    for asked in section.guards:
        found.append(_read_guard(asked, context, prepared, tokens))
    names = [guard.name for guard in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(
            "E1020",
            f"two guards are called {twice[0]!r}",
            hint="give each a name of its own: evaluate: {guards: [{file: …, name: …}]}",
        )
    for guard in found:
        if guard.shared_with_train:
            context.journal.note(
                f"guard {guard.name}: {guard.shared_with_train:,} of its rows are trained on here,"
                f" and are left out; {len(guard.examples):,} remain"
            )
        if guard.left_out:
            context.journal.note(
                f"guard {guard.name}: {guard.left_out:,} rows can't be used and are left out"
            )
    return found


def write_guards(path: Path, guards: Sequence[GuardRows]) -> None:
    """Store the rows, so that the run can be judged again wherever the files have gone."""
    write_jsonl(path, (line for guard in guards for line in _lines(guard)))


def load_guards(
    path: Path, plan: Sequence[dict[str, Any]], prepared: Prepared, tokens: Tokens
) -> list[GuardRows]:
    """Read back what ``write_guards`` stored; a guard without any row left is not among them.

    Args:
        path: guards.jsonl.
        plan: guards of the plan.
        prepared: task and labels.
        tokens: tokenizer, template, longest row.
    """
    lines: dict[str, list[dict[str, Any]]] = {}
    for line in read_jsonl(path) if path.is_file() else ():
        lines.setdefault(line["guard"], []).append(line)
    found = []
    for guard in plan:
        examples = [example_from_json(line) for line in lines.get(guard["name"], ())]
        if examples:
            rows, _ = _tokenized(examples, prepared, tokens)
            found.append(GuardRows(guard["name"], guard["metric"], guard["margin"], examples, rows))
    return found


def general_text() -> list[Example]:
    """The passages of general English that ship with fettle."""
    text = resources.files("fettle.evaluate").joinpath(PASSAGES).read_text(encoding="utf-8")
    records = [json.loads(line) for line in text.splitlines()]
    return [
        Example(record["id"], PASSAGES, number, number, text=record["text"])
        for number, record in enumerate(records, start=1)
    ]


def _general_text_margin(context: Context) -> float | None:
    """What the loss on general text may rise by; None where nothing is to be lost."""
    asked = context.recipe.evaluate.general_text
    if asked is not None:
        return None if asked == "off" else asked
    base = context.recipe.base.id or STARTER
    if base != STARTER and not base.startswith(RANDOM):
        return GENERAL_TEXT_MARGIN
    context.journal.note(
        f"general text is not guarded: the base {base} has no general skill that would be missed;"
        f" --set evaluate.general_text={GENERAL_TEXT_MARGIN:g} guards it"
    )
    return None


def _lines(guard: GuardRows) -> Iterator[dict[str, Any]]:
    for example in guard.examples:
        yield {"guard": guard.name, **example_to_json(example)}


def _read_guard(
    asked: GuardSection, context: Context, prepared: Prepared, tokens: Tokens
) -> GuardRows:
    name = asked.name or Path(asked.file).stem
    options = DataSection(path=[asked.file], system=context.recipe.data.system)
    raw = read(options.path, options).rows
    layout = _layout(name, raw, options, prepared)
    examples, _, lost = normalize(raw, layout, options)
    if not examples:
        raise _unusable(name, f"none of the {len(raw):,} rows of {asked.file} can be used")
    judged_as = "multi_label" if layout.multi_label else layout.task
    metric = asked.metric or task_metrics(judged_as).primary
    needed = find_metric(metric).needs
    measured = {"classify": "prediction", "regress": "number", "text": "loss"}
    if needed != measured.get(layout.task, needed) and not layout.multi_label:
        raise _unusable(name, f"its metric {metric} needs a {needed}, which its rows have not")
    unknown = {label for row in examples for label in row.classes} - set(prepared.labels)
    if prepared.task == "classify" and unknown:
        raise _unusable(
            name,
            f"its label {sorted(unknown)[0]!r} is not among the {len(prepared.labels)} of this run",
        )
    margin = default_margin(find_metric(metric)) if asked.margin is None else asked.margin
    guard = _guard(name, metric, margin, examples, prepared, tokens)
    return replace(guard, file=asked.file, left_out=guard.left_out + len(lost))


def _layout(name: str, raw: Sequence[RawRow], options: DataSection, prepared: Prepared) -> Layout:
    """As the rows of the run are read, where the columns are the same; else as it is detected."""
    own = prepared.layout
    columns = {role: column for role, column in own.columns.items() if role != "split"}
    present = {field for row in raw if row.malformed is None for field in row.fields}
    needed = {columns[role] for role in columns if role not in ("group", "time", "system", "tools")}
    if needed <= present:
        kept = {role: column for role, column in columns.items() if column in present}
        return replace(own, columns=kept, ambiguities=())
    labelled = is_labelled(prepared.task)
    found = detect(raw, options, prepared.task if labelled else None)
    found = replace(found, columns={r: c for r, c in found.columns.items() if r != "split"})
    allowed = {prepared.task} if labelled else {"text", prepared.task}
    if found.task not in allowed or found.multi_label != prepared.multi_label:
        raise _unusable(name, f"its rows are of the task {found.task}, this run's {prepared.task}")
    return found


def _guard(
    name: str,
    metric: str,
    margin: float,
    examples: Sequence[Example],
    prepared: Prepared,
    tokens: Tokens,
) -> GuardRows:
    """Without rows that are trained on, and without those that can't be tokenized."""
    seen = {input_key(row) for side in ("train", "validation") for row in prepared.examples[side]}
    fresh = [row for row in examples if input_key(row) not in seen]
    if not fresh:
        raise UsageError(
            "E1021",
            f"all {len(examples):,} rows of the guard {name!r} are trained on in this run",
            why="What was trained on can't show that nothing else got worse",
            hint="give rows that are in no training file",
        )
    named = [replace(row, row_id=f"{name}/{row.row_id}", split=None) for row in fresh]
    rows, kept = _tokenized(named, prepared, tokens)
    if not rows:
        raise _unusable(name, f"none of its rows fits into {tokens.max_length:,} tokens")
    left = [row for row in named if row.row_id in kept]
    shared = len(examples) - len(fresh)
    return GuardRows(
        name, metric, margin, left, rows, shared_with_train=shared, left_out=len(fresh) - len(left)
    )


def _tokenized(
    examples: Sequence[Example], prepared: Prepared, tokens: Tokens
) -> tuple[list[TokenizedExample], set[str]]:
    """Token ids, and the ids of the rows that have some."""
    limit = tokens.max_length
    if is_labelled(prepared.task):
        found = tokenize_classify(examples, tokens.tokenizer, prepared.labels, limit, "cut")
    elif examples[0].messages and tokens.template is not None:
        found = tokenize_chat(examples, tokens.tokenizer, tokens.template, limit, "quarantine")
    else:
        found = tokenize_text(examples, tokens.tokenizer, limit, "split")
    return found.rows, {row.row_id for row in found.rows}


def _unusable(name: str, fault: str) -> UsageError:
    return UsageError(
        "E1020",
        f"the guard {name!r} can't be used: {fault}",
        hint="give a file with rows of the same task (any run that writes text also takes plain"
        " text), or leave the guard out",
    )
