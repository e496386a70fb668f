"""Findings that someone accepted: they are still written down, and count no longer.

In: findings, the recipe's waivers, the day. Out: which findings are waived and by which waiver, and
findings about the waivers themselves. Must not know: what a finding would have led to.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from fettle.recipe.recipe import Waiver
from fettle.records.rows import Finding, RawRow


@dataclass(frozen=True, slots=True)
class Waived:
    """A finding that is waived."""

    row_id: str
    kind: str
    waiver: int
    """1-based number of the waiver in the recipe."""


def find_waived(
    findings: Iterable[Finding],
    waivers: Sequence[Waiver],
    raw: Mapping[str, RawRow],
    today: date,
) -> list[Waived]:
    """The findings that a waiver of this day covers, each once.

    Args:
        findings: all findings.
        waivers: of the recipe; the first that fits counts.
        raw: raw rows by row id, for patterns.
        today: a waiver holds up to its last day.
    """
    valid = [
        (number, waiver, set(waiver.rows), re.compile(waiver.pattern) if waiver.pattern else None)
        for number, waiver in enumerate(waivers, start=1)
        if not is_expired(waiver, today)
    ]
    found: dict[tuple[str, str], Waived] = {}
    for finding in findings if valid else ():
        if (finding.row_id, finding.kind) in found:
            continue
        for number, waiver, rows, pattern in valid:
            if waiver.kind != finding.kind or (rows and finding.row_id not in rows):
                continue
            if pattern is None or any(map(pattern.search, _texts(finding, raw))):
                found[finding.row_id, finding.kind] = Waived(finding.row_id, finding.kind, number)
                break
    return list(found.values())


def is_expired(waiver: Waiver, today: date) -> bool:
    """Whether the last day is over."""
    return waiver.expires is not None and waiver.expires < today


def look_at_waivers(
    waivers: Sequence[Waiver],
    waived: Sequence[Waived],
    kinds: Iterable[str],
    source: str,
    today: date,
) -> list[Finding]:
    """Waivers that expired while their finding is there, and waivers that cover nothing.

    Args:
        waivers: of the recipe.
        waived: from ``find_waived``.
        kinds: kinds of all findings.
        source: where findings about all rows belong.
        today: the day.
    """
    used = {item.waiver for item in waived}
    present = set(kinds)
    findings = []
    for number, waiver in enumerate(waivers, start=1):
        if is_expired(waiver, today) and waiver.kind in present:
            findings.append(
                _about(
                    source,
                    "waiver_expired",
                    "warning",
                    f"waiver {number} ({waiver.kind}, by {waiver.by}: {waiver.reason}) ended on"
                    f" {waiver.expires}; its findings count again",
                    "look at the rows, then renew data.waivers or mend them",
                )
            )
        elif not is_expired(waiver, today) and number not in used:
            findings.append(
                _about(
                    source,
                    "waiver_unused",
                    "note",
                    f"waiver {number} ({waiver.kind}, by {waiver.by}) covers no finding",
                    "take it out of data.waivers",
                )
            )
    return findings


def _about(source: str, kind: str, severity: Any, evidence: str, remedy: str) -> Finding:
    return Finding("", source, 0, None, kind, severity, evidence, remedy)


def _texts(finding: Finding, raw: Mapping[str, RawRow]) -> Iterator[str]:
    yield finding.evidence
    row = raw.get(finding.row_id)
    if row is not None:
        yield from strings_in(row.fields)


def strings_in(value: Any) -> Iterator[str]:
    """Every text inside a value."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, Mapping):
            stack.extend(item.values())
        elif isinstance(item, list | tuple):
            stack.extend(item)
