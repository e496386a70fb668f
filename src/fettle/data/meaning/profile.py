"""What the values of each column look like.

In: raw rows. Out: a ``Profile`` for each column. Must not know: what the columns mean.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fettle.data.meaning.conversations import find_turns, role_of, turn_keys
from fettle.records.rows import RawRow

_MAX_ROWS = 50_000
"""More rows than this are sampled evenly."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_SEVERAL = re.compile(r"[^,;|]+[,;|][^,;|]+")


@dataclass(frozen=True)
class Profile:
    """One column."""

    name: str
    num_rows: int
    num_filled: int
    values: frozenset[str]
    """Distinct values, up to 20,000 of them."""
    mean_length: float
    """Characters."""
    spaced: float
    """Share of values with a space inside."""
    numeric: float
    multiple: float
    """Share of values such as "4,27"."""
    fractional: float
    """Share of values that are numbers and no whole ones."""
    structured: float
    """Share of values that are lists or objects."""
    listed: float
    """Share of values that are lists of texts or numbers."""
    items: frozenset[str]
    """What stands in those lists, up to 20,000 different ones."""
    turns: int
    """Rows whose value is a list of turns of a conversation."""
    turn_keys: frozenset[str]
    speakers: frozenset[str]
    """Roles met, as they are usually read."""
    complete: bool
    """Whether ``values`` holds all of them."""

    @cached_property
    def num_distinct(self) -> int:
        return len(self.values)

    @cached_property
    def is_identifier(self) -> bool:
        """Nearly every value differs and none is prose."""
        return self.num_distinct > 0.9 * self.num_filled > 9 and self.spaced < 0.2

    @cached_property
    def is_label_like(self) -> bool:
        """Few distinct values, all short, in nearly every row."""
        most = max(2, min(2000, 0.2 * self.num_filled if self.num_filled > 40 else
                          0.5 * self.num_filled))  # fmt: skip
        return (
            2 <= self.num_distinct <= most
            and self.mean_length <= 60
            and self.num_filled >= 0.9 * self.num_rows
            and self.turns == 0
        )

    @cached_property
    def is_label_list(self) -> bool:
        """Lists of short texts that come up again: several labels a row."""
        return (
            self.listed > 0.9
            and 2 <= len(self.items) <= max(2.0, min(2000.0, 0.5 * self.num_filled))
            and all(len(item) <= 60 for item in self.items)
        )

    @cached_property
    def is_number(self) -> bool:
        """Numbers that measure something: too many different ones for classes."""
        return (
            self.numeric > 0.8
            and self.num_distinct > 20
            and (self.fractional > 0 or not self.is_label_like)
        )

    @cached_property
    def is_text_like(self) -> bool:
        """Words rather than numbers, in at least half of the rows."""
        return (
            self.num_filled > 0.5 * self.num_rows
            and self.numeric < 0.5
            and self.structured < 0.5
            and self.turns == 0
        )

    @cached_property
    def is_free_text(self) -> bool:
        """Prose: values with spaces, many of them different."""
        return (
            self.is_text_like
            and self.spaced > 0.5
            and self.mean_length > 10
            and not (self.is_label_like and self.mean_length < 40)
            and self.num_distinct > min(20.0, 0.05 * self.num_filled)
        )

    def describe(self) -> str:
        """One line for an error message."""
        if self.turns:
            kind = "lists of turns"
        elif self.is_label_like:
            kind = f"{self.num_distinct} distinct values"
        elif self.is_free_text:
            kind = f"free text, about {self.mean_length:.0f} characters"
        elif self.is_identifier:
            kind = "identifiers"
        else:
            kind = f"{self.num_distinct} distinct values in {self.num_filled} rows"
        return f'"{self.name}" ({kind})'


def profile_columns(rows: Sequence[RawRow]) -> dict[str, Profile]:
    """Profiles by column, in the order in which the columns are first met.

    Args:
        rows: raw rows; malformed ones are passed over.
    """
    good = [row.fields for row in rows if row.malformed is None]
    step = max(1, math.ceil(len(good) / _MAX_ROWS))
    sample = good[::step]
    columns: dict[str, None] = {}
    for fields in sample:
        if not columns.keys() >= fields.keys():
            columns.update(dict.fromkeys(fields))
    return {name: _profile(name, sample) for name in columns}


def as_text(value: Any) -> str:
    """A field's value as text: nothing is empty, 3.0 is "3", a structure is its JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _profile(name: str, sample: Sequence[Mapping[str, Any]]) -> Profile:
    num_filled = turns = length = spaced = numeric = fractional = multiple = structured = 0
    listed = 0
    distinct: set[str] = set()
    items: set[str] = set()
    keys: set[str] = set()
    speakers: set[str] = set()
    for fields in sample:
        value = fields.get(name)
        found = find_turns(value) if not isinstance(value, str) or value[:1] == "[" else None
        if found is not None:
            turns += 1
            num_filled += 1
            for turn in found:
                keys.update(turn_keys(turn))
                speakers.add(role_of(turn) or "")
            continue
        text = as_text(value).strip()
        if not text:
            continue
        num_filled += 1
        structured += isinstance(value, dict | list)
        if isinstance(value, list) and all(isinstance(v, str | int | float) for v in value):
            listed += 1
            if len(items) < 20_000:
                items.update(as_text(item).strip() for item in value)
        length += len(text)
        spaced += " " in text or "\n" in text
        if _NUMBER.fullmatch(text) is not None:
            numeric += 1
            fractional += not float(text).is_integer()
        multiple += len(text) < 40 and _SEVERAL.fullmatch(text) is not None
        if len(distinct) < 20_000:
            distinct.add(text)
    plain = max(num_filled - turns, 1)
    return Profile(
        name=name,
        num_rows=len(sample),
        num_filled=num_filled,
        values=frozenset(distinct),
        mean_length=length / plain,
        spaced=spaced / plain,
        numeric=numeric / plain,
        multiple=multiple / plain,
        fractional=fractional / plain,
        structured=structured / plain,
        listed=listed / plain,
        items=frozenset(items - {""}),
        turns=turns,
        turn_keys=frozenset(keys),
        speakers=frozenset(speakers - {""}),
        complete=len(distinct) < 20_000,
    )
