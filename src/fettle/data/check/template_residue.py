"""What chat templates leave behind in texts: control tokens, headings, speakers' names.

In: examples, and the tokens that the base adds to its vocabulary. Out: findings. Must not know:
tokenizers, templates (the renderer makes control tokens in texts harmless; a model that is shown
them as text still learns to write them).

What stands between backticks or in quotation marks is talked about, not left behind.
"""

import re
from collections.abc import Sequence
from typing import Final

from fettle.data.check.places import shown, texts, without_code
from fettle.data.check.screen import Screen
from fettle.records.rows import Example, Finding

_CONTROL = re.compile(
    r"<\|[A-Za-z_/][\w /▁-]{0,60}\|>"  # ChatML, Llama 3, Phi, Qwen, OpenAI
    r"|<｜[^｜\n]{1,40}｜>"  # DeepSeek
    r"|\[/?INST\]|<</?SYS>>|\[/?(?:SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_RESULTS|TOOL_CALLS)\]"
    r"|<(?:start|end)_of_turn>"
    r"|<(?:bos|eos|pad|unk|BOS|EOS|PAD|UNK|EOT|EOD|mask|CLS|SEP)>"
    r"|\[(?:PAD|CLS|SEP|MASK|UNK|EOS|BOS|EOT)\]"
    r"|\[\|(?:Human|AI|User|Assistant|endofturn)\|\]"
    r"|<extra_id_\d+>|<0x[0-9A-F]{2}>"
)
_MAYBE: Final = ("<|", "<｜", "[INST", "[/INST", "<<", "_of_turn>", "<0x", "<extra_id_", "[|",
                 "os>", "OS>", "ad>", "AD>", "nk>", "NK>", "OT>", "OD>", "ask>", "LS>", "EP>",
                 "AD]", "LS]", "EP]", "SK]", "NK]", "OS]", "OT]", "PT]", "LS]", "TS]")  # fmt: skip
_CLOSED = re.compile(r"<s>[^<]{1,300}</s>")
_S = re.compile(r"</?s>")
_HEADING = re.compile(
    r"^[ \t]*#{2,4} ?(Instruction|Response|Human|Assistant|User|System|Input|Output|Question"
    r"|Answer)"
    r"s? ?:",
    re.MULTILINE,
)
_ALONE = frozenset(("Response", "Human", "Assistant", "Instruction"))
_PREAMBLE = re.compile(
    r"Below is an instruction that describes a task"
    r"|A chat between a curious (?:user|human) and an artificial intelligence assistant"
)
_SPEAKER = re.compile(r"\n[ \t]*(?:\*\*)?(?:Human|User|USER|HUMAN)(?:\*\*)? ?:")
_FIRST = re.compile(
    r"(?:\*\*)?(?:Assistant|ASSISTANT|AI|Bot|BOT|GPT|ChatGPT)(?:\*\*)? ?:(?:\*\*)?[ \n]"
)
_DIALOGUE = re.compile(
    r"dialog|conversation|script|transcript|chat|interview|skit|\bplay\b|scene|screenplay"
    r"|\n(?:Human|User|USER|Assistant|AI|Agent|Customer|Bot) ?:",
    re.IGNORECASE,
)
_JINJA = re.compile(
    r"\{%-? ?(?:for|if|elif|else|endif|endfor|set|macro|generation)\b"
    r"|\{\{-? ?(?:messages?\b|bos_token|eos_token|system_message|loop\.)"
)
_BYTES = re.compile(r"Ġ\w[^\sĠ]*\s?Ġ\w|Ċ|(?:▁\w+){3}")
_QUOTES = "\"'“”‘’«»"
_SIGNS: Final = (*_MAYBE, "<s>", "</s>", "{%", "{{", "##", "Ġ", "Ċ", "▁", "Below is an instruction",
                 "A chat between a curious")  # fmt: skip
_SPEAKERS: Final = (
    r"\n[ \t]*(?:\*\*)?(?:Human|User|USER|HUMAN)"
    r"|^(?:\*\*)?(?:Assistant|ASSISTANT|AI|Bot|BOT|GPT|ChatGPT)(?:\*\*)? ?:"
)
"""One of these stands in every text in which something is found."""


