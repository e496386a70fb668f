"""Personal data and secrets in a text: find, mask, and keep them out of what is shown.

In: a text. Out: spans, or the text with typed placeholders. Must not know: rows, findings.

Whoever writes a piece of a row where others may read it (evidence of a finding, a preview, a
report, a log) calls ``redact`` on the whole text first and cuts it afterwards: half of an address
is no address to a pattern.
"""

from fettle.data.sensitive.personal import SIGNS as PERSONAL_SIGNS
from fettle.data.sensitive.personal import WORDS, find_personal
from fettle.data.sensitive.secrets import NAMES as SECRET_NAMES
from fettle.data.sensitive.secrets import SIGNS as SECRET_SIGNS
from fettle.data.sensitive.secrets import find_secrets
from fettle.data.sensitive.spans import Span, first_of_overlapping

__all__ = ["PERSONAL_SIGNS", "SECRET_NAMES", "SECRET_SIGNS", "WORDS", "Span", "find_personal",
           "find_secrets", "mask", "redact"]  # fmt: skip

_MAX_PASSES = 8


def mask(text: str, personal: bool = True, secrets: bool = True) -> tuple[str, list[Span]]:
    """A text with typed placeholders in place of personal data and secrets.

    Args:
        text: any text.
        personal: whether personal data is masked: [EMAIL], [PHONE], [CARD], ...
        secrets: whether secrets are masked: [SECRET].
    Returns:
        The masked text, and the spans in the text that was given, those of the first pass. Masking
        a masked text changes nothing.

    >>> mask("write to ann@example.com")[0]
    'write to [EMAIL]'
    """
    first: list[Span] | None = None
    # What is masked may uncover more (a second number after "call"), hence until nothing is left.
    for _ in range(_MAX_PASSES):
        spans = _spans(text, personal, secrets)
        first = spans if first is None else first
        if not spans:
            break
        text = _replaced(text, spans)
    return text, first or []


def redact(text: str) -> str:
    """A text that may be shown: without personal data of the known kinds and without secrets."""
    return mask(text)[0]


def _spans(text: str, personal: bool, secrets: bool) -> list[Span]:
    found = [Span(s.start, s.end, "SECRET") for s in find_secrets(text)] if secrets else []
    return first_of_overlapping([*found, *(find_personal(text) if personal else ())])


def _replaced(text: str, spans: list[Span]) -> str:
    parts: list[str] = []
    at = 0
    for span in spans:
        parts += [text[at : span.start], f"[{span.name}]"]
        at = span.end
    return "".join([*parts, text[at:]])
