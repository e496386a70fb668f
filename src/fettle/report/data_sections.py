"""The data account of the report: every input row, the quarantine, findings, sources.

In: ``Contents``. Out: tables and a figure. Must not know: HTML.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fettle.report import plots, words
from fettle.report.contents import SPLITS, Contents, mapping
from fettle.report.tables import Figure, Table, cell, shown_value
from fettle.report.words import plain


@dataclass(frozen=True, slots=True)
class DataAccount:
    """Where every input row went."""

    total: int
    figure: Figure | None
    tables: Sequence[Table] = field(default_factory=tuple)
    layout: Sequence[tuple[str, str]] = ()


def data_account(contents: Contents) -> DataAccount:
    """Every input row: its split, the quarantine by reason, the findings, the sources."""
    counts = contents.splits.total
    known = {name: counts[name] for name in SPLITS if counts[name]}
    known.update({name: rows for name, rows in counts.items() if name not in SPLITS})
    total = sum(counts.values())
    figure = None
    if total:
        figure = Figure(
            plots.split_plot({plain(name): rows for name, rows in known.items()}),
            f"All {total:,} input rows; none is left out.",
            "data/splits.jsonl",
        )
    tables = []
    if total:
        tables.append(_split_table(contents, total))
    if contents.sources:
        tables.append(source_table(contents.sources, "data/manifest.json › sources"))
    if contents.splits.reasons:
        tables.append(
            Table(
                "Quarantine by reason",
                ("reason", "rows"),
                [
                    (cell(reason), f"{rows:,}")
                    for reason, rows in contents.splits.reasons.most_common()
                ],
                numeric=frozenset({1}),
                is_compact=True,
                source="data/splits.jsonl",
            )
        )
    if contents.findings:
        tables.append(
            Table(
                "Findings",
                ("kind", "severity", "count", "example", "remedy"),
                [
                    (
                        cell(item.kind.replace("_", " ")),
                        item.severity,
                        f"{item.count:,}",
                        cell(item.evidence, 200),
                        cell(item.remedy, 200),
                    )
                    for item in contents.findings
                ],
                numeric=frozenset({2}),
                source="data/findings.jsonl",
            )
        )
    return DataAccount(total, figure, tables, _layout(contents.manifest))


def _split_table(contents: Contents, total: int) -> Table:
    names = [name for name in SPLITS if contents.splits.total[name]]
    rows = [
        (cell(source), *(f"{counts[name]:,}" for name in names), f"{sum(counts.values()):,}")
        for source, counts in contents.splits.by_source.items()
    ]
    if len(rows) > 1:
        sums = [f"{contents.splits.total[name]:,}" for name in names]
        rows.append(("all sources", *sums, f"{total:,}"))
    columns = ("source", *names, "all")
    numeric = frozenset(range(1, len(columns)))
    return Table("Input rows by source", columns, rows, numeric, source="data/splits.jsonl")


def source_table(sources: Sequence[tuple[str, Mapping[str, Any]]], source: str = "") -> Table:
    """Files that were read, with their hashes."""
    return Table(
        "Sources",
        ("file", "given as", "format", "encoding", "records", "malformed", "size", "SHA-256"),
        [
            (
                cell(item.get("path", "")),
                use,
                cell(item.get("format") or "–"),
                cell(item.get("encoding") or "–"),
                words.count(item.get("num_records")),
                words.count(item.get("num_malformed")),
                words.size(item.get("num_bytes")),
                cell(item.get("sha256") or "–"),
            )
            for use, item in sources
        ],
        numeric=frozenset({4, 5, 6}),
        code=frozenset({7}),
        source=source,
    )


def _layout(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How the columns were understood, and what could have been read otherwise."""
    layout = mapping(manifest.get("layout"))
    rows = [("layout", layout.get("name")), ("columns", layout.get("columns"))]
    rows.append(("because", layout.get("reason")))
    rows += [("could also be", item) for item in layout.get("ambiguities") or ()]
    rows += [
        ("not read", f"{item[0]}: {item[1]}")
        for item in manifest.get("skipped") or ()
        if isinstance(item, list) and len(item) == 2
    ]
    rows += _about_holdout(manifest)
    return [(key, shown_value(value)) for key, value in rows if value]


def _about_holdout(manifest: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What the verdict does not cover, and how alike the sides are."""
    left_out = mapping(manifest.get("holdout_left_out"))
    deviation = mapping(manifest.get("label_deviation"))
    shares = mapping(deviation.get("shares"))
    listed = ", ".join(
        f"{words.count(rows)} {plain(kind).replace('_', ' ')}" for kind, rows in left_out.items()
    )
    shown = ", ".join(f"{side} {words.percent(share)}" for side, share in shares.items())
    return [
        ("left out of the holdout", listed),
        ("holdout rows of groups in train", manifest.get("holdout_rows_with_train_group")),
        ("label that differs most", f"{deviation.get('label')}: {shown}" if shown else None),
    ]
