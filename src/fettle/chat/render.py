"""Conversations to token ids through a chat template: the only code that renders templates.

In: messages, a template, a tokenizer. Out: for training, ids with the mask of what the assistant
writes; for serving, the ids of the prompt. Both come from the same function, and a prompt is always
the beginning of the training ids of the same conversation. Must not know: rows, files, torch.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import jinja2
import jinja2.exceptions

from fettle.chat.builtin import BUILTIN, builtin
from fettle.chat.environment import GENERATION, CompiledTemplate, TemplateLimit
from fettle.chat.marked import MarkedText, take_out
from fettle.chat.messages import Conversation, Marks, as_conversation
from fettle.chat.pieces import Region, encode_pieces
from fettle.chat.tokenizer import Encoded, Tokenizer, token_pattern
from fettle.errors import BaseModelError, DataError, UsageError
from fettle.records.rows import Message

Turns = Literal["all", "last"]
"""Which answers of a conversation are trained: every one, or only the last."""

OTHER_TEMPLATE: Final = (
    "use another template: `--set base.chat_template=chatml`, `=plain`, or a template file"
)


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation ready for training."""

    text: str
    ids: tuple[int, ...]
    mask: tuple[float, ...]
    """As long as ids; the weight with which the model is trained to write each token, 0 = it is
    not. Tokens of an answer have the weight of its message."""
    spans: tuple[Region, ...]
    """The trained character ranges of the text."""


