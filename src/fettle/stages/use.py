"""Using a finished run: predict rows of a file, answer a conversation.

In: a run directory. Out: predictions, tokens of an answer. Must not know: how the run was made. The
renderer, the tokenizer and the limits are those of training.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fettle.chat.render import ChatTemplate
from fettle.chat.tokenizer import Tokenizer
from fettle.data.account.account import load_account
from fettle.data.meaning.conversations import role_of, turn_keys
from fettle.data.meaning.detect import Layout
from fettle.data.meaning.normalize import digest_of, normalize, row_id_of
from fettle.data.meaning.profile import as_text
from fettle.data.meaning.targets import TargetError, label_set, number
from fettle.data.reading.read import read
from fettle.data.tokenize import tokenize_classify
from fettle.errors import DataError, IntegrityError, UsageError
from fettle.inference.generate import generate, stream
from fettle.models.load import find_base, load_for_task
from fettle.models.machine import probe_device
from fettle.models.save import load_saved
from fettle.recipe.load import load_recipe
from fettle.recipe.recipe import BaseSection, DataSection
from fettle.recipe.resolve import load_facts
from fettle.records.outcomes import labels_as_text
from fettle.records.rows import Example, Message, RawRow
from fettle.records.run_directory import RunDirectory, read_json
from fettle.stages.labelled import is_labelled, say

MICRO_BATCH_TOKENS = 4096
UNKNOWN = "?"
"""Stands for the target of a row that is to be predicted; never shown to a model."""


@dataclass(frozen=True, slots=True)
class Speaker:
    """A model that answers: the tuned one of a run, or its base."""

    name: str
    model: torch.nn.Module
    tokenizer: Tokenizer
    template: ChatTemplate
    max_new_tokens: int

    def answer(
        self, messages: Sequence[Message], temperature: float = 0.0, seed: int = 0
    ) -> Iterator[str]:
        """Pieces of the answer's text, as they are written."""
        prompt = self.template.render_prompt(messages)
        ids: list[int] = []
        shown = ""
        for token in stream(
            self.model,
            prompt,
            self.max_new_tokens,
            set(self.template.stop_ids),
            self.tokenizer.pad_id or 0,
            temperature=temperature,
            seed=seed,
        ):
            ids.append(token)
            text = self.tokenizer.decode(ids)
            # A character of several bytes may not be whole yet.
            if not text.endswith("�"):
                yield text[len(shown) :]
                shown = text
        yield self.tokenizer.decode(ids)[len(shown) :]


def load_speaker(run: Path, max_new_tokens: int | None = None) -> Speaker:
    """The tuned model of a chat run.

    Raises:
        UsageError: E0112 no run, E0113 not a chat run.
    """
    place = _finished(run)
    loaded = load_saved(place.model, offline=_offline(place))
    if loaded.template is None:
        raise UsageError(
            "E0113",
            f"{run} is a {loaded.meta['task']} run and does not converse",
            hint=f"use `fettle predict {run} FILE`",
        )
    limit = max_new_tokens or loaded.meta["max_new_tokens"]
    model = loaded.model.to(probe_device())
    return Speaker("tuned", model, loaded.tokenizer, loaded.template, limit)


def load_base_speaker(run: Path, tuned: Speaker) -> Speaker:
    """The base that a run started from, with the same template and limits.

    Raises:
        IntegrityError: E0907, its weights are others now.
    """
    place = _finished(run)
    before = load_facts(place.resolved.read_text(encoding="utf-8"))["base"]
    # The id may be a folder relative to where the run was started.
    local = Path(before["path"]).is_dir()
    section = BaseSection(
        id=before["path"] if local else before["id"],
        revision=None if local else before["revision"],
        offline=_offline(place),
    )
    base = find_base(section, lambda line: None)
    if base.sha256 != before["sha256"]:
        raise IntegrityError(
            "E0907",
            f"the weights of the base {before['id']} have changed since {run} began",
            where=base.path,
            hint="put the base back as it was, or leave out --compare",
        )
    model = load_for_task(base, "chat", (), tuned.tokenizer.pad_id).to(probe_device())
    return Speaker("base", model, tuned.tokenizer, tuned.template, tuned.max_new_tokens)


def opening(run: Path) -> list[Message]:
    """The system message that the run was trained with, if there was one."""
    system = read_json(_finished(run).model / "fettle.json").get("system")
    return [Message("system", system)] if system else []


