"""Examples to token ids and loss masks.

In: examples, a tokenizer, for conversations a chat template. Out: tokenized rows, and for every row
that is not among them a reason. Nothing is shortened or left out without a finding. Must not know:
files, models, torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from fettle.chat.render import ChatTemplate, Rendered, Turns
from fettle.chat.tokenizer import Tokenizer
from fettle.errors import DataError, RecipeError
from fettle.records.rows import Example, Finding, Message, Severity, SplitRow
from fettle.records.tokens import TokenizedExample

Overlong = Literal["error", "quarantine", "split", "cut"]
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
            "split" makes several rows at the borders of turns (see ``split_conversation``); a row
            in which a single exchange is too long is quarantined.
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
            parts: list[Rendered] | None = None
            if overlong == "split" and len(rendered.ids) > max_length:
                parts = split_conversation(example, template, max_length, turns)
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
        if parts:
            out.overlong.append((example.row_id, len(rendered.ids)))
            _note_split(out, example, len(rendered.ids), max_length, len(parts))
            out.rows += [TokenizedExample(example.row_id, p.ids, p.mask) for p in parts]
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


def split_conversation(
    example: Example, template: ChatTemplate, max_length: int, turns: Turns = "all"
) -> list[Rendered] | None:
    """A conversation as several that fit, cut before turns of the user.

    Each part begins with the system message, if there is one. Parts do not overlap: every trained
    token is trained exactly once. They are filled from the end, so that the last answer sees the
    most of what was said before it. A part in which nothing is trained is left out.

    Args:
        example: with ``messages``.
        template: renders them.
        max_length: most tokens of a part.
        turns: train every answer of the whole conversation, or only its last.

    Returns:
        The parts in order; None when one exchange alone is too long.

    Raises:
        DataError, UsageError: see ``ChatTemplate.render_training``.
    """
    messages = list(example.messages)
    if turns == "last":
        last = max(i for i, turn in enumerate(messages) if turn.role == "assistant")
        messages = [
            replace(turn, weight=0.0) if turn.role == "assistant" and i != last else turn
            for i, turn in enumerate(messages)
        ]
    opening, exchanges = _exchanges(messages)
    parts: list[Rendered] = []
    end = len(exchanges)
    while end > 0:
        fitting: Rendered | None = None
        start = end
        while start > 0:
            inside = [turn for exchange in exchanges[start - 1 : end] for turn in exchange]
            rendered = template.render_training(
                [*opening, *inside], example.tools, where=place(example)
            )
            if len(rendered.ids) > max_length:
                break
            fitting, start = rendered, start - 1
        if fitting is None:
            return None
        parts.append(fitting)
        end = start
    return [part for part in reversed(parts) if any(part.mask)]


def _exchanges(messages: Sequence[Message]) -> tuple[list[Message], list[list[Message]]]:
    """The system messages at the beginning, and the rest cut before each turn of the user that
    follows an answer."""
    first = next(
        (i for i, turn in enumerate(messages) if turn.role not in ("system", "developer")),
        len(messages),
    )
    exchanges: list[list[Message]] = []
    answered = False
    for turn in messages[first:]:
        if not exchanges or (turn.role == "user" and answered):
            exchanges.append([])
            answered = False
        exchanges[-1].append(turn)
        asked = any(other.role == "user" for other in exchanges[-1])
        answered = answered or (asked and turn.role == "assistant")
    return list(messages[:first]), exchanges


def tokenize_classify(
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    labels: Sequence[str],
    max_length: int,
    overlong: Overlong,
) -> Tokenized:
    """Texts to ids, with what is to be told of them: a label, several labels, or a number.

    Args:
        examples: rows with ``text``; with ``labels``, the row gets the indices of those; with
            ``number``, that as it is; ``target`` None (a row to predict) gives none of them.
        tokenizer: the base's; its own tokens ([CLS], bos, ...) are put around each text.
        labels: the classes, in the model's order; none for numbers.
        max_length: most tokens of a row, with those.
        overlong: "cut" drops tokens at the end of the text, never the tokenizer's own; "split"
            is refused, since the parts of a text have no label of their own.

    Returns:
        Rows in the order of the examples, and what happened to the others.

    Raises:
        RecipeError: E0366, overlong="split".
        DataError: E0361 (with overlong="error"), E0362 a target that is no label.
    """
    if overlong == "split":
        raise RecipeError(
            "E0366",
            "train.overlong=split can't be used with a label or a number for each text",
            why="The parts of a text have none of their own",
            hint="choose `--set train.overlong=cut` (the beginning decides), `=quarantine` or"
            " `=error`",
        )
    index = {label: i for i, label in enumerate(labels)}
    unknown = [
        e for e in examples if e.number is None and any(label not in index for label in e.classes)
    ]
    if unknown:
        wrong = next(label for label in unknown[0].classes if label not in index)
        raise DataError(
            "E0362",
            f"{len(unknown):,} rows have a label that is not among the {len(labels)} known,"
            f" such as {wrong!r}",
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
        row = TokenizedExample(example.row_id, tuple(ids))
        if example.number is not None:
            row = replace(row, value=example.number)
        elif example.labels is not None:
            row = replace(row, labels=tuple(index[label] for label in example.labels))
        elif example.target is not None:
            row = replace(row, label=index[example.target])
        out.rows.append(row)
    _raise_overlong(out, examples, max_length, overlong)
    return out


def tokenize_text(
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    max_length: int,
    overlong: Overlong = "split",
) -> Tokenized:
    """Documents to consecutive pieces of at most max_length tokens; every token is kept.

    A document ends with the eos token, if the tokenizer has one. Its pieces share its row_id.
    Every token is a target; the first of each piece has nothing before it and is not predicted.

    Pieces do not overlap. An overlap would give a piece's first tokens more to look back at, but
    each token of it is either trained twice, which weighs the places of cuts more than the rest of
    the document, or computed and not trained, which costs as much as the tokens that it helps; and
    what it could win is one target in max_length.

    Args:
        examples: rows with ``text``.
        tokenizer: the base's.
        max_length: most tokens of a piece; at least 2.
        overlong: what becomes of a longer document; "cut" keeps its first piece.

    Returns:
        Rows in the order of the examples; documents in which no token can be predicted are
        quarantined.

    Raises:
        DataError: E0361 (with overlong="error").
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
        if len(ids) < 2:
            out.quarantine(
                example, "empty", "error", "one token alone predicts nothing", "take it out"
            )
            continue
        pieces = _pieces(ids, max_length)
        if len(pieces) > 1:
            out.overlong.append((example.row_id, len(ids)))
            if overlong in ("error", "quarantine"):
                _quarantine_overlong(out, example, len(ids), max_length)
                continue
            if overlong == "cut":
                _note_cut(out, example, len(ids), max_length)
                pieces = [ids[:max_length]]
            else:
                _note_split(out, example, len(ids), max_length, len(pieces))
        for piece in pieces:
            mask = (1,) * len(piece)
            out.rows.append(TokenizedExample(example.row_id, tuple(piece), mask))
    _raise_overlong(out, examples, max_length, overlong)
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
        lost = _lost_targets(row.num_targets - cut.num_targets, row.num_targets)
        if overlong != "cut" or cut.num_targets == 0:
            _quarantine_overlong(out, example, row.num_tokens, max_length, lost)
            return
        _note_cut(out, example, row.num_tokens, max_length, lost)
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


