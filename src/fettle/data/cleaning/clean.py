"""Repairs of damaged text: mojibake, control characters, literal escapes, HTML entities.

In: a text, and which kinds may be changed. Out: the repaired text and what was found. Must not
know: rows, files.

Mojibake and control characters are repaired unless the recipe says otherwise. Literal
``\\u2019`` and ``&amp;`` are damage in a text that is to be classified, but may be meant in an
answer about code: there they stay.
"""

import html
import re
from collections.abc import Collection
from importlib.metadata import version

import ftfy
from ftfy import badness

from fettle.data.cleaning.invisible import without_invisible
from fettle.data.sensitive import redact
from fettle.version import __version__

_ESCAPE = re.compile(r"(?:\\u[0-9a-fA-F]{4})+")
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
_C1 = re.compile("[\x80-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTEXT = 20
_MAX_LAYERS = 8


REPAIRS = frozenset({"mojibake", "control_characters", "encoding_error", "html_or_url"})
"""Kinds that ``repair`` finds."""
ALGORITHM = f"fettle {__version__}, ftfy {version('ftfy')}"
"""What a repair is made by; goes into the ledger."""


def repair(
    text: str, unescape: bool, fixed_kinds: Collection[str] = REPAIRS
) -> tuple[str, list[tuple[str, str]]]:
    """A text without damage; repairing it again changes nothing.

    Args:
        text: as read.
        unescape: whether literal escapes and HTML entities are decoded.
        fixed_kinds: kinds that are mended; the others are found, and stay in the text. Halves of
            surrogate pairs are always replaced: they have no UTF-8 form.
    Returns:
        The text, and (kind of finding, evidence) for each kind that was found.
    """
    repaired, repairs = _repair(text, unescape, fixed_kinds)
    for _ in range(_MAX_LAYERS):
        if not repairs or repaired == text:
            break
        # What one repair uncovers (mojibake behind an entity, say) is mended with it.
        text = repaired
        repaired, _ = _repair(text, unescape, fixed_kinds)
    return repaired, repairs


def _repair(
    text: str, unescape: bool, fixed_kinds: Collection[str]
) -> tuple[str, list[tuple[str, str]]]:
    repairs: list[tuple[str, str]] = []

    def mended(kind: str, before: str, after: str, evidence: str = "") -> str:
        if after == before:
            return before
        repairs.append((kind, evidence or difference(before, after)))
        return after if kind in fixed_kinds else before

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
            if _C1.search(text) and not _C1.search(fixed) and "control_characters" in fixed_kinds:
                # Windows-1252 read as Latin-1: control characters to whoever looks at the file.
                repairs.append(("control_characters", difference(text, fixed)))
            text = mended("mojibake", text, fixed)
    if unescape and "\\u" in text:
        text = mended("encoding_error", text, _ESCAPE.sub(_decode_escape, text))
    if unescape and "&" in text:
        fixed = text
        # Twice, for the usual &amp;lt; of a text that was escaped two times.
        for _ in range(2):
            fixed = _ENTITY.sub(lambda found: html.unescape(found[0]), fixed)
        text = mended("html_or_url", text, fixed)
    text = mended("control_characters", text, without_invisible(text))
    return text, repairs


def difference(before: str, after: str) -> str:
    """The first place where two texts differ, with a little around it, fit to be shown."""
    # Before anything is cut: half of an address would not be known as one.
    before, after = redact(before), redact(after)
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
