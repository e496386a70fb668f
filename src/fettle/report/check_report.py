"""report.html of `fettle check`: what is in the data, and what became of it, on one page.

In: ``Prepared`` with what was measured beside it, and the ledger in the account's folder. Out: the
page, as text or in that folder. Like the report of a run it has no script and loads nothing; its
size does not grow with the rows. Must not know: models, how anything on it was found.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fettle.data.account.account import Prepared
from fettle.data.account.ledger import LEDGER
from fettle.data.cleaning.policy import holdout_review
from fettle.data.near.clusters import shown_text
from fettle.data.represent.represent import Representation
from fettle.records.rows import Example
from fettle.records.run_directory import write_atomic
from fettle.report import check_groups, check_sections
from fettle.report.check_rows import excerpt, look_up
from fettle.report.check_sections import Lengths, character_lengths
from fettle.report.check_words import OUTCOMES, number_of, outcome_of, readable, summary
from fettle.report.report import page_environment
from fettle.report.tables import Table, cell
from fettle.report.words import plain
from fettle.version import __version__

__all__ = ["CHECK_REPORT", "Lengths", "Mended", "read_mended", "render_check", "write_check_report"]

CHECK_REPORT: Final = "report.html"
_MAX_REPAIRS: Final = 10
_ACTION_WITHIN: Final = 160
"""Characters of a ledger line in which its action stands: after its number and one hash."""


@dataclass(frozen=True, slots=True)
class Mended:
    """What the ledger says of texts that were changed, and of itself."""

    repairs: Mapping[str, int]
    """Kind → texts that were mended."""
    masks: Mapping[str, int]
    """Kind → rows in which something was masked."""
    examples: Sequence[Mapping[str, Any]]
    """The first entries about repairs."""
    lines: int
    head: str
    """SHA-256 of the last line."""


def write_check_report(
    directory: Path,
    prepared: Prepared,
    *,
    lengths: Lengths | None = None,
    representation: Representation | None = None,
    target_examples: Sequence[Example] = (),
    remaining: int | None = None,
) -> Path:
    """Write report.html into the folder of an account.

    Args:
        directory: the folder, as ``write_account`` made it.
        prepared: the account.
        lengths: tokens of each row under a base; None = characters are counted.
        representation: how a target compares with train; None = no target was given.
        target_examples: rows of the target, for examples of what train lacks.
        remaining: errors that remain (``Checked.remaining``); None = all that are not waived.

    Returns:
        The path of the report.

    Raises:
        MachineError: E0401, the report can't be written.
    """
    page = render_check(
        prepared,
        name=directory.resolve().name,
        directory=str(directory),
        mended=read_mended(directory / LEDGER),
        lengths=lengths,
        representation=representation,
        target_examples=target_examples,
        remaining=remaining,
    )
    path = directory / CHECK_REPORT
    write_atomic(path, page)
    return path


def render_check(
    prepared: Prepared,
    *,
    name: str,
    directory: str,
    mended: Mended | None = None,
    lengths: Lengths | None = None,
    representation: Representation | None = None,
    target_examples: Sequence[Example] = (),
    remaining: int | None = None,
) -> str:
    """The page as text.

    Args:
        prepared: the account.
        name: of the check.
        directory: the folder of the account as the user named it, for commands.
        mended: from ``read_mended``; None = the account has no ledger.
        lengths, representation, target_examples, remaining: as in ``write_check_report``.
    """
    errors = len(prepared.counting("error"))
    values = {
        "version": __version__,
        "name": plain(name),
        "directory": plain(directory),
        **_outcome(prepared, errors if remaining is None else remaining),
        **_about_findings(prepared),
        **_about_rows(prepared, directory, mended),
        **_about_lengths(lengths or character_lengths(prepared)),
        "labels": check_sections.labels(prepared),
        "numbers": check_sections.target_numbers(prepared),
        "task": prepared.judged_as,
        "target": _target(representation, target_examples),
        "num_target": 0 if representation is None else representation.num_target,
        "num_train": 0 if representation is None else representation.num_train,
    }
    page = page_environment().get_template("check.html.jinja").render(values)
    return page.encode("utf-8", "replace").decode("utf-8")


def read_mended(path: Path) -> Mended | None:
    """What a ledger says of repairs and masks; None where an older account has no ledger.

    Args:
        path: ledger.jsonl. It was verified when the account was written or loaded.
    """
    if not path.is_file():
        return None
    repairs: Counter[str] = Counter()
    masks: Counter[str] = Counter()
    examples: list[Mapping[str, Any]] = []
    lines, last = 0, b""
    with path.open("rb") as file:
        for line in file:
            lines, last = lines + 1, line
            start = line[:_ACTION_WITHIN]
            if b'"action": "repair"' in start:
                entry = json.loads(line)
                repairs.update(entry["kinds"])
                if len(examples) < _MAX_REPAIRS:
                    examples.append(entry)
            elif b'"action": "mask"' in start:
                masks.update(json.loads(line)["kinds"])
    head = hashlib.sha256(last.rstrip(b"\n")).hexdigest()
    return Mended(dict(repairs), dict(masks), examples, lines, head)


def _outcome(prepared: Prepared, remaining: int) -> dict[str, Any]:
    counts = prepared.counts()
    found = check_sections.counted(prepared)
    level = outcome_of(remaining, counts["quarantine"], found["warning"])
    figures = [("input rows", len(prepared.splits)), *counts.items()]
    return {
        "level": level,
        "style": OUTCOMES[level],
        "summary": summary(len(prepared.splits), counts, found),
        "is_strict": remaining > found["error"],
        "remaining": remaining,
        "scores": [
            *((name, f"{number:,}") for name, number in figures),
            *((f"{severity}s", f"{number:,}") for severity, number in found.items()),
        ],
    }


def _about_rows(prepared: Prepared, directory: str, mended: Mended | None) -> dict[str, Any]:
    figure, tables = check_sections.places(prepared)
    sources, more_sources = check_sections.sources(prepared)
    review = holdout_review(prepared.findings, prepared.protected, prepared.waived)
    return {
        "places": figure,
        "place_tables": tables,
        "sources": sources,
        "more_sources": more_sources,
        "understood": check_sections.understood(prepared),
        "quarantine": check_sections.quarantine(prepared, directory),
        "num_changed": prepared.num_changed,
        "changed": _changed(mended),
        "repairs": None if mended is None else check_sections.repairs(mended.examples),
        "ledger": mended,
        "waivers": check_sections.waivers(prepared),
        "review": len({str(line["row_id"]) for line in review}),
    }


def _changed(mended: Mended | None) -> Table | None:
    """How many texts were mended or masked, by kind."""
    if mended is None or not (mended.repairs or mended.masks):
        return None
    rows = [
        (readable(kind), what, number_of(number, one))
        for counts, what, one in (
            (mended.repairs, "mended; the text before is kept", "text"),
            (mended.masks, "masked; the original is in its file alone", "row"),
        )
        for kind, number in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]
    columns = ("kind", "what was done", "how often")
    return Table("What was cleaned", columns, rows, frozenset({2}), is_compact=True)


def _about_findings(prepared: Prepared) -> dict[str, Any]:
    kinds, chosen = check_sections.kinds(prepared)
    suspected = check_sections.suspected(prepared)
    clusters = check_groups.clusters(prepared)
    wanted = {finding.row_id for found in chosen.values() for finding in found}
    wanted |= {finding.row_id for finding in suspected} | set(clusters.wanted())
    seen = look_up(prepared, wanted)
    all_suspected = sum(f.kind == "label_error_suspected" and bool(f.row_id)
                        for f in prepared.findings)  # fmt: skip
    return {
        "kinds": kinds,
        "kind_examples": check_sections.kind_examples(prepared, chosen, seen),
        "suspected": check_sections.suspected_table(prepared, suspected, seen),
        "num_suspected": all_suspected,
        "more_suspected": all_suspected - len(suspected),
        "clusters": clusters,
        "shown_clusters": check_groups.shown_clusters(clusters, seen),
        "duplicates": check_groups.duplicate_counts(prepared),
    }


def _about_lengths(found: Lengths) -> dict[str, Any]:
    figure, table, sentence = check_sections.lengths(found)
    return {"length_figure": figure, "length_table": table, "length_sentence": sentence}


def _target(
    found: Representation | None, examples: Sequence[Example]
) -> check_groups.Target | None:
    if found is None:
        return None
    wanted = set(check_groups.target_rows(found))
    texts = {e.row_id: excerpt(shown_text(e), 120) for e in examples if e.row_id in wanted}
    return check_groups.target(found, {row_id: cell(text) for row_id, text in texts.items()})
