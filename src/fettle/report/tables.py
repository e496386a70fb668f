"""Tables and figures as the templates print them, and values as the text of a cell.

In: any value of a run's files. Out: ``Table``, ``Figure``, clean text. Must not know: HTML,
Markdown, what a table is about.
"""

import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fettle.report.words import plain

MAX_CELL = 600
"""Characters of one table cell; evidence and paths can be of any length."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table; the first column names the row."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: frozenset[int] = frozenset()
    """Indices of the columns that are right-aligned."""
    code: frozenset[int] = frozenset()
    """Indices of the columns in a fixed-width font."""
    is_compact: bool = False
    """Only as wide as its text: for two short columns."""
    source: str = ""
    """File of the run, and the place in it, that the figures come from."""


@dataclass(frozen=True, slots=True)
class Bars:
    """A table in which each row has a bar, or two to be compared."""

    caption: str
    columns: Sequence[str]
    """Names of the three columns of text."""
    rows: Sequence[tuple[str, str, str, Sequence[float]]]
    """Name, two figures as text, and the lengths of one bar or two, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One plot with a caption."""

    svg: str
    caption: str
    source: str = ""
    """File of the run, and the place in it, that the figures come from."""
    table: Table | None = None
    """What is drawn, as numbers, where no table of the page has it."""

    @property
    def spoken(self) -> str:
        """What a screen reader says."""
        found = re.search(r'aria-label="([^"]*)"', self.svg)
        return html.unescape(found[1]) if found else ""


def flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested objects as dotted names and values."""
    rows: list[tuple[str, str]] = []
    for key, item in value.items():
        name = f"{prefix}{plain(key)}"
        if isinstance(item, Mapping):
            rows += flat(item, f"{name}.")
        else:
            rows.append((name, shown_value(item)))
    return rows


def shown_value(value: Any) -> str:
    """A value as a person would write it in YAML."""
    if isinstance(value, Mapping):
        return cell(", ".join(f"{key}: {shown_value(item)}" for key, item in value.items()))
    if isinstance(value, list | tuple):
        return cell(", ".join(shown_value(item) for item in value) or "none")
    if value is None:
        return "none"
    return cell(value if isinstance(value, str) else json.dumps(value, default=str))


def cell(value: object, longest: int = MAX_CELL) -> str:
    """A value as clean text of bounded length."""
    text = plain(value)
    return text if len(text) <= longest else f"{text[:longest]}…"