def predict_file(
    run: Path, paths: Sequence[str], options: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """One record for each row of the files, in their order; a row that can't be used says why.

    Args:
        run: a finished run of classify, regress or chat.
        paths: files or folders, in any format that ``run`` reads.
        options: fields of ``DataSection`` that override what the run's own columns say.

    Yields:
        ``{"row_id", "prediction", "reference"?, "probabilities"?}``, or ``{"row_id", "prediction":
        null, "error"}``.

    Raises:
        UsageError: E0112 no model, E0113 wrong task, E0114 the columns are not those of the run.
    """
    place = _finished(run)
    loaded = load_saved(place.model, offline=_offline(place))
    task, meta = loaded.meta["task"], loaded.meta
    if task == "text":
        raise UsageError(
            "E0113",
            f"{run} was trained on plain text and predicts no rows",
            hint=f"use it as a base: fettle run DATA --base {run}",
        )
    loaded.model.to(probe_device())
    rows = read(paths, DataSection(path=list(paths), **options)).rows
    layout = _layout(run, options)
    examples, errors = _questions(rows, layout, meta.get("system"))
    found: dict[str, dict[str, Any]] = {}
    pad_id = loaded.tokenizer.pad_id or 0
    if is_labelled(task):
        labels = meta["labels"]
        tokenized = tokenize_classify(examples, loaded.tokenizer, labels, meta["max_length"], "cut")
        noted = {f.row_id: f"{f.kind}: {f.evidence}" for f in tokenized.findings}
        errors |= {row.row_id: noted[row.row_id] for row in tokenized.quarantined}
        said = say(loaded.model, meta, tokenized.rows, pad_id, MICRO_BATCH_TOKENS)
        for row, (text, chances) in zip(tokenized.rows, said, strict=True):
            found[row.row_id] = {"prediction": text}
            if chances is not None:
                ordered = sorted(chances.items(), key=lambda item: -item[1])
                shown = {label: round(chance, 6) for label, chance in ordered[:5]}
                found[row.row_id]["probabilities"] = shown
    elif loaded.template is not None:
        prompts: dict[str, list[int]] = {}
        for row in examples:
            try:
                prompt = loaded.template.render_prompt(
                    row.messages[:-1], row.tools, where=row.row_id
                )
            except DataError as error:
                errors[row.row_id] = f"[{error.code}] {error.message}"
                continue
            if len(prompt) < meta["max_length"]:
                prompts[row.row_id] = prompt
            else:
                errors[row.row_id] = (
                    f"overlong: the prompt has {len(prompt)} tokens; the model reads"
                    f" {meta['max_length']} with the answer"
                )
        written = generate(
            loaded.model,
            list(prompts.values()),
            meta["max_new_tokens"],
            set(loaded.template.stop_ids),
            pad_id,
        )
        for row_id, ids in zip(prompts, written, strict=True):
            found[row_id] = {"prediction": loaded.tokenizer.decode(ids).strip()}
    target = layout.columns.get("label") or layout.columns.get("completion")
    for row, row_id in zip(rows, _row_ids(rows), strict=True):
        record = {"row_id": row_id} | found.get(
            row_id, {"prediction": None, "error": errors.get(row_id, "the row can't be read")}
        )
        reference = None if target is None else _reference(row.fields.get(target), layout)
        if row_id in found and reference is not None:
            record["reference"] = reference
        yield record


def _reference(value: Any, layout: Layout) -> str | None:
    """The target that a row brings along, as prediction files hold it; None when it has none."""
    try:
        if layout.task == "regress":
            return as_text(number(value))
        if layout.multi_label:
            return None if value is None else labels_as_text(label_set(value, layout.separator))
    except TargetError:
        return None
    return value if isinstance(value, str) else None


def _layout(run: Path, options: Mapping[str, Any]) -> Layout:
    """How the run reads a row, with the columns that the user named in place of its own."""
    layout = load_account(RunDirectory(run).data).layout
    roles = ("text", "label", "prompt", "completion", "messages")
    named = {role: str(options[role]) for role in roles if options.get(role) is not None}
    kept = {role: name for role, name in layout.columns.items() if role not in ("split", "group")}
    return replace(layout, columns={**kept, **named})


def _questions(
    rows: Sequence[RawRow], layout: Layout, system: str | None
) -> tuple[list[Example], dict[str, str]]:
    """Rows through the same normaliser as in training; a target that is not there is made up.

    Returns:
        Examples under the row ids of the rows as they are, and by row id what could not be used.
    """
    columns = layout.columns
    asked = next(role for role in ("messages", "text", "prompt") if role in columns)
    target = columns.get("label") or columns.get("completion")
    _require_column(rows, columns[asked], asked)
    filled = []
    for row in rows:
        fields = dict(row.fields)
        if target is not None and layout.task == "regress":
            fields[target] = "0"
        elif target is not None and (layout.multi_label or not fields.get(target)):
            fields[target] = UNKNOWN
        turns = fields.get(columns["messages"]) if asked == "messages" else None
        if isinstance(turns, list) and turns:
            speaker, words = turn_keys(turns[-1])
            if role_of(turns[-1]) != "assistant":
                fields[columns["messages"]] = [*turns, {speaker: "assistant", words: UNKNOWN}]
        filled.append(replace(row, fields=fields))
    examples, findings, _ = normalize(filled, layout, DataSection(path=["-"], system=system))
    ids = dict(zip(_row_ids(filled), _row_ids(rows), strict=True))
    errors = {ids[f.row_id]: f"{f.kind}: {f.evidence}" for f in findings if f.severity == "error"}
    unknown: dict[str, Any] = {"target": None, "labels": None, "number": None}
    return [replace(row, row_id=ids[row.row_id], **unknown) for row in examples], errors


def _require_column(rows: Sequence[RawRow], name: str, role: str) -> None:
    """A row may lack the column that is asked for; a whole file may not."""
    whole = [row for row in rows if row.malformed is None]
    for source in {row.source for row in whole}:
        fields = [row.fields for row in whole if row.source == source]
        if not any(name in found for found in fields):
            raise UsageError(
                "E0114",
                f"{source} has no column {name!r}, which the run reads",
                why=f"Its columns are {', '.join(fields[0])}",
                hint=f"name the column with --{role}",
            )


def _row_ids(rows: Sequence[RawRow]) -> list[str]:
    """The row ids that ``run`` would give these rows."""
    seen: Counter[str] = Counter()
    ids = []
    for row in rows:
        digest = digest_of(row.fields)
        seen[digest] += 1
        ids.append(row_id_of(digest, seen[digest]))
    return ids


def _offline(place: RunDirectory) -> bool:
    """Whether the run was made without a hub; a copied model/ may have no recipe beside it."""
    return place.recipe.is_file() and load_recipe(place.recipe).base.offline


def _finished(run: Path) -> RunDirectory:
    place = RunDirectory(run)
    if not (place.model / "fettle.json").is_file():
        raise UsageError(
            "E0112",
            f"{run} holds no trained model",
            hint=f"name a finished run; one that was stopped goes on with `fettle resume {run}`",
        )
    return place
