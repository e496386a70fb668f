"""What is done about findings: the recipe's policies, carried out.

In: findings, policies, waivers. Out: findings with their final weight, and the rows to set aside
with the kind that did it. Must not know: how a fault is found, files.

A row of a holdout that the user gave is never set aside here: what was found about it goes to a
person (``holdout_review``).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fettle.data.cleaning.waivers import Waived
from fettle.data.sensitive import redact
from fettle.errors import DataError
from fettle.recipe.policies import Policy, policy_of
from fettle.records.rows import Example, Finding, SplitRow

SETTLED_ELSEWHERE = frozenset(
    {
        "malformed_row",
        "empty",
        "template_refused",
        "zero_weight",
        "exact_duplicate",
        "split_leak",
        "unused_holdout",
    }
)
"""Kinds whose rows are set aside where they are found: which of two rows goes is decided there."""
_MAX_NAMED = 5


def with_severity(findings: Iterable[Finding], policies: Mapping[str, Policy]) -> list[Finding]:
    """The findings, with severity error for the kinds whose policy is error."""
    errors = {kind for kind, chosen in policies.items() if chosen == "error"}
    if not errors:
        return list(findings)
    return [replace(f, severity="error") if f.kind in errors else f for f in findings]


def redacted(findings: Sequence[Finding]) -> list[Finding]:
    """The findings with evidence that may be shown: no personal data, no secrets."""
    shown = {evidence: redact(evidence) for evidence in {f.evidence for f in findings}}
    return [
        f if shown[f.evidence] == f.evidence else replace(f, evidence=shown[f.evidence])
        for f in findings
    ]


def to_set_aside(
    findings: Iterable[Finding],
    policies: Mapping[str, Policy],
    waived: Collection[Waived],
    protected: Collection[str],
) -> dict[str, str]:
    """Rows that a policy sends to quarantine.

    Args:
        findings: with the rows that they are about. A near leak stands at the row that judges; it
            is the rows related to it, its twins on a lower side, that go.
        policies: of the recipe.
        waived: findings that are passed over.
        protected: ids of the rows of a given holdout.
    Returns:
        row_id -> kind; of several kinds the first in the alphabet, whatever the order of findings.
    """
    passed = {(item.row_id, item.kind) for item in waived}
    kinds: dict[str, str] = {}
    for finding in findings:
        kind = finding.kind
        if kind in SETTLED_ELSEWHERE or policy_of(kind, policies) != "quarantine":
            continue
        if (finding.row_id, kind) in passed or not finding.row_id:
            continue
        for row_id in finding.related if kind == "split_leak_near" else (finding.row_id,):
            if row_id not in protected:
                kinds[row_id] = min(kind, kinds.get(row_id, kind))
    return kinds


def take_out(
    examples: Sequence[Example], keys: Sequence[str], kinds: Mapping[str, str]
) -> tuple[list[Example], list[str], list[SplitRow]]:
    """Examples and keys without the rows that are set aside, and the account of those.

    Args:
        examples: examples.
        keys: one for each.
        kinds: row_id -> kind, from ``to_set_aside``.
    """
    kept = [(e, key) for e, key in zip(examples, keys, strict=True) if e.row_id not in kinds]
    gone = [e.placed("quarantine", kinds[e.row_id]) for e in examples if e.row_id in kinds]
    return [example for example, _ in kept], [key for _, key in kept], gone


def place_again(rows: Iterable[SplitRow], kinds: Mapping[str, str]) -> list[SplitRow]:
    """The same rows, with those of train and validation that a policy sets aside in quarantine."""
    return [
        replace(row, split="quarantine", reason=kinds[row.row_id])
        if row.row_id in kinds and row.split in ("train", "validation")
        else row
        for row in rows
    ]


def refuse_errors(
    findings: Iterable[Finding], policies: Mapping[str, Policy], waived: Collection[Waived]
) -> None:
    """Stop where the recipe says that a kind of finding is an error.

    Raises:
        DataError: E0370, with the kinds and the first rows.
    """
    errors = {kind for kind, chosen in policies.items() if chosen == "error"}
    passed = {(item.row_id, item.kind) for item in waived}
    found = [f for f in findings if f.kind in errors and (f.row_id, f.kind) not in passed]
    if not found:
        return
    counts: dict[str, int] = {}
    for finding in found:
        counts[finding.kind] = counts.get(finding.kind, 0) + 1
    raise DataError(
        "E0370",
        "data.policies makes errors of what was found: "
        + ", ".join(f"{number:,} {kind}" for kind, number in sorted(counts.items())),
        where="; ".join(f"{place(f)} ({f.kind}: {f.evidence})" for f in found[:_MAX_NAMED]),
        hint="`fettle check` lists all of them; mend the rows, waive them with a reason"
        " (data.waivers), or choose another policy",
    )


def holdout_review(
    findings: Iterable[Finding], protected: Collection[str], waived: Collection[Waived]
) -> list[dict[str, Any]]:
    """What a person should look at: faults of rows that judge the model and are kept for that.

    Args:
        findings: all findings.
        protected: ids of the rows of a given holdout.
        waived: findings that are passed over.
    """
    passed = {(item.row_id, item.kind) for item in waived}
    return [
        {
            "row_id": f.row_id,
            "source": f.source,
            "record": f.record,
            "line": f.line,
            "kind": f.kind,
            "severity": f.severity,
            "evidence": f.evidence,
            "remedy": f.remedy,
        }
        for f in findings
        if f.row_id in protected and f.severity != "note" and (f.row_id, f.kind) not in passed
    ]


def place(finding: Finding) -> str:
    """file:line of a finding, or the number of its record."""
    if not finding.row_id:
        return "all rows"
    if finding.line is not None:
        return f"{finding.source}:{finding.line}"
    return f"{finding.source}, record {finding.record}"
