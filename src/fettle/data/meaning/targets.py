"""What a row's label column says where it is no plain label: several labels, or a number.

In: a raw value. Out: labels or a number, or why there are none. Must not know: rows, columns.
"""

import math
import re
from typing import Any, Final

from fettle.data.cleaning.clean import repair
from fettle.data.meaning.profile import as_text

MAX_NUMBER: Final = 1e100
"""Larger numbers could not be squared and summed."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class TargetError(ValueError):
    """Why a value is no target; becomes the reason of a quarantined row."""


def label_set(value: Any, separator: str | None) -> tuple[str, ...]:
    """The labels of a row, sorted, each once; an empty list or text has none.

    Args:
        value: a list of labels, or a text with them.
        separator: what stands between two labels in a text; None = a text is one label.

    Raises:
        TargetError: no value, or a list of something else.
    """
    if value is None:
        raise TargetError("there is no value; write an empty list where no label applies")
    if isinstance(value, list | tuple):
        parts = list(value)
    else:
        text = as_text(value)
        parts = text.split(separator) if separator is not None else [text]
    for part in parts:
        if part is None or isinstance(part, dict | list | tuple):
            raise TargetError(f"{as_text(part)[:40] or 'null'} in the list is no label")
    cleaned = (repair(as_text(part).strip(), unescape=False)[0].strip() for part in parts)
    return tuple(sorted({part for part in cleaned if part}))


def number(value: Any) -> float:
    """The number in a value.

    Raises:
        TargetError: it is missing, a text, a truth value, NaN, infinite or too large.
    """
    text = as_text(value).strip()
    if not text:
        raise TargetError("it is empty")
    is_number = not isinstance(value, bool) and _NUMBER.fullmatch(text) is not None
    found = float(text) if is_number else math.nan
    if not math.isfinite(found):
        shown = text if len(text) <= 40 else text[:39] + "…"
        raise TargetError(f"{shown!r} is not a finite number")
    if abs(found) > MAX_NUMBER:
        raise TargetError(f"{text[:40]} is larger than {MAX_NUMBER:g}")
    return found