def find(
    examples: Sequence[Example],
    added_tokens: Sequence[str] = (),
    screen: Screen | None = None,
) -> list[Finding]:
    """One template_residue warning for each row with residue.

    Args:
        examples: the rows.
        added_tokens: control tokens of the base, beyond those that every chat format knows.
        screen: of the rows, where there is one.
    """
    screen = screen or Screen(examples)
    marked = _marked(added_tokens)
    signs = screen.with_words((*_SIGNS, *marked)) | screen.with_pattern(_SPEAKERS)
    ours = re.compile("|".join(map(re.escape, marked))) if marked else None
    maybe = screen.examples(signs)
    return [finding for example in maybe if (finding := look(example, ours)) is not None]


def look(example: Example, ours: re.Pattern[str] | None = None) -> Finding | None:
    """The first residue in one row."""
    for place, text in texts(example):
        hit = _residue(text, ours)
        if hit is not None:
            return _finding(example, place, *hit)
    if example.messages:
        return _speakers(example)
    return None


def _marked(tokens: Sequence[str]) -> list[str]:
    # Words and signs that occur in any text (an added "." or "hello") are no sign of a template.
    marked = [token for token in tokens if len(token) > 2 and not token.strip("<>[]|/").isspace()]
    return [token for token in marked if token[0] in "<[" and token[-1] in ">]"]


def _residue(text: str, ours: re.Pattern[str] | None) -> tuple[str, int, int, str] | None:
    """(what it is, where it starts, ends, the text it stands in)."""
    if not _may_hold(text, ours):
        return None
    plain = without_code(text)
    for pattern, what in ((ours, "a control token of the base"), (_CONTROL, "a control token")):
        for hit in pattern.finditer(plain) if pattern is not None else ():
            if not _quoted(plain, hit.start(), hit.end()):
                return what, *hit.span(), plain
    if "<s>" in plain or "</s>" in plain:
        left = _CLOSED.sub(" ", plain)  # struck-out words
        for hit in _S.finditer(left):
            if not _quoted(left, *hit.span()):
                return "a control token", *hit.span(), left
    headings = {hit[1]: hit for hit in _HEADING.finditer(plain)}
    for name, hit in headings.items():
        if (
            name in _ALONE
            or {"Input", "Output"} <= set(headings)
            or {"Question", "Answer"} <= set(headings)
        ):
            return "a heading of a prompt template", *hit.span(), plain
    for pattern, what in (
        (_PREAMBLE, "the opening of a prompt template"),
        (_JINJA, "code of a template"),
        (_BYTES, "a tokenizer's spelling of spaces"),
    ):
        if (found := pattern.search(plain)) is not None:
            return what, *found.span(), plain
    return None


def _may_hold(text: str, ours: re.Pattern[str] | None) -> bool:
    """A cheap look: most texts have none of these characters."""
    if "<" in text or "[" in text:
        if any(piece in text for piece in _MAYBE) or "<s>" in text or "</s>" in text:
            return True
        if ours is not None and ours.search(text):
            return True
    if "{" in text and ("{%" in text or "{{" in text):
        return True
    if "#" in text and "##" in text:
        return True
    if not text.isascii() and ("Ġ" in text or "Ċ" in text or "▁" in text):
        return True
    return "Below is an instruction" in text or "A chat between a curious" in text


def _quoted(text: str, start: int, end: int) -> bool:
    return start > 0 and text[start - 1] in _QUOTES and text[end : end + 1] in tuple(_QUOTES)


def _speakers(example: Example) -> Finding | None:
    """Speakers' names inside an answer, where no dialogue was asked for."""
    asked = ""
    for number, turn in enumerate(example.messages, start=1):
        if turn.role != "assistant":
            asked = turn.content
            continue
        place = "the answer" if len(example.messages) <= 3 else f"turn {number} (assistant)"
        text = turn.content
        first = _FIRST.match(text)
        later = _SPEAKER.search(text) if ":" in text else None
        hit = first or later
        if hit is not None and not _DIALOGUE.search(asked):
            return _finding(example, place, "the name of a speaker", *hit.span(), text)
    return None


def _finding(example: Example, place: str, what: str, start: int, end: int, text: str) -> Finding:
    return example.finding(
        "template_residue",
        "warning",
        f"{what} in {place}: {shown(text, start, end)}",
        "remove it: fettle writes the template around the texts itself",
    )
