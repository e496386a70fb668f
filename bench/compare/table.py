"""The results as a table: plain on a terminal, Markdown in the page about performance.

In: records of cells as they stand in the JSON. Out: text. Must not know: how they were measured.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- side-by-side:begin -->", "<!-- side-by-side:end -->"
NOT_YET = "Not yet measured.\n"
NOISE = 0.05
"""Drift of the calibration, or share of the machine's time taken by the host, that is marked."""

HEADINGS = (
    "cell",
    "trained tokens/s",
    "peer's",
    "ratio (95 % interval)",
    "pairs",
    "peak GB",
    "job s",
    "of matmul",
)


def rows_of(cells: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """One row of words for each cell."""
    return [_measured(cell) if cell["status"] == "measured" else _other(cell) for cell in cells]


def plain(cells: Sequence[Mapping[str, Any]]) -> str:
    """The table for a terminal."""
    rows = [list(HEADINGS), *rows_of(cells)]
    full = [row for row in rows if len(row) == len(HEADINGS)]
    widths = [max(len(row[column]) for row in full) for column in range(len(HEADINGS))]
    lines = []
    for row in rows:
        if len(row) == len(HEADINGS):
            padded = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
            lines.append("  ".join(padded).rstrip())
        else:
            lines.append(f"{row[0].ljust(widths[0])}  {row[1]}")
    return "\n".join(lines) + "\n"


def markdown(record: Mapping[str, Any]) -> str:
    """The table for the page, with what a reader must know about the machine."""
    cells = record["cells"]
    if not cells:
        return NOT_YET
    lines = [
        "| " + " | ".join(HEADINGS) + " |",
        "|" + "---|" * len(HEADINGS),
    ]
    for row in rows_of(cells):
        padded = row if len(row) == len(HEADINGS) else [row[0], row[1], *[""] * 6]
        lines.append("| " + " | ".join(text.replace("|", "\\|") for text in padded) + " |")
    machine, settings = record["machine"], record["settings"]
    lines += [
        "",
        f"{machine['processor']}, {machine['cores']} cores, torch {machine['torch']}"
        f" ({machine['cpu_capability']}); {settings['threads']} pinned"
        f" {'thread' if settings['threads'] == 1 else 'threads'}; {record['created'][:10]},"
        f" commit {record['commit'][:10]}.",
        "",
        *_choices(cells),
    ]
    return "\n".join(lines) + "\n"


def write_into(page: Path, text: str) -> None:
    """Put a text between the markers of a page.

    Raises:
        ValueError: the page has no markers, or more than one pair.
    """
    old = page.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if len(pattern.findall(old)) != 1:
        raise ValueError(f"{page} must have {BEGIN} and {END} once")
    new = pattern.sub(lambda _: f"{BEGIN}\n{text}{END}", old)
    page.write_text(new, encoding="utf-8")


def noisy(cell: Mapping[str, Any]) -> bool:
    """Whether the machine was too restless for the figures to be trusted to a few per cent."""
    return cell["noise"]["drift"] > NOISE or cell["noise"]["steal_share"] > NOISE


def _measured(cell: Mapping[str, Any]) -> list[str]:
    ours, theirs, ratio = cell["fettle"], cell["peer"], cell["ratio"]
    mark = " ~" if noisy(cell) else ""
    share = f"{_percent(ours['of_float32'])} / {_percent(theirs['of_float32'])}"
    return [
        cell["name"],
        f"{ours['trained_per_second']:,.1f}",
        f"{theirs['trained_per_second']:,.1f}",
        f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f}){mark}",
        str(ratio["num_pairs"]),
        f"{ours['peak_bytes'] / 1e9:.1f} / {theirs['peak_bytes'] / 1e9:.1f}",
        f"{ours['job_seconds']:.0f} / {theirs['job_seconds']:.0f}",
        share,
    ]


def _other(cell: Mapping[str, Any]) -> list[str]:
    words = {
        "failed": "failed",
        "not_installed": "not installed",
        "missing": "not measured",
        "skipped": "not measured",
        "unfit": "not comparable",
    }
    return [cell["name"], f"{words[cell['status']]}: {cell['reason']}"]


def _choices(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """How each side was set, in each measured cell."""
    lines = ["What each side ran with:", ""]
    for cell in cells:
        if cell["status"] == "measured":
            ours = ", ".join(f"{k} {v}" for k, v in cell["fettle"]["settings"].items())
            theirs = ", ".join(f"{k} {v}" for k, v in cell["peer"]["settings"].items())
            peer = cell["peer"]["tool"]
            version = cell["peer"]["versions"].get(peer, "")
            name = f"{peer} {version}".strip()
            lines.append(
                f"- `{cell['name']}`: fettle {ours}; {name} {theirs or 'its own defaults'}"
            )
    return lines


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