class ChatTemplate:
    """A chat template bound to a tokenizer.

    Args:
        source: Jinja source.
        tokenizer: encodes what the template renders.
        now: what the template is told as the present time; None for the real time.

    Raises:
        UsageError: E0702, the source is not a template.
    """

    def __init__(self, source: str, tokenizer: Tokenizer, now: datetime | None = None) -> None:
        try:
            self._compiled = CompiledTemplate(source, now)
        except (jinja2.TemplateSyntaxError, RecursionError) as error:
            line = error.lineno if isinstance(error, jinja2.TemplateSyntaxError) else None
            raise UsageError(
                "E0702",
                f"the chat template can't be read: {error}",
                where=f"line {line} of the template" if line else "",
                hint=OTHER_TEMPLATE,
            ) from error
        self.source = source
        self.tokenizer = tokenizer
        self.has_generation_tags = self._compiled.has_generation
        special = set(tokenizer.special_tokens)
        # An added token that the template writes controls the chat too; white space never does.
        controls = special | {
            token
            for token in tokenizer.added_tokens
            if token in self._compiled.literals and not token.isspace()
        }
        self._special = token_pattern(special)
        self._control = token_pattern(controls)
        self._ends_in_control = re.compile(f"(?:{self._control.pattern})\\Z")

    @classmethod
    def choose(
        cls, tokenizer: Tokenizer, option: str | None = None, now: datetime | None = None
    ) -> "ChatTemplate":
        """The template to use: the option if there is one, else the tokenizer's own.

        Args:
            tokenizer: encodes what the template renders.
            option: "plain", "chatml", a template file, or None (recipe key base.chat_template).
            now: see ChatTemplate.

        Raises:
            BaseModelError: E0701 neither brings a template, E0708 a built-in template needs a
                token that the tokenizer lacks.
            UsageError: E0710 no such file or built-in template.
        """
        if option is None:
            if tokenizer.chat_template is None:
                raise BaseModelError(
                    "E0701",
                    f"the tokenizer of {tokenizer.directory} has no chat template",
                    why="without one it is not known how a conversation becomes text",
                    hint="add `--set base.chat_template=plain` (works with every base), `=chatml`,"
                    " or `=FILE` with a Jinja template",
                )
            return cls(tokenizer.chat_template, tokenizer, now)
        if option in BUILTIN:
            return cls(builtin(option, tokenizer), tokenizer, now)
        try:
            source = Path(option).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise UsageError(
                "E0710",
                f"the chat template {option!r} is neither built in nor a file that can be read",
                why=str(error),
                hint="use `--set base.chat_template=plain`, `=chatml`, or the path of a file",
            ) from error
        return cls(source, tokenizer, now)

    # --- serving -------------------------------------------------------------------------------

    def render_prompt(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        where: str = "",
    ) -> list[int]:
        """Token ids of a conversation and the beginning of the assistant's next turn.

        Args:
            messages: the conversation so far.
            tools: JSON schemas of the tools that the assistant may call.
            where: named in errors (a row id).

        Returns:
            Ids; the model's answer follows them.

        Raises:
            DataError: E0703 the template refuses the conversation, E0706, E0707, E0712.
        """
        chat = self._conversation(messages, tools, where)
        prompt = self._render(chat, len(chat.messages), True, where)
        self._check_nothing_lost(chat, prompt, where)
        return self._encode(prompt, self._starts(chat, prompt, where), where).ids

    def render_text(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        add_generation_prompt: bool = False,
        where: str = "",
    ) -> str:
        """The text that a conversation becomes."""
        chat = self._conversation(messages, tools, where)
        return self._render(chat, len(chat.messages), add_generation_prompt, where).text

    # --- training ------------------------------------------------------------------------------

    def render_training(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        where: str = "",
        turns: Turns = "all",
    ) -> Rendered:
        """Token ids of a conversation, and the mask of what the assistant is trained to write.

        Trained is what stands between {% generation %} tags; for a template without them, the
        difference that an answer makes to the text, through its end-of-turn token, which is
        checked to be the same in the whole conversation. Turns with weight 0 are not trained;
        other weights become those of the turn's tokens.

        Args:
            messages: the whole conversation.
            tools: JSON schemas of the tools that the assistant may call.
            where: named in errors (a row id).
            turns: train every answer, or only the last.

        Returns:
            Text, ids, mask and trained character ranges.

        Raises:
            DataError: E0703, E0706, E0707, E0712: this conversation can't be rendered.
            UsageError: E0704, E0705, E0709: this template can't be trained on such conversations.
        """
        chat = self._conversation(messages, tools, where)
        whole = self._render(chat, len(chat.messages), False, where)
        self._check_nothing_lost(chat, whole, where)
        starts = self._starts(chat, whole, where)
        assistants = chat.assistants
        candidates = assistants[-1:] if turns == "last" else assistants
        spans: list[Region] = []
        weights: list[float] = []
        for turn in (i for i in candidates if chat.weights[i] > 0):
            start = starts.get(turn)
            if turn == 0:
                raise DataError(
                    "E0706",
                    "the conversation opens with the assistant: there is nothing that it answers",
                    where=where,
                    hint='give that message "weight": 0, or take it out',
                )
            if start is None:
                raise self._untrainable(turn, turn == assistants[-1], where)
            found = (
                self._tagged(chat, whole, turn, start, where)
                if self.has_generation_tags
                else [self._derived(chat, whole, turn, start, where)]
            )
            self._check_answer(chat, whole, turn, found, where)
            spans += found
            weights += [chat.weights[turn]] * len(found)
        encoded = self._encode(whole, starts, where)
        return Rendered(
            text=whole.text,
            ids=tuple(encoded.ids),
            mask=_mask(encoded, spans, weights),
            spans=tuple(spans),
        )

    def verify(self) -> tuple[str, ...]:
        """Try the template on a small conversation.

        Returns:
            What a user should know; empty when all is well.

        Raises:
            UsageError: it can't be used for training (E0704, E0709, E0703).
        """
        try:
            rendered = self.render_training(_PROBE)
        except DataError as error:
            raise UsageError(
                error.code,
                f"the chat template fails on a question and an answer: {error.message}",
                why=error.why,
                hint=OTHER_TEMPLATE,
            ) from error
        if not any(rendered.mask):
            raise self._untrainable(1, True, "")
        last = max(i for i, trained in enumerate(rendered.mask) if trained)
        if not self.tokenizer.is_added(rendered.ids[last]):
            if self._end_of_turn is None:
                raise self._endless("")
            return (
                "the template's {% generation %} tags leave out the end-of-turn token: stopping"
                " is not trained",
            )
        return ()

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end an answer: the template's end-of-turn token and the tokenizer's eos."""
        ids = (self._end_of_turn, self.tokenizer.eos_id)
        return tuple(dict.fromkeys(i for i in ids if i is not None))

    @cached_property
    def _end_of_turn(self) -> int | None:
        """The first added token from the end of an answer on."""
        rendered = self.render_training(_PROBE)
        answer = rendered.text.rfind(_PROBE[-1].content)
        encoded = self.tokenizer.encode_offsets(rendered.text)
        for index, start in zip(encoded.ids, encoded.starts, strict=True):
            if start >= answer + len(_PROBE[-1].content) and self.tokenizer.is_added(index):
                return index
        return None

    # --- inside --------------------------------------------------------------------------------

    def _conversation(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], where: str
    ) -> Conversation:
        if tools and "tools" not in self._compiled.variables:
            raise DataError(
                "E0711",
                "the conversation has tools, and the chat template has no place for them",
                where=where,
                hint=OTHER_TEMPLATE,
            )
        return as_conversation(messages, tools, self._control, self._special, where)

    def _render(self, chat: Conversation, count: int, prompt: bool, where: str) -> MarkedText:
        """The first ``count`` messages, with or without the beginning of the next answer."""
        marks = chat.marks
        variables: dict[str, Any] = {
            **self.tokenizer.named_tokens,
            GENERATION: (marks.generation_start, marks.generation_end),
            "messages": chat.messages[:count],
            "tools": chat.tools,
            "documents": None,
            "add_generation_prompt": prompt,
        }
        try:
            marked = self._compiled.render(**variables)
        except jinja2.exceptions.SecurityError as error:
            raise UsageError(
                "E0702",
                f"the chat template does what no template may: {error.message}",
                where=where,
                hint=OTHER_TEMPLATE,
            ) from error
        except (
            jinja2.TemplateError,
            TemplateLimit,
            ArithmeticError,
            AttributeError,
            LookupError,
            MemoryError,
            RecursionError,
            TypeError,
            ValueError,
        ) as error:
            raise DataError(
                "E0703",
                f"the chat template refuses the conversation: {_without(str(error), marks)}",
                where=where,
                hint=f"correct the row, or {OTHER_TEMPLATE}",
            ) from error
        return take_out(marked, marks, self._control)

    def _starts(self, chat: Conversation, whole: MarkedText, where: str) -> dict[int, int]:
        """Where each answer starts: after the prompt for it, if the text goes on from that prompt.

        A turn is missing when the template writes its history differently from the prompt that
        was answered. Depends on the text before each answer only, so that the starts in a prompt
        are those of the whole conversation.
        """
        starts: dict[int, int] = {}
        for turn in chat.assistants:
            if turn == 0:
                continue  # an opening by the assistant answers nothing
            prompt = self._render(chat, turn, True, where)
            if whole.begins_with(prompt):
                starts[turn] = len(prompt.text)
        return starts

    def _tagged(
        self, chat: Conversation, whole: MarkedText, turn: int, start: int, where: str
    ) -> list[Region]:
        """The turn's tagged ranges; the part of them that the prompt already holds is left out."""
        assistants = chat.assistants
        first, end = 0, len(whole.generated)
        if turn != assistants[0]:
            first = len(self._render(chat, turn, False, where).generated)
        if turn != assistants[-1]:
            end = len(self._render(chat, turn + 1, False, where).generated)
        found = [
            (max(start, left), right) for left, right in whole.generated[first:end] if right > start
        ]
        if not found or found[0][0] != start:
            raise self._untrainable(turn, turn == assistants[-1], where)
        return found

    def _derived(
        self, chat: Conversation, whole: MarkedText, turn: int, start: int, where: str
    ) -> Region:
        """What the answer adds to the text, through its end-of-turn token."""
        until = (
            whole if turn == len(chat.messages) - 1 else self._render(chat, turn + 1, False, where)
        )
        body = until.text.rstrip()
        if until.plain and until.plain[-1][1] >= len(body):
            raise self._endless(where)  # it ends in the user's own text
        if len(body) <= start or not self._ends_in_control.search(body):
            raise self._endless(where)
        if not whole.text.startswith(body):
            raise self._untrainable(turn, turn == chat.assistants[-1], where)
        return start, len(body)

    def _check_answer(
        self, chat: Conversation, whole: MarkedText, turn: int, spans: Sequence[Region], where: str
    ) -> None:
        """The row's answer must be in what is trained: a template may not shorten it silently."""
        answer = _without(chat.messages[turn]["content"], chat.marks)
        trained = "".join(whole.text[start:end] for start, end in spans)
        if not _holds(trained, answer):
            raise _lost(f"the answer of message {turn + 1}", where)

    def _check_nothing_lost(self, chat: Conversation, whole: MarkedText, where: str) -> None:
        for index, message in enumerate(chat.messages):
            if message["role"] in ("system", "developer", "user"):
                content = _without(message["content"], chat.marks)
                if not _holds(whole.text, content):
                    raise _lost(f"message {index + 1} ({message['role']})", where)

    def _encode(self, rendered: MarkedText, starts: Mapping[int, int], where: str) -> Encoded:
        cuts = sorted({start for start in starts.values() if start < len(rendered.text)})
        try:
            return encode_pieces(self.tokenizer, rendered.text, rendered.plain, cuts)
        except DataError as error:
            error.where = error.where or where
            raise

    def _untrainable(self, turn: int, last: bool, where: str) -> UsageError:
        if last:
            return UsageError(
                "E0704",
                f"the chat template's text for the answer in message {turn + 1} does not go on"
                " from its own prompt",
                where=where,
                why="what would be trained is not what is served",
                hint=OTHER_TEMPLATE,
            )
        return UsageError(
            "E0705",
            f"the chat template writes the answer in message {turn + 1} differently once the"
            " conversation goes on",
            where=where,
            why="trained as it stands in the history, the model would learn what it is never"
            " asked for",
            hint='give that message "weight": 0 in the data (it stays in the conversation and is'
            f" not trained), or {OTHER_TEMPLATE}",
        )

    def _endless(self, where: str) -> UsageError:
        return UsageError(
            "E0709",
            "the chat template ends an answer without a control token of this tokenizer",
            where=where,
            why="a model trained so would never learn to stop",
            hint=OTHER_TEMPLATE,
        )


