"""Characters that show nothing: control characters, white space of no width, joiners, tags.

In: a text. Out: the text without those that mean nothing where they stand. Must not know: rows,
findings. Joiners that spell (Arabic, Indic), tie emoji together or break Thai words stay, and so do
marks of direction where a script is written from right to left.
"""

import re

_CONTROL = re.compile(
    "\x1b\\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f\ufeff\ufff9-\ufffb]"
)
_INVISIBLE = re.compile(
    "[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\U000e0001-\U000e007f]"
)
# Soft hyphens, word joiners, invisible operators, deprecated format characters.
_NEVER_MEANT = re.compile("[\u00ad\u180e\u2060-\u2064\u206a-\u206f]")
_WITHOUT_SPACES = "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff"
"""Thai, Lao, Tibetan, Burmese, Khmer: a break of no width stands between words."""
_BREAK = re.compile(f"(?<![{_WITHOUT_SPACES}])\u200b(?![{_WITHOUT_SPACES}])")
_JOINED = "\u0600-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u18af\ufb50-\ufdff\ufe70-\ufefc"
"""Arabic, Indic, Burmese, Khmer, Mongolian: joiners spell."""
_JOINER = re.compile(
    f"(?:(?<=[\\w\\s.,!?'’-])|^)(?<![{_JOINED}])[\u200c\u200d]+(?:$|(?=[\\w\\s.,!?'’-]))(?![{_JOINED}])"
)
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_DIRECTION = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_TAGS = re.compile("[\U000e0001-\U000e007f]+")
# Flags of regions are spelled with tags; anywhere else they hide words.
_FLAG = re.compile("(\U0001f3f4[\U000e0020-\U000e007e]{2,8}\U000e007f)")
_BLANK = re.compile("[\\s\u115f\u1160\u200b-\u200f\u2800\u3164\uffa0]+")


def without_invisible(text: str) -> str:
    """A text without characters that show nothing and mean nothing where they stand.

    Args:
        text: any text.
    Returns:
        The text; empty if nothing in it shows. What has no such characters comes back as it is.
    """
    if text.isprintable() and (text.isascii() or not _BLANK.fullmatch(text)):
        return text
    text = _CONTROL.sub("", text)
    if text.isascii():
        return text
    if _INVISIBLE.search(text):
        text = _NEVER_MEANT.sub("", text)
        text = _BREAK.sub("", text)
        text = _JOINER.sub("", text)
        if not _RIGHT_TO_LEFT.search(text):
            text = _DIRECTION.sub("", text)
        if _TAGS.search(text):
            parts = _FLAG.split(text)
            text = "".join(part if _FLAG.fullmatch(part) else _TAGS.sub("", part) for part in parts)
    return "" if text.strip() and _BLANK.fullmatch(text) else text
