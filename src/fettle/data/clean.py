"""Repairs of damaged text: mojibake, control characters, literal escapes, HTML entities.

In: a text. Out: the repaired text and what was repaired. Must not know: rows, files.

Mojibake and control characters are always repaired. Literal ``\\u2019`` and ``&amp;`` are damage in
a text that is to be classified, but may be meant in an answer about code: there they stay.
"""

import html
import re

import ftfy
from ftfy import badness

_ESCAPE = re.compile(r"(?:\\u[0-9a-fA-F]{4})+")
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
_CONTROL = re.compile(
    "\x1b\\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f\ufeff\ufff9-\ufffb]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTEXT = 20


def repair(text: str, unescape: bool) -> tuple[str, list[tuple[str, str]]]:
    """A text without damage.

    Args:
        text: as read.
        unescape: whether literal escapes and HTML entities are decoded.
    Returns:
        The text, and (kind of finding, evidence) for each kind of repair.
    """
    repairs: list[tuple[str, str]] = []
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.isascii():
        if _SURROGATE.search(text):
            # Halves of a pair that JSON escapes cut apart; whole pairs are joined again.
            joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            repairs.append(("encoding_error", "half of a surrogate pair was replaced by U+FFFD"))
            text = joined
        if badness.is_bad(text):
            fixed = ftfy.fix_encoding(text)
            if fixed != text:
                repairs.append(("mojibake", difference(text, fixed)))
                text = fixed
    if unescape and "\\u" in text:
        fixed = _ESCAPE.sub(_decode_escape, text)
        if fixed != text:
            repairs.append(("encoding_error", difference(text, fixed)))
            text = fixed
    if unescape and "&" in text:
        fixed = text
        # Twice, for the usual &amp;lt; of a text that was escaped two times.
        for _ in range(2):
            fixed = _ENTITY.sub(lambda found: html.unescape(found[0]), fixed)
        if fixed != text:
            repairs.append(("html_or_url", difference(text, fixed)))
            text = fixed
    if not text.isprintable() and _CONTROL.search(text):
        fixed = _CONTROL.sub("", text)
        repairs.append(("control_characters", difference(text, fixed)))
        text = fixed
    return text, repairs


def difference(before: str, after: str) -> str:
    """The first place where two texts differ, with a little around it."""
    length = min(len(before), len(after))
    start = next((i for i in range(length) if before[i] != after[i]), length)
    left = max(start - _CONTEXT, 0)
    old, new = (text[left : start + _CONTEXT] for text in (before, after))
    return f"{ascii(old) if not old.isprintable() else repr(old)} -> {new!r}"


def _decode_escape(found: re.Match[str]) -> str:
    units = bytes.fromhex(found[0].replace("\\u", ""))
    try:
        return units.decode("utf-16-be")
    except UnicodeDecodeError:
        return found[0]