_PROBE: Final = (
    Message("user", "What is the capital of France?"),
    Message("assistant", "It is Paris."),
)


def _mask(encoded: Encoded, spans: Sequence[Region], weights: Sequence[float]) -> tuple[float, ...]:
    """A span's weight for each token that it touches; no token crosses the start of an answer."""
    mask = [0.0] * len(encoded.ids)
    for (left, right), weight in zip(spans, weights, strict=True):
        first = bisect_right(encoded.ends, left)
        while first > 0 and encoded.starts[first - 1] == encoded.ends[first - 1] == left:
            first -= 1  # a space that the tokenizer put in has no character of its own
        for index in range(first, bisect_left(encoded.starts, right)):
            mask[index] = weight
    return tuple(mask)


def _holds(text: str, wanted: str) -> bool:
    """Whether the text holds what is wanted, white space aside (templates trim and reflow)."""
    stripped = wanted.strip()
    return stripped in text or "".join(stripped.split()) in "".join(text.split())


def _lost(what: str, where: str) -> DataError:
    return DataError(
        "E0712",
        f"the chat template leaves out {what}, or changes it",
        where=where,
        hint=OTHER_TEMPLATE,
    )


def _without(text: str, marks: Marks) -> str:
    return re.sub(f"[{marks.all}]", "", text)
