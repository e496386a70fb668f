"""Examples to token ids and loss masks.

In: examples, a tokenizer, for conversations a chat template. Out: tokenized rows, and for every row
that is not among them a reason. Nothing is shortened or left out without a finding. Must not know:
files, models, torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from fettle.chat.render import ChatTemplate, Rendered, Turns
from fettle.chat.tokenizer import Tokenizer
from fettle.errors import DataError
from fettle.records.rows import Example, Finding, Severity, SplitRow
from fettle.records.tokens import TokenizedExample

Overlong = Literal["error", "quarantine", "cut"]
"""What becomes of a row that is longer than max_length."""

MAX_REFUSED: Final = 0.2
"""Share of rows that a chat template may refuse before the template is taken to be the fault."""
_NAMED: Final = 5
"""Rows that an error names."""


@dataclass(slots=True)
class Tokenized:
    """What came of the examples: each is in ``rows`` or in ``quarantined``."""

    rows: list[TokenizedExample] = field(default_factory=list)
    overlong: list[tuple[str, int]] = field(default_factory=list)
    """(row_id, tokens before any cut) of each row longer than max_length."""
    findings: list[Finding] = field(default_factory=list)
    quarantined: list[SplitRow] = field(default_factory=list)

    def note(
        self, example: Example, kind: str, severity: Severity, evidence: str, remedy: str
    ) -> None:
        """Add a finding."""
        self.findings.append(example.finding(kind, severity, evidence, remedy))

    def quarantine(
        self, example: Example, kind: str, severity: Severity, evidence: str, remedy: str
    ) -> None:
        """Keep a row out of training, with the reason."""
        self.note(example, kind, severity, evidence, remedy)
        self.quarantined.append(example.placed("quarantine", kind))


def tokenize_chat(
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    template: ChatTemplate,
    max_length: int,
    overlong: Overlong,
    turns: Turns = "all",
) -> Tokenized:
    """Conversations to ids, with a mask of the assistant's turns.

    Args:
        examples: rows with ``messages``.
        tokenizer: the base's; the template's own.
        template: renders them.
        max_length: most tokens of a row.
        overlong: "cut" drops tokens at the end; a row with no trained token left is quarantined.
        turns: train every answer of a conversation, or only the last.

    Returns:
        Rows in the order of the examples, and what happened to the others.

    Raises:
        DataError: E0361 (with overlong="error"), or what the template raises when it refuses more
            than a fifth of the rows.
        UsageError: E0704, E0705, E0709, E0702: the template can't be trained on such rows.
    """
    if template.tokenizer is not tokenizer:
        raise ValueError("the template belongs to another tokenizer")
    out = Tokenized()
    refused: list[DataError] = []
    for example in examples:
        try:
            rendered = template.render_training(
                example.messages, example.tools, where=place(example), turns=turns
            )
        except DataError as error:
            refused.append(error)
            out.quarantine(
                example,
                "template_refused",
                "error",
                f"[{error.code}] {error.message}",
                error.hint or "correct the row",
            )
            continue
        _add_chat_row(out, example, rendered, max_length, overlong)
    if refused and len(refused) > MAX_REFUSED * len(examples):
        first = refused[0]
        raise DataError(
            first.code,
            first.message,
            where=first.where,
            why=f"{len(refused):,} of {len(examples):,} conversations can't be rendered",
            hint=first.hint,
        ) from first
    _raise_overlong(out, examples, max_length, overlong)
    return out


def tokenize_classify(
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    labels: Sequence[str],
    max_length: int,
    overlong: Overlong,
) -> Tokenized:
    """Texts with a label to ids and the label's index.

    Args:
        examples: rows with ``text``; ``target`` None (a row to predict) gives label None.
        tokenizer: the base's; its own tokens ([CLS], bos, ...) are put around each text.
        labels: the classes, in the model's order.
        max_length: most tokens of a row, with those.
        overlong: "cut" drops tokens at the end of the text, never the tokenizer's own.

    Returns:
        Rows in the order of the examples, and what happened to the others.

    Raises:
        DataError: E0361 (with overlong="error"), E0362 a target that is no label.
    """
    index = {label: i for i, label in enumerate(labels)}
    unknown = [e for e in examples if e.target is not None and e.target not in index]
    if unknown:
        raise DataError(
            "E0362",
            f"{len(unknown):,} rows have a label that is not among the {len(labels)} known,"
            f" such as {unknown[0].target!r}",
            where=_places(unknown),
            hint="add rows with this label to the training data, or take these rows out",
        )
    before, after = tokenizer.affixes
    out = Tokenized()
    for example, body in _encode_texts(out, examples, tokenizer):
        ids = [*before, *body, *after]
        if not ids:
            out.quarantine(example, "empty", "error", "the row has no text", "take it out")
            continue
        if len(ids) > max_length:
            out.overlong.append((example.row_id, len(ids)))
            room = max_length - len(before) - len(after)
            if overlong != "cut" or room < 1:
                _quarantine_overlong(out, example, len(ids), max_length)
                continue
            _note_cut(out, example, len(ids), max_length)
            ids = [*before, *body[:room], *after]
        label = None if example.target is None else index[example.target]
        out.rows.append(TokenizedExample(example.row_id, tuple(ids), label=label))
    _raise_overlong(out, examples, max_length, overlong)
    return out


def tokenize_text(examples: Sequence[Example], tokenizer: Tokenizer, max_length: int) -> Tokenized:
    """Documents to consecutive pieces of at most max_length tokens; every token is kept.

    A document ends with the eos token, if the tokenizer has one. Its pieces share its row_id.
    Every token is a target; the first of each piece has nothing before it and is not predicted.

    Args:
        examples: rows with ``text``.
        tokenizer: the base's.
        max_length: most tokens of a piece; at least 2.

    Returns:
        Rows in the order of the examples; documents without text are quarantined.
    """
    if max_length < 2:
        raise ValueError("max_length must be at least 2")
    before, after = tokenizer.affixes
    if tokenizer.eos_id is not None and after[-1:] != [tokenizer.eos_id]:
        after = [*after, tokenizer.eos_id]
    out = Tokenized()
    for example, body in _encode_texts(out, examples, tokenizer):
        if not body:
            out.quarantine(example, "empty", "error", "the document has no text", "take it out")
            continue
        ids = [*before, *body, *after]
        for piece in _pieces(ids, max_length):
            mask = (1,) * len(piece)
            out.rows.append(TokenizedExample(example.row_id, tuple(piece), mask))
    return out


def place(example: Example) -> str:
    """Where a row comes from, for errors: file:line (or record) and row id."""
    at = example.line if example.line is not None else f"record {example.record}"
    return f"{example.source}:{at}, row {example.row_id}"


def _add_chat_row(
    out: Tokenized, example: Example, rendered: Rendered, max_length: int, overlong: Overlong
) -> None:
    row = TokenizedExample(example.row_id, rendered.ids, rendered.mask)
    if row.num_targets == 0:
        out.quarantine(
            example,
            "empty",
            "error",
            "no token of this conversation is trained",
            'give it an assistant turn with text and without "weight": 0',
        )
        return
    if row.num_tokens > max_length:
        out.overlong.append((row.row_id, row.num_tokens))
        cut = TokenizedExample(row.row_id, row.input_ids[:max_length], row.loss_mask[:max_length])
        if overlong != "cut" or cut.num_targets == 0:
            _quarantine_overlong(out, example, row.num_tokens, max_length)
            return
        _note_cut(out, example, row.num_tokens, max_length)
        row = cut
    out.rows.append(row)


def _encode_texts(
    out: Tokenized, examples: Sequence[Example], tokenizer: Tokenizer
) -> list[tuple[Example, list[int]]]:
    """Each example with the ids of its text, without affixes; what is no text is quarantined."""
    kept: list[Example] = []
    texts: list[str] = []
    for example in examples:
        text = example.text if example.text is not None else ""
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            out.quarantine(
                example,
                "encoding_error",
                "error",
                "the text holds half of a surrogate pair",
                "correct the row's encoding",
            )
            continue
        kept.append(example)
        texts.append(text)
    return list(zip(kept, tokenizer.encode_many(texts), strict=True))


def _pieces(ids: Sequence[int], max_length: int) -> list[Sequence[int]]:
    # A piece of one token would train nothing: the one before it gives one up.
    ends = [*range(max_length, len(ids), max_length), len(ids)]
    if len(ends) > 1 and ends[-1] - ends[-2] == 1 and max_length > 2:
        ends[-2] -= 1
    starts = [0, *ends[:-1]]
    return [ids[start:end] for start, end in zip(starts, ends, strict=True)]


def _quarantine_overlong(
    out: Tokenized, example: Example, num_tokens: int, max_length: int
) -> None:
    out.quarantine(
        example,
        "overlong",
        "warning",
        f"{num_tokens:,} tokens, of at most {max_length:,}",
        f"train with `--set train.max_length={num_tokens}`, or shorten the row",
    )


def _note_cut(out: Tokenized, example: Example, num_tokens: int, max_length: int) -> None:
    out.note(
        example,
        "truncated",
        "warning",
        f"the last {num_tokens - max_length:,} of {num_tokens:,} tokens were cut off",
        f"train with `--set train.max_length={num_tokens}`, or shorten the row",
    )


def _raise_overlong(
    out: Tokenized, examples: Sequence[Example], max_length: int, overlong: Overlong
) -> None:
    if overlong != "error" or not out.overlong:
        return
    ids = {row_id for row_id, _ in out.overlong}
    longest = max(count for _, count in out.overlong)
    raise DataError(
        "E0361",
        f"{len(out.overlong):,} rows are longer than {max_length:,} tokens; the longest has"
        f" {longest:,}",
        where=_places([example for example in examples if example.row_id in ids]),
        hint=f"`--set train.max_length={longest}` keeps them whole; `--set"
        " train.overlong=quarantine` leaves them out; `--set train.overlong=cut` cuts their end",
    )


def _places(examples: Sequence[Example]) -> str:
    more = f" and {len(examples) - _NAMED:,} more" if len(examples) > _NAMED else ""
    return "; ".join(place(example) for example in examples[:_NAMED]) + more
