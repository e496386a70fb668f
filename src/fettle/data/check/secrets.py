"""Keys, tokens and passwords.

In: examples. Out: findings, without the secrets. Must not know: masking, splits.
"""

from collections import Counter
from collections.abc import Sequence

from fettle.data.check.places import every_text
from fettle.data.check.screen import Screen
from fettle.data.sensitive import SECRET_NAMES, SECRET_SIGNS, find_secrets
from fettle.records.rows import Example, Finding


def find(examples: Sequence[Example], screen: Screen | None = None) -> list[Finding]:
    """One secret warning for each row that holds any.

    Args:
        examples: the rows.
        screen: of them, where there is one.
    """
    screen = screen or Screen(examples)
    signs = screen.with_pattern(SECRET_SIGNS) | screen.with_words(SECRET_NAMES, any_case=True)
    maybe = screen.examples(signs)
    return [finding for example in maybe if (finding := look(example)) is not None]


def look(example: Example) -> Finding | None:
    """What one row holds."""
    counts: Counter[str] = Counter()
    places: list[str] = []
    for place, text in every_text(example):
        spans = find_secrets(text)
        if spans:
            counts.update(span.name for span in spans)
            places.append(f"{place} at character {spans[0].start + 1}")
    if not counts:
        return None
    names = ", ".join(name if n == 1 else f"{name} ({n} times)" for name, n in counts.items())
    return example.finding(
        "secret",
        "warning",
        f"{names}; in {' and '.join(places[:3])}",
        "remove or mask it, and replace it where it is in use: it has been in a file",
    )
