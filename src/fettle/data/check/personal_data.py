"""Personal data of listed kinds; names and street addresses are NOT covered.

In: examples. Out: findings, with placeholders in place of the data. Must not know: masking, splits.
The kinds are listed in ``fettle.data.sensitive.personal``.
"""

from collections import Counter
from collections.abc import Sequence

from fettle.data.check.places import every_text
from fettle.data.check.screen import Screen
from fettle.data.sensitive import PERSONAL_SIGNS, WORDS, find_personal, redact
from fettle.records.rows import Example, Finding

_AROUND = 30


def find(examples: Sequence[Example], screen: Screen | None = None) -> list[Finding]:
    """One personal_data warning for each row that holds any.

    Args:
        examples: the rows.
        screen: of them, where there is one.
    """
    screen = screen or Screen(examples)
    maybe = screen.examples(screen.with_pattern(PERSONAL_SIGNS))
    return [finding for example in maybe if (finding := look(example)) is not None]


def look(example: Example) -> Finding | None:
    """What one row holds."""
    counts: Counter[str] = Counter()
    place, where = "", ""
    for name, text in every_text(example):
        spans = find_personal(text)
        if not spans:
            continue
        counts.update(span.name for span in spans)
        if not where:
            place, where = name, _piece(redact(text), spans[0].name)
    if not counts:
        return None
    kinds = ", ".join(
        f"{count} {WORDS[name]}{'es' if WORDS[name].endswith('s') and count > 1 else ''}"
        if count == 1 or WORDS[name].endswith("s")
        else f"{count} {WORDS[name]}s"
        for name, count in sorted(counts.items())
    )
    return example.finding(
        "personal_data",
        "warning",
        f"{kinds}; in {place}: {where}",
        "mask it, or make sure that the model may learn it; names and addresses are not looked for",
    )


def _piece(masked: str, name: str) -> str:
    at = max(masked.find(f"[{name}]"), 0)
    piece = masked[max(0, at - _AROUND) : at + len(name) + 2 + _AROUND]
    return repr(" ".join(piece.split()))
