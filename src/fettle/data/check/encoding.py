"""Damaged characters that a repair could not bring back, or that may be meant.

In: examples, repaired already (``clean.repair``). Out: findings. Must not know: repairs.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from ftfy import badness

from fettle.data.check.places import shown, texts, without_code
from fettle.data.check.screen import Screen
from fettle.records.rows import Example, Finding

_LOST: Final = "\ufffd"
_BAD: Final = 2
"""Unlikely sequences that no repair explains; a single one is found in decent text too."""
_MOST_HITS: Final = 1_000
_WORD: Final = 500
"""Characters of a word before a hit in which signs of an address are looked for."""
_CHINESE = re.compile("锟斤拷|烫{3,}|屯{3,}")
_PRIVATE = re.compile("[\ue000-\uf8ff\U000f0000-\U000ffffd]")
_RIGHT_TO_LEFT = re.compile("[\u202d\u202e]")
_QUESTION = re.compile(r"(?<![\w./=&?-])(?:I|[A-Za-z]{2,20})\?(?:s|t|re|ve|ll|d|m)(?![\w=&:./?'’])")
# The numbers of quotation marks, dashes, spaces and the signs that HTML escapes.
_BARE_ENTITY = re.compile(
    r"#(?:34|38|39|60|62|14[5-9]|15[01]|160|16[39]|17[14]|18[37]|82(?:11|12|16|17|20|21|30));"
)
_ESCAPE = re.compile(r"(?:\\u[0-9a-fA-F]{4})+")
_BYTES = re.compile(r"(?:\\x[0-9a-fA-F]{2}){2,}")
_QUOTED_PRINTABLE = re.compile(r"(?:=[0-9A-F]{2}){2,}")
_PERCENT = re.compile(r"(?:%[0-9A-F]{2}){2,}")
_SIGNS: Final = (
    r"\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}|(?:=[0-9A-F]{2}){2}|(?:%[0-9A-F]{2}){2}"
    r"|[A-Za-z]\?[strvldm]|#[0-9]{2,4};"
)
"""What one of the patterns for ASCII finds begins so; everything beyond ASCII is looked at."""


def find(examples: Sequence[Example], screen: Screen | None = None) -> list[Finding]:
    """mojibake, encoding_error and control_characters that are left after repairs.

    Args:
        examples: the rows.
        screen: of them, where there is one.
    """
    screen = screen or Screen(examples)
    findings = []
    for example in screen.examples(screen.with_pattern(_SIGNS) | screen.beyond_ascii):
        seen: set[str] = set()
        for place, text in texts(example):
            for kind, what, start, end in look(text):
                if kind in seen:
                    continue
                seen.add(kind)
                findings.append(
                    example.finding(
                        kind,
                        "note" if kind == "control_characters" else "warning",
                        f"{what} in {place}: {shown(text, start, end)}",
                        "mend it at its source, or leave the row out",
                    )
                )
    return findings


def look(text: str) -> Iterator[tuple[str, str, int, int]]:
    """(kind, what it is, start, end) of damage in a text."""
    if not text.isascii():
        if _LOST in text:
            at = text.index(_LOST)
            yield "encoding_error", f"{text.count(_LOST)} lost character(s)", at, at + 1
        if (hit := _CHINESE.search(text)) is not None:
            yield "encoding_error", "what lost characters become in GBK", *hit.span()
        if badness.badness(text) >= _BAD and (hit := badness.BADNESS_RE.search(text)) is not None:
            yield "mojibake", "characters that hardly stand together", *hit.span()
        if (hit := _PRIVATE.search(text)) is not None:
            yield "control_characters", "a character of no standard meaning", *hit.span()
        if (hit := _RIGHT_TO_LEFT.search(text)) is not None:
            yield "control_characters", "a mark that turns the order of reading", *hit.span()
    if "?" in text and (hit := _QUESTION.search(text)) is not None:
        yield "encoding_error", "a question mark in place of an apostrophe", *hit.span()
    if ";" in text and "#" in text:
        for hit in _BARE_ENTITY.finditer(text):
            before, after = text[hit.start() - 1 : hit.start()], text[hit.end() : hit.end() + 1]
            if before != "&" and (before.isalnum() or after.isalnum()):
                yield "encoding_error", "an HTML entity without its &", *hit.span()
                break
    yield from _spelled(text)


def _spelled(text: str) -> Iterator[tuple[str, str, int, int]]:
    """Bytes or code points that are written out."""
    candidates = []
    if "\\u" in text:
        candidates.append((_ESCAPE, "a code point written out"))
    if "\\x" in text:
        candidates.append((_BYTES, "bytes written out"))
    if "=" in text:
        candidates.append((_QUOTED_PRINTABLE, "quoted-printable bytes"))
    if "%" in text:
        candidates.append((_PERCENT, "percent-encoded bytes"))
    plain = without_code(text) if candidates else text
    for pattern, what in candidates:
        for hit in islice(pattern.finditer(plain), _MOST_HITS):
            word = plain[plain.rfind(" ", 0, hit.start()) + 1 : hit.start()][-_WORD:]
            in_address = "/" in word or "?" in word or "&" in word
            if not in_address and _stands_for_letters(hit[0]):
                yield "encoding_error", what, *hit.span()
                break


def _stands_for_letters(spelled: str) -> bool:
    """Whether what is written out is text beyond ASCII."""
    if spelled.startswith("\\u"):
        units = bytes.fromhex(spelled.replace("\\u", ""))
        encoding = "utf-16-be"
    else:
        units = bytes.fromhex(re.sub(r"\\x|[=%]", "", spelled))
        encoding = "utf-8"
    try:
        decoded = units.decode(encoding)
    except UnicodeDecodeError:
        return False
    return not decoded.isascii() and decoded.isprintable()
