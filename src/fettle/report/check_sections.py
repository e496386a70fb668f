"""The parts of the page of `fettle check`: what was found, where rows went, lengths, labels.

In: ``Prepared`` and what was measured beside it. Out: tables and figures of bounded size, whatever
the number of rows. Must not know: HTML, files. Duplicates and the target: ``check_groups``.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from fettle.data.account.account import SIDES, Prepared
from fettle.data.account.actions import MADE_BY, to_manifest
from fettle.data.check.labels import RARE_ROWS, effective_number
from fettle.data.sensitive import redact
from fettle.recipe.policies import policy_of
from fettle.records.rows import Finding
from fettle.report import plots, words
from fettle.report.check_rows import Seen, excerpt, place_of, short_names, spread
from fettle.report.check_words import MEANINGS, POLICY_WORDS, REASONS, listed, number_of, readable
from fettle.report.data_sections import source_table
from fettle.report.tables import Bars, Figure, Table, cell, shown_value

NUM_EXAMPLES: Final = 5
"""Findings of a kind that are shown."""
MAX_SUSPECTED: Final = 40
MAX_BARS: Final = 15
"""Labels shown at each end; with no more than twice as many, all are."""
MAX_LABELS: Final = 200
MAX_SOURCES: Final = 30
_MAX_EVIDENCE: Final = 300
_WINDOW: Final = 4_000
_SEVERITIES: Final = ("error", "warning", "note")
_SCORE = re.compile(r"\(score (-?\d+(?:\.\d+)?)\)")


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long the rows are."""

    by_side: Mapping[str, Sequence[int]]
    """Side → length of each of its rows, before any cut."""
    unit: str
    """What is counted: tokens, or characters where no base was named."""
    limit: int | None = None
    """Most tokens of a row."""
    base: str = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of finding with examples."""

    name: str
    meaning: str
    count: int
    examples: Table
    more: int
    """Findings that are not shown."""


@dataclass(frozen=True, slots=True)
class LabelBalance:
    """How the rows are spread over the labels."""

    sentence: str
    bars: Sequence[Bars]
    notes: Sequence[str]
    table: Table
    more: int
    """Labels that are not in the table."""


def character_lengths(prepared: Prepared) -> Lengths:
    """Characters of each row, with its turns where it is a conversation."""
    return Lengths(
        {
            side: [
                len(row.text)
                if row.text is not None
                else sum(len(turn.content) for turn in row.messages)
                for row in prepared.examples[side]
            ]
            for side in SIDES
        },
        "characters",
    )


def counted(prepared: Prepared) -> dict[str, int]:
    """Findings that are not waived, by severity as a noun."""
    return {severity: len(prepared.counting(severity)) for severity in _SEVERITIES}


def sources(prepared: Prepared) -> tuple[Table, int]:
    """The files with their hashes, and how many are not listed."""
    found = [
        *(("data", source.to_json()) for source in prepared.sources),
        *(("eval", source.to_json()) for source in prepared.eval_sources),
    ]
    return source_table(found[:MAX_SOURCES]), max(0, len(found) - MAX_SOURCES)


def understood(prepared: Prepared) -> list[tuple[str, str]]:
    """How the columns were read, and what could have been read otherwise."""
    layout = prepared.layout
    rows: list[tuple[str, object]] = [
        ("task", prepared.judged_as.replace("_", " ")),
        ("layout", layout.name.replace("_", " ")),
        ("columns", dict(layout.columns)),
        ("because", layout.reason),
        *(("could also be", item) for item in layout.ambiguities[:NUM_EXAMPLES]),
        *(("not read", f"{name}: {reason}") for name, reason in prepared.skipped[:MAX_SOURCES]),
    ]
    if len(prepared.skipped) > MAX_SOURCES:
        rows.append(("not read", f"and {len(prepared.skipped) - MAX_SOURCES:,} more files"))
    against = prepared.against
    if against is not None:
        changes = ", ".join(f"{number:,} {kind}" for kind, number in against.counts().items())
        rows.append(("rows since the earlier check", f"{changes} ({against.directory})"))
    return [(key, shown_value(value)) for key, value in rows if value]


def places(prepared: Prepared) -> tuple[Figure, list[Table]]:
    """Rows by side and source, and why each is where it is."""
    counts = prepared.counts()
    by_source: dict[str, Counter[str]] = {}
    reasons: Counter[tuple[str, str]] = Counter()
    for row in prepared.splits:
        by_source.setdefault(row.source, Counter())[row.split] += 1
        reasons[row.split, row.reason] += 1
    names = [side for side, number in counts.items() if number]
    total = sum(counts.values())
    rows = [
        (cell(source), *(f"{found[side]:,}" for side in names), f"{sum(found.values()):,}")
        for source, found in list(by_source.items())[:MAX_SOURCES]
    ]
    if len(by_source) > MAX_SOURCES:
        rows.append((f"and {len(by_source) - MAX_SOURCES:,} more files", *[""] * (len(names) + 1)))
    if len(by_source) > 1:
        rows.append(("all files", *(f"{counts[side]:,}" for side in names), f"{total:,}"))
    columns = ("file", *names, "all")
    table = Table("Input rows by file", columns, rows, frozenset(range(1, len(columns))))
    figure = Figure(
        plots.split_plot({side: counts[side] for side in names}),
        f"All {number_of(total, 'input row')}; none is left out.",
    )
    order = {side: index for index, side in enumerate(counts)}
    why = Table(
        "Why rows are on their side",
        ("side", "reason", "rows"),
        [
            (side, cell(REASONS.get(reason, readable(reason))), f"{number:,}")
            for (side, reason), number in sorted(
                reasons.items(), key=lambda item: (order[item[0][0]], -item[1], item[0][1])
            )
            if side != "quarantine"
        ],
        numeric=frozenset({2}),
        is_compact=True,
    )
    return figure, [table, why]


def quarantine(prepared: Prepared, directory: str) -> Table | None:
    """Rows that were set aside by reason: who decided, and how they come back."""
    reasons = Counter(reason for _, _, reason in prepared.quarantined)
    if not reasons:
        return None
    rows = []
    for reason, number in reasons.most_common():
        by, line = MADE_BY.get(reason, (f"data.policies.{reason}", "as its evidence says"))
        back = f"fettle restore {directory} --kind {reason}"
        rows.append((readable(reason), f"{number:,}", cell(by), cell(line), cell(back)))
    return Table(
        "Rows in quarantine",
        ("reason", "rows", "decided by", "threshold", "bring them back"),
        rows,
        numeric=frozenset({1}),
        code=frozenset({4}),
    )


def waivers(prepared: Prepared) -> Table | None:
    """Findings that somebody accepted."""
    rows = [
        (
            readable(str(item["kind"])),
            f"{item['findings']:,}",
            cell(item["reason"]),
            cell(item["by"]),
            cell(item["expires"] or "no end"),
        )
        for item in to_manifest(prepared.waivers, prepared.waived)
    ]
    columns = ("kind", "findings", "reason", "by", "until")
    return Table("Accepted findings (waivers)", columns, rows, frozenset({1})) if rows else None


def kinds(prepared: Prepared) -> tuple[Table | None, dict[str, list[Finding]]]:
    """The table of kinds, and the findings that are shown of each: errors before notes."""
    groups: dict[str, list[Finding]] = {}
    for finding in prepared.findings:
        groups.setdefault(finding.kind, []).append(finding)
    if not groups:
        return None, {}
    waived = Counter(item.kind for item in prepared.waived)
    rows = []
    chosen = {}
    for kind, found in sorted(groups.items(), key=lambda item: _weight(item[1], item[0])):
        severities = Counter(finding.severity for finding in found)
        worst = next(severity for severity in _SEVERITIES if severities[severity])
        remedies = Counter(finding.remedy for finding in found).most_common()
        remedy = shown_label(remedies[0][0], _MAX_EVIDENCE)
        if len(remedies) > 1:
            remedy += f" (and {number_of(len(remedies) - 1, 'other remedy', 'other remedies')})"
        policy = policy_of(kind, prepared.policies)
        by = " (recipe)" if kind in prepared.policies else ""
        rows.append(
            (
                readable(kind),
                f"{len(found):,}",
                worst
                if len(severities) == 1
                else listed({severity: severities[severity] for severity in _SEVERITIES}),
                *([f"{waived[kind]:,}"] if waived else []),
                f"{policy}: {POLICY_WORDS[policy]}{by}",
                remedy,
            )
        )
        chosen[kind] = spread([f for f in found if f.severity == worst], NUM_EXAMPLES)
    columns = ("kind", "count", "severity", *(["accepted"] if waived else []), "policy", "remedy")
    numeric = frozenset({1, 3}) if waived else frozenset({1})
    return Table("Findings by kind", columns, rows, numeric), chosen


def _weight(found: Sequence[Finding], kind: str) -> tuple[int, int, str]:
    worst = min(_SEVERITIES.index(finding.severity) for finding in found)
    return worst, -len(found), kind


def kind_examples(
    prepared: Prepared, chosen: Mapping[str, Sequence[Finding]], seen: Mapping[str, Seen]
) -> list[Kind]:
    """The findings of each kind that are shown.

    Args:
        prepared: the account.
        chosen: from ``kinds``.
        seen: the rows that they are about.
    """
    counts = Counter(finding.kind for finding in prepared.findings)
    names = short_names(prepared)
    return [
        Kind(
            readable(kind),
            MEANINGS.get(kind, ""),
            counts[kind],
            Table(
                f"Examples of {readable(kind)}",
                ("place", "row", "side", "evidence", "remedy"),
                [
                    (
                        cell(place_of(finding, names)),
                        cell(finding.row_id or "–"),
                        seen[finding.row_id].side if finding.row_id in seen else "–",
                        shown_evidence(finding, names),
                        shown_label(finding.remedy, _MAX_EVIDENCE),
                    )
                    for finding in found
                ],
                code=frozenset({1}),
            ),
            counts[kind] - len(found),
        )
        for kind, found in chosen.items()
    ]


def shown_evidence(finding: Finding, names: Mapping[str, str]) -> str:
    """Evidence for the page: masked once more, for accounts of other versions.

    Args:
        finding: any.
        names: from ``short_names``: files are named as in the column of places.
    """
    evidence = redact(finding.evidence)
    for path, name in names.items():
        if path != name and path in evidence:
            evidence = evidence.replace(f"{path}:", f"{name}:").replace(f"{path},", f"{name},")
    return cell(evidence, _MAX_EVIDENCE)


def shown_label(text: str, longest: int = 100) -> str:
    """A label, or what names one, for the page: like any text of a row it may have to be masked."""
    return cell(redact(text), longest)


def lengths(found: Lengths) -> tuple[Figure | None, Table | None, str]:
    """The histogram, figures by side, and one sentence about the limit."""
    known = {side: rows for side, rows in found.by_side.items() if len(rows)}
    if not known:
        return None, None, "There is no row to measure."
    values = np.concatenate([np.asarray(rows) for rows in known.values()])
    svg, clipped = plots.length_plot(known, unit=found.unit, limit=found.limit)
    caption = f"Lengths of {number_of(len(values), 'row')} in {found.unit}"
    caption += "." if found.limit is None else ", before any cut."
    if clipped:
        caption += f" The last bar also holds {number_of(clipped, 'row')} beyond the axis."
    limit = found.limit
    over = None if limit is None else f"over {limit:,}"
    table = Table(
        f"Lengths in {found.unit}",
        ("side", "rows", "median", "95 % up to", "longest", *([over] if over else [])),
        [
            _length_row(side, rows, limit)
            for side, rows in [*known.items(), ("all", values.tolist())]
        ],
        numeric=frozenset(range(1, 6)),
    )
    if limit is None:
        sentence = (
            "No base was named, so lengths are in characters and no limit is known. "
            "With --base they are counted in the base's own tokens, with its chat template."
        )
    else:
        number = int((values > limit).sum())
        sentence = (
            f"Under the tokenizer and template of {plain_base(found.base)}, "
            f"{number:,} of {number_of(len(values), 'row')} "
            f"{'is' if number == 1 else 'are'} longer than the limit of {limit:,} {found.unit}."
        )
    return Figure(svg, caption), table, sentence


def plain_base(base: str) -> str:
    """The name of a base, short enough for a sentence."""
    return cell(base or "the base", 100)


def _length_row(side: str, rows: Sequence[int], limit: int | None) -> tuple[str, ...]:
    values = np.asarray(rows)
    figures = (np.median(values), np.quantile(values, 0.95, method="higher"), values.max())
    over = () if limit is None else (f"{int((values > limit).sum()):,}",)
    return (side, f"{len(values):,}", *(f"{figure:,.0f}" for figure in figures), *over)


def labels(prepared: Prepared) -> LabelBalance | None:
    """Rows by label, the most frequent and the rarest; None where rows have no labels."""
    if not prepared.labels:
        return None
    counts = Counter(prepared.label_counts())
    by_side = {side: prepared.label_counts(side) for side in SIDES if prepared.examples[side]}
    ordered = sorted(counts, key=lambda label: (-counts[label], label))
    total = sum(counts.values())
    most = max(counts[ordered[0]], 1)
    if len(ordered) <= 2 * MAX_BARS:
        bars = [_bars("Rows by label", ordered, counts, total, most)]
    else:
        head, tail = ordered[:MAX_BARS], ordered[-MAX_BARS:]
        bars = [
            _bars(f"The {MAX_BARS} most frequent labels", head, counts, total, most),
            _bars(f"The {MAX_BARS} rarest labels", tail, counts, total, most),
        ]
    rows = [
        (
            shown_label(label),
            *(f"{by_side[side][label]:,}" for side in by_side),
            f"{counts[label]:,}",
        )
        for label in ordered[:MAX_LABELS]
    ]
    columns = ("label", *by_side, "all")
    table = Table("Rows by label and side", columns, rows, frozenset(range(1, len(columns))))
    return LabelBalance(
        _balance_sentence(counts, ordered, prepared.multi_label),
        bars,
        _balance_notes(prepared, counts),
        table,
        max(0, len(ordered) - MAX_LABELS),
    )


def _bars(
    caption: str, names: Sequence[str], counts: Mapping[str, int], total: int, most: int
) -> Bars:
    return Bars(
        caption,
        ("label", "rows", "share"),
        [
            (
                shown_label(name),
                f"{counts[name]:,}",
                words.percent(counts[name] / total),
                (counts[name] / most,),
            )
            for name in names
        ],
    )


def _balance_sentence(counts: Mapping[str, int], ordered: Sequence[str], several: bool) -> str:
    first, last = ordered[0], ordered[-1]
    sentence = (
        f"{number_of(len(ordered), 'label')}: the most frequent, {shown_label(first, 80)}, has "
        f"{number_of(counts[first], 'row')}, the rarest, {shown_label(last, 80)}, {counts[last]:,};"
        f" they are as uneven as {effective_number(counts):.1f} equal labels."
    )
    return sentence + (" A row may have several labels, or none." if several else "")


def _balance_notes(prepared: Prepared, counts: Mapping[str, int]) -> list[str]:
    """What the check said about balance, and where the sides differ."""
    notes = [
        f"{shown_evidence(finding, {})}; {shown_label(finding.remedy, _MAX_EVIDENCE)}."
        for finding in prepared.findings
        if finding.kind == "imbalance"
    ]
    few = sum(number < RARE_ROWS for number in counts.values())
    if few and not notes:
        notes.append(f"{number_of(few, 'label')} with fewer than {RARE_ROWS} rows.")
    deviation = prepared.label_deviation()
    if deviation is not None and len(deviation["shares"]) > 1:
        shares = ", ".join(
            f"{side} {words.percent(share)}" for side, share in deviation["shares"].items()
        )
        label = shown_label(deviation["label"])
        notes.append(f"The share that differs most between sides: {label}: {shares}.")
    return notes


def target_numbers(prepared: Prepared) -> Table | None:
    """The numbers to predict, by side; None unless the task is regress."""
    rows = []
    for side in SIDES:
        values = [row.number for row in prepared.examples[side] if row.number is not None]
        if values:
            quantiles = np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
            rows.append((side, f"{len(values):,}", *(f"{value:,.6g}" for value in quantiles)))
    columns = ("side", "rows", "smallest", "25 % up to", "median", "75 % up to", "largest")
    numeric = frozenset(range(1, 7))
    return Table("Numbers to predict", columns, rows, numeric) if rows else None


def suspected(prepared: Prepared) -> list[Finding]:
    """Labels that are probably wrong and are shown, the likeliest first."""
    found = [f for f in prepared.findings if f.kind == "label_error_suspected" and f.row_id]
    return sorted(found, key=lambda f: (-_score(f), f.row_id))[:MAX_SUSPECTED]


def _score(finding: Finding) -> float:
    match = _SCORE.search(finding.evidence)
    return float(match[1]) if match else 0.0


def suspected_table(
    prepared: Prepared, found: Sequence[Finding], seen: Mapping[str, Seen]
) -> Table | None:
    """Labels that are probably wrong, with their rows.

    Args:
        prepared: the account.
        found: from ``suspected``.
        seen: the rows that they are about.
    """
    if not found:
        return None
    unknown = Seen("–", "–", "", "")
    names = short_names(prepared)
    rows = []
    for finding in found:
        row = seen.get(finding.row_id, unknown)
        rows.append(
            (
                cell(place_of(finding, names)), row.side, row.text, cell(row.label, 100),
                shown_evidence(finding, names), finding.row_id,
            )
        )  # fmt: skip
    columns = ("place", "side", "text", "label", "evidence", "row")
    return Table("Labels to read again", columns, rows, code=frozenset({5}))


def repairs(entries: Sequence[Mapping[str, object]]) -> Table | None:
    """Texts before and after they were mended.

    Args:
        entries: entries of the ledger with the action repair.
    """
    rows = []
    for entry in entries:
        before, after = _masked(str(entry["before"])), _masked(str(entry["after"]))
        start = next(
            (i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b),
            min(len(before), len(after)),
        )
        start = max(0, start - 40)
        what = entry["kinds"]
        kinds_shown = ", ".join(map(readable, what)) if isinstance(what, list) else ""
        lead = "…" if start else ""
        rows.append(
            (
                cell(f"{entry['source']}, record {entry['record']}"),
                cell(entry["column"] or entry["field"]),
                kinds_shown,
                lead + excerpt(before[start:], 120),
                lead + excerpt(after[start:], 120),
            )
        )
    columns = ("place", "column", "kinds", "before", "after")
    return Table("Mended texts", columns, rows) if rows else None


def _masked(text: str) -> str:
    """The beginning of a long text without its last characters, which may be half a secret."""
    window = redact(text[:_WINDOW])
    return window if len(text) <= _WINDOW else window[: -_WINDOW // 4]
