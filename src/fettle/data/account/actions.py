"""What was done to the rows, as entries of the ledger.

In: a prepared data set. Out: entries: input, waiver, repair, mask, quarantine, balance. Must not
know: files, how a decision was made.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from fettle.data.account.ledger import check_balance, shown, total
from fettle.data.cleaning.clean import ALGORITHM, repair
from fettle.data.cleaning.waivers import Waived
from fettle.data.meaning.detect import Layout
from fettle.data.meaning.normalize import BEFORE, fixed_kinds
from fettle.data.reading.read import Source
from fettle.recipe.policies import Policy
from fettle.recipe.recipe import Waiver
from fettle.records.rows import Example, Finding, RawRow
from fettle.version import __version__

_BY = f"fettle {__version__}"
MADE_BY: Mapping[str, tuple[str, str]] = {
    "malformed_row": ("the reader of its format", "one fault"),
    "empty": ("white space taken off", "no character is left"),
    "role_order": ("order of turns", "one fault"),
    "exact_duplicate": ("NFKC, case folded, white space joined; xxh3-128", "equal"),
    "split_leak": ("NFKC, case folded, white space joined; xxh3-128", "equal"),
    "unused_holdout": ("split column or earlier run", "another holdout was given"),
    "overlong": ("the base's tokenizer and template", "train.max_length"),
    "template_refused": ("the base's template", "one fault"),
    "zero_weight": ("train.class_weights", "0"),
}
"""Kind -> the algorithm that decides, and where it draws the line; others say it as evidence."""


class Done(Protocol):
    """What is read of ``account.Prepared``."""

    @property
    def examples(self) -> Mapping[str, list[Example]]: ...
    @property
    def quarantined(self) -> list[tuple[RawRow, str, str]]: ...
    @property
    def findings(self) -> list[Finding]: ...
    @property
    def layout(self) -> Layout: ...
    @property
    def sources(self) -> list[Source]: ...
    @property
    def eval_sources(self) -> list[Source]: ...
    @property
    def received(self) -> int: ...
    @property
    def hashes(self) -> Mapping[str, int]: ...
    @property
    def policies(self) -> Mapping[str, Policy]: ...
    @property
    def waivers(self) -> Sequence[Waiver]: ...
    @property
    def waived(self) -> Sequence[Waived]: ...
    @property
    def masked(self) -> Mapping[str, tuple[str, ...]]: ...


def entries(done: Done) -> list[dict[str, Any]]:
    """Every change, in the order: input, waivers, repairs, masks, quarantine, balance.

    Raises:
        IntegrityError: E0921, the sums of the rows do not balance.
    """
    parts = sums(done)
    check_balance(done.received, parts)
    return [
        {
            "action": "input",
            "by": _BY,
            "rows": len(done.hashes),
            "sum": shown(done.received),
            "sources": [
                {"path": source.path, "sha256": source.sha256}
                for source in (*done.sources, *done.eval_sources)
            ],
        },
        *_waivers(done),
        *_repairs(done),
        *_masks(done),
        *_quarantine(done),
        {
            "action": "balance",
            "input": shown(done.received),
            **{name: shown(value) for name, value in parts.items()},
        },
    ]


def sums(done: Done) -> dict[str, int]:
    """Sum of the raw records of the rows that were kept as they were, repaired, set aside."""
    changed = set(done.masked)
    kept: list[int] = []
    repaired: list[int] = []
    for rows in done.examples.values():
        for example in rows:
            is_changed = example.row_id in changed or is_repaired(example)
            (repaired if is_changed else kept).append(done.hashes[example.row_id])
    return {
        "kept": total(kept),
        "repaired": total(repaired),
        "quarantined": total(done.hashes[row_id] for _, row_id, _ in done.quarantined),
    }


def is_repaired(example: Example) -> bool:
    """Whether a text of the row was mended."""
    return any(tag.startswith(BEFORE) for tag in example.tags)


def column_of(place: str, layout: Layout) -> str | None:
    """The column that holds a place of an example: text, prompt, messages.3 …"""
    return layout.columns.get(place.partition(".")[0])


def _waivers(done: Done) -> Iterator[dict[str, Any]]:
    for item in sorted(done.waived, key=lambda item: (item.waiver, item.kind, item.row_id)):
        waiver = done.waivers[item.waiver - 1]
        yield {
            "action": "waiver",
            "row_id": item.row_id,
            "kind": item.kind,
            "reason": waiver.reason,
            "by": waiver.by,
            "expires": None if waiver.expires is None else waiver.expires.isoformat(),
        }


def _repairs(done: Done) -> Iterator[dict[str, Any]]:
    unescape = done.layout.name == "text_label"
    kinds = fixed_kinds(done.policies)
    for example in _in_order(done):
        for tag, before in sorted(example.tags.items()):
            if not tag.startswith(BEFORE):
                continue
            after, repairs = repair(before, unescape, kinds)
            place = tag.removeprefix(BEFORE)
            yield {
                "action": "repair",
                "row_id": example.row_id,
                "source": example.source,
                "record": example.record,
                "field": place,
                "column": column_of(place, done.layout),
                "kinds": sorted({kind for kind, _ in repairs} & kinds),
                "before": before,
                "after": after,
                "algorithm": ALGORITHM,
                "threshold": "any damage that can be undone",
            }


def _masks(done: Done) -> Iterator[dict[str, Any]]:
    """Without the text before: what is masked must not stand in another file."""
    for example in _in_order(done):
        if example.row_id in done.masked:
            yield {
                "action": "mask",
                "row_id": example.row_id,
                "source": example.source,
                "record": example.record,
                "kinds": list(done.masked[example.row_id]),
                "algorithm": _BY,
                "threshold": "every place that was found",
            }


def _quarantine(done: Done) -> Iterator[dict[str, Any]]:
    evidence: dict[tuple[str, str], str] = {}
    for finding in done.findings:
        evidence.setdefault((finding.row_id, finding.kind), finding.evidence)
    for raw, row_id, reason in done.quarantined:
        algorithm, threshold = MADE_BY.get(reason, (_BY, "in the evidence"))
        yield {
            "action": "quarantine",
            "row_id": row_id,
            "source": raw.source,
            "record": raw.record,
            "reason": reason,
            "evidence": evidence.get((row_id, reason), ""),
            "algorithm": algorithm,
            "threshold": threshold,
            "blake2b": shown(done.hashes[row_id]),
        }


def _in_order(done: Done) -> list[Example]:
    rows = [example for side in done.examples.values() for example in side]
    return sorted(rows, key=lambda example: (example.source, example.record))


def to_manifest(waivers: Sequence[Waiver], waived: Sequence[Waived]) -> list[dict[str, Any]]:
    """The waivers with the number of findings that each covers."""
    counts: dict[int, int] = {}
    for item in waived:
        counts[item.waiver] = counts.get(item.waiver, 0) + 1
    return [
        {**json.loads(waiver.model_dump_json()), "findings": counts.get(number, 0)}
        for number, waiver in enumerate(waivers, start=1)
    ]