def _lost_targets(lost: int, num_targets: int) -> str:
    """What the evidence says of a target beyond the limit: half an answer is the worst cut."""
    if not lost:
        return "; its target is within them"
    if lost == num_targets:
        return f"; all {num_targets:,} tokens of the target lie beyond"
    return f"; the target would be cut: {lost:,} of its {num_targets:,} tokens lie beyond"


def _quarantine_overlong(
    out: Tokenized, example: Example, num_tokens: int, max_length: int, lost: str = ""
) -> None:
    out.quarantine(
        example,
        "overlong",
        "warning",
        f"{num_tokens:,} tokens, of at most {max_length:,}{lost}",
        f"train with `--set train.max_length={num_tokens}`, or shorten the row",
    )


def _note_split(
    out: Tokenized, example: Example, num_tokens: int, max_length: int, num_parts: int
) -> None:
    out.note(
        example,
        "overlong",
        "note",
        f"{num_tokens:,} tokens, of at most {max_length:,}: read in {num_parts:,} part(s), each"
        " without what stands before it",
        f"`--set train.max_length={num_tokens}` keeps it whole",
    )


def _note_cut(
    out: Tokenized, example: Example, num_tokens: int, max_length: int, lost: str = ""
) -> None:
    out.note(
        example,
        "truncated",
        "warning",
        f"the last {num_tokens - max_length:,} of {num_tokens:,} tokens were cut off"
        f"{lost.replace('would be', 'was')}",
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
        " train.overlong=quarantine` leaves them out; `=cut` cuts their end; `=split` makes several"
        " rows of a conversation or document",
    )


def _places(examples: Sequence[Example]) -> str:
    more = f" and {len(examples) - _NAMED:,} more" if len(examples) > _NAMED else ""
    return "; ".join(place(example) for example in examples[:_NAMED]) + more
