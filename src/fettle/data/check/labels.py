"""Faults of labels: conflicts, spelling variants, imbalance.

In: examples and their input keys. Out: findings; nothing for rows without a label. Must not know:
splits.
"""

from collections import Counter
from collections.abc import Sequence

from fettle.data.deduplicate import normal_text
from fettle.records.rows import Example, Finding

_MAX_RELATED = 20
_IMBALANCE = 10
"""The most frequent label beyond this many times the rarest is worth a note."""


def find(examples: Sequence[Example], keys: Sequence[str]) -> list[Finding]:
    """label_conflict, label_variant (one finding a row) and imbalance (one for all)."""
    labelled = [
        (example, key)
        for example, key in zip(examples, keys, strict=True)
        if example.text is not None and example.target is not None
    ]
    if not labelled:
        return []
    findings = _conflicts(labelled)
    counts = Counter(label for e, _ in labelled if e.number is None for label in e.classes)
    if counts:
        findings.extend(_variants(labelled, counts))
        findings.extend(_imbalance(labelled[0][0], counts))
    return findings


def _conflicts(labelled: Sequence[tuple[Example, str]]) -> list[Finding]:
    by_key: dict[str, list[Example]] = {}
    for example, key in labelled:
        by_key.setdefault(key, []).append(example)
    findings = []
    for group in by_key.values():
        targets = sorted({example.target or "" for example in group})
        if len(targets) < 2:
            continue
        for example in group:
            others = [other.row_id for other in group if other.target != example.target]
            findings.append(
                example.finding(
                    "label_conflict",
                    "warning",
                    f"the same text has the labels {', '.join(map(repr, targets[:5]))}",
                    "decide for one label; until then the rows stay on one side of the split",
                    tuple(others[:_MAX_RELATED]),
                )
            )
    return findings


def _variants(labelled: Sequence[tuple[Example, str]], counts: Counter[str]) -> list[Finding]:
    spellings: dict[str, list[str]] = {}
    for label in counts:
        plain = normal_text(label.replace("_", " ").replace("-", " "))
        spellings.setdefault(plain, []).append(label)
    usual: dict[str, str] = {}
    for group in spellings.values():
        best = max(group, key=lambda label: (counts[label], label))
        usual.update({label: best for label in group if label != best})
    return [
        example.finding(
            "label_variant",
            "warning",
            f"label {label!r} differs from {usual[label]!r} in spelling only",
            f"write it {usual[label]!r} if they mean the same",
        )
        for example, _ in labelled
        if example.number is None
        for label in example.classes
        if label in usual
    ]


def _imbalance(first: Example, counts: Counter[str]) -> list[Finding]:
    most, fewest = max(counts.values()), min(counts.values())
    if len(counts) < 2 or most < _IMBALANCE * fewest:
        return []
    common = min(label for label in counts if counts[label] == most)
    rare = sorted(label for label in counts if counts[label] == fewest)
    shown = ", ".join(map(repr, rare[:3])) + (f" and {len(rare) - 3} more" if len(rare) > 3 else "")
    return [
        Finding(
            "",
            first.source,
            0,
            None,
            "imbalance",
            "note",
            f"{common!r} has {most:,} rows, {shown} only {fewest:,}",
            "accuracy hides rare labels: look at macro-F1 and the table by label",
        )
    ]
