"""The account of the data: where every input record ended, on disk.

In: ``Prepared``. Out: the files of a run's data/ folder, and ``Prepared`` read back from them. Must
not know: how anything in them was decided.

    manifest.json     sources with their hashes, layout, counts, labels, seed; hashes of the rest
    rows.jsonl        examples with their side, cleaned; the text before cleaning in their tags
    findings.jsonl    what was noticed
    splits.jsonl      one line for every input record (contract: DESIGN section 5)
    quarantine.jsonl  quarantined records with their raw fields and the reason
    holdout_review.jsonl  findings about rows of a given holdout, which a person has to look at
    changes.jsonl     rows that are new, gone or moved against an earlier account
    ledger.jsonl      every change, hash-chained; lines are only ever added
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import date
from pathlib import Path
from typing import Any, cast

from fettle.data.account.actions import entries, is_repaired, sums, to_manifest
from fettle.data.account.ledger import LEDGER, chain, check_balance, head_of, shown, verify
from fettle.data.account.updates import Changes, read_changes
from fettle.data.cleaning.policy import holdout_review, redacted, with_severity
from fettle.data.cleaning.waivers import Waived, find_waived
from fettle.data.meaning.detect import Layout
from fettle.data.reading.read import Source
from fettle.data.split import Fractions
from fettle.errors import IntegrityError
from fettle.recipe.policies import Policy
from fettle.recipe.recipe import Task, Waiver
from fettle.records.outcomes import SCHEMA
from fettle.records.rows import Example, Finding, Message, RawRow, Severity, SplitRow
from fettle.records.run_directory import read_json, read_jsonl, staged_directory, write_atomic

SIDES = ("train", "validation", "holdout")


ACCOUNT_FILES = (
    "manifest.json",
    "rows.jsonl",
    "findings.jsonl",
    "splits.jsonl",
    "quarantine.jsonl",
)
"""Files of every account; those of older versions have no others."""
LATER_FILES = ("holdout_review.jsonl", "changes.jsonl", LEDGER, "patch.jsonl")


@dataclass(frozen=True, slots=True)
class Prepared:
    """Rows that are ready to be tokenized, and the account of all the others."""

    examples: Mapping[str, list[Example]]
    """By side: train, validation, holdout."""
    quarantined: list[tuple[RawRow, str, str]]
    """Raw row, row id, reason."""
    findings: list[Finding]
    splits: list[SplitRow]
    """One for every input record, in the order of the input."""
    layout: Layout
    sources: list[Source]
    eval_sources: list[Source]
    task: Task
    labels: tuple[str, ...]
    """classify: every label of any side, sorted; else empty."""
    seed: int
    fractions: Fractions
    holdout_sha256: str
    """From ``hash_holdout``, before a later stage takes rows out."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Holdout rows that are in quarantine, by reason: nothing is said about them."""
    skipped: list[tuple[str, str]] = field(default_factory=list)
    """Files of a folder that were not read, with the reason."""
    raw: Mapping[str, RawRow] = field(default_factory=dict)
    """Raw rows by row id; after ``load_account`` only those in quarantine."""
    received: int = 0
    """Sum of the raw records as they were read, before anything was done (see ``ledger``)."""
    hashes: Mapping[str, int] = field(default_factory=dict)
    """Hash of each row's raw record by row id."""
    policies: Mapping[str, Policy] = field(default_factory=dict)
    """Of the recipe; kinds that it does not name have their defaults."""
    waivers: Sequence[Waiver] = ()
    waived: Sequence[Waived] = ()
    """Findings that count no longer; they stay in ``findings``."""
    masked: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Rows in whose text something was masked, with the kinds."""
    eval_columns: Mapping[str, str] = field(default_factory=dict)
    """Role to column in the files of a holdout that was given; those of the layout elsewhere."""
    against: Changes | None = None
    """Rows that are new, gone or moved since an earlier account."""

    @property
    def multi_label(self) -> bool:
        """Whether any number of labels may apply to a row."""
        return self.layout.multi_label

    @property
    def judged_as(self) -> str:
        """The task as plans call it: multi_label where any number of labels may apply."""
        return "multi_label" if self.multi_label else self.task

    @property
    def protected(self) -> set[str]:
        """Ids of the rows of a holdout that the user gave, wherever they ended."""
        given = {source.path for source in self.eval_sources}
        return {
            row.row_id
            for row in self.splits
            if row.source in given or (row.split == "holdout" and row.reason == "split_column")
        }

    @property
    def num_changed(self) -> int:
        """Rows on a side in whose text something was mended or masked."""
        rows = (example for side in SIDES for example in self.examples[side])
        return sum(e.row_id in self.masked or is_repaired(e) for e in rows)

    def counting(self, severity: Severity) -> list[Finding]:
        """Findings of one severity that are not waived."""
        passed = {(item.row_id, item.kind) for item in self.waived}
        return [
            f for f in self.findings if f.severity == severity and (f.row_id, f.kind) not in passed
        ]

    def counts(self) -> dict[str, int]:
        """Rows in each of train, validation, holdout, quarantine."""
        found = Counter(row.split for row in self.splits)
        return {side: found[cast(Any, side)] for side in (*SIDES, "quarantine")}

    def label_counts(self, side: str | None = None) -> dict[str, int]:
        """Rows by label, on one side or on all of them; empty unless the task is classify."""
        sides = SIDES if side is None else (side,)
        found = Counter(label for s in sides for e in self.examples[s] for label in e.classes)
        return {label: found[label] for label in self.labels}

    def label_deviation(self) -> dict[str, Any] | None:
        """The label whose share of the rows differs most between two sides.

        Returns:
            ``{"label", "difference", "shares": {side: share}}``; None where there are no labels.
        """
        rows = {side: len(self.examples[side]) for side in SIDES if self.examples[side]}
        counts = {side: self.label_counts(side) for side in rows}
        found: dict[str, Any] | None = None
        for label in self.labels if rows else ():
            shares = {side: counts[side][label] / number for side, number in rows.items()}
            difference = max(shares.values()) - min(shares.values())
            if found is None or difference > found["difference"]:
                found = {"label": label, "difference": difference, "shares": shares}
        return found

    def rows_with_train_group(self) -> int:
        """Holdout rows whose group has rows in train too; 0 unless the user gave the sides."""
        groups = {e.group for e in self.examples["train"]} - {None}
        return sum(e.group in groups for e in self.examples["holdout"])


def hash_holdout(examples: Iterable[Example]) -> str:
    """What tells one holdout from another: its raw records and the right answers, in any order.

    How they are rendered or tokenized plays no part, so that another base meets the same holdout.
    """
    lines = sorted(json.dumps([example.row_id, example.target]) for example in examples)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def verify_conservation(splits: Sequence[SplitRow], rows: Iterable[tuple[str, int]]) -> None:
    """Every input record is accounted for exactly once.

    Args:
        splits: the account.
        rows: source and record number of every input record.
    Raises:
        IntegrityError: E0905, with the records that are missing, double or invented.
    """
    expected = Counter(rows)
    found = Counter((row.source, row.record) for row in splits)
    ids = Counter(row.row_id for row in splits)
    double = [row_id for row_id, count in ids.items() if count > 1]
    missing, extra = expected - found, found - expected
    if not (missing or extra or double):
        return
    faults = [
        f"{sum(counter.values())} {word} (first: {next(iter(sorted(counter)))})"
        for counter, word in ((missing, "missing"), (extra, "too many"))
        if counter
    ]
    if double:
        faults.append(f"{len(double)} row ids used twice (first: {double[0]})")
    raise IntegrityError(
        "E0905",
        f"the account of the rows does not add up: {'; '.join(faults)}",
        hint="this is a bug of fettle: please report it with the recipe",
    )


def move_to_quarantine(
    prepared: Prepared, row_ids: Iterable[str], reason: str, findings: Sequence[Finding] = ()
) -> Prepared:
    """The same account with some rows in quarantine, for faults that a later stage finds.

    Args:
        prepared: the account.
        row_ids: rows that are on a side.
        reason: kind of finding, such as "overlong".
        findings: see ``with_findings``.
    """
    moved = set(row_ids)
    examples = {
        side: [example for example in rows if example.row_id not in moved]
        for side, rows in prepared.examples.items()
    }
    by_id = {e.row_id: e for rows in prepared.examples.values() for e in rows if e.row_id in moved}
    judged = sum(e.row_id in moved for e in prepared.examples["holdout"])
    left_out = Counter(prepared.left_out) + Counter({reason: judged})
    quarantined = list(prepared.quarantined)
    for row_id, example in by_id.items():
        raw = prepared.raw.get(row_id) or RawRow(
            example.source, example.record, example.line, {"example": example_to_json(example)}
        )
        quarantined.append((raw, row_id, reason))
    splits = [
        replace(row, split="quarantine", reason=reason) if row.row_id in by_id else row
        for row in prepared.splits
    ]
    moved_out = replace(
        prepared,
        examples=examples,
        quarantined=quarantined,
        splits=splits,
        left_out=dict(left_out),
    )
    return with_findings(moved_out, findings) if findings else moved_out


def with_findings(
    prepared: Prepared, findings: Sequence[Finding], today: date | None = None
) -> Prepared:
    """The same account with what a later stage found: redacted, weighed, waived as the recipe says.

    Args:
        prepared: the account.
        findings: to add.
        today: the day on which waivers are looked at; None = this one.
    """
    found = with_severity(redacted(findings), prepared.policies)
    late = find_waived(found, prepared.waivers, prepared.raw, today or date.today())
    return replace(
        prepared,
        findings=[*prepared.findings, *found],
        waived=list(dict.fromkeys([*prepared.waived, *late])),
    )


def write_account(
    directory: Path, prepared: Prepared, more: Mapping[str, bytes] | None = None
) -> None:
    """Write data/ whole or not at all.

    Args:
        directory: the run's data folder; an older one is replaced.
        prepared: what to write.
        more: other files that belong to it, by name.
    Raises:
        IntegrityError: E0905, the sides do not match the account; E0921, the sums of the rows do
            not balance.
        MachineError: E0401, the disk refused.
    """
    on_sides = {e.row_id: side for side in SIDES for e in prepared.examples[side]}
    on_sides |= {row_id: "quarantine" for _, row_id, _ in prepared.quarantined}
    if on_sides != {row.row_id: row.split for row in prepared.splits}:
        raise IntegrityError(
            "E0905",
            "the rows on the sides are not those of the account",
            hint="this is a bug of fettle: please report it with the recipe",
        )
    ledger = chain(entries(prepared))
    rows = [
        {
            **example_to_json(example),
            "split": side,
            "blake2b": shown(prepared.hashes[example.row_id]),
        }
        for side in SIDES
        for example in prepared.examples[side]
    ]
    review = holdout_review(prepared.findings, prepared.protected, prepared.waived)
    files: dict[str, list[dict[str, Any]]] = {
        "rows.jsonl": rows,
        "findings.jsonl": [_plain(finding) for finding in prepared.findings],
        "splits.jsonl": [_plain(row) for row in prepared.splits],
        "quarantine.jsonl": [
            {**_quarantine_line(*item), "blake2b": shown(prepared.hashes[item[1]])}
            for item in prepared.quarantined
        ],
        "holdout_review.jsonl": review,
        "changes.jsonl": [] if prepared.against is None else prepared.against.lines(),
    }
    with staged_directory(directory) as folder:
        folder.chmod(0o700)  # it holds the rows, and `check` writes it outside of a run
        hashes = {}
        contents = {name: b"".join(map(_line, records)) for name, records in files.items()}
        for name, content in (contents | dict(more or {})).items():
            write_atomic(folder / name, content)
            hashes[name] = hashlib.sha256(content).hexdigest()
        write_atomic(folder / LEDGER, ledger)
        manifest = _manifest(prepared, hashes)
        manifest["ledger"] = {"lines": ledger.count(b"\n"), "sha256": head_of(ledger)}
        write_atomic(folder / "manifest.json", json.dumps(manifest, indent=2) + "\n")


def verify_files(directory: Path) -> dict[str, Any]:
    """The manifest of an account whose every file is what was written.

    Raises:
        IntegrityError: E0901 a file is missing, E0906 a file was changed, E0920 the ledger was.
    """
    manifest: dict[str, Any] = read_json(directory / "manifest.json")
    for name, expected in manifest["files"].items():
        try:
            actual = hashlib.sha256((directory / name).read_bytes()).hexdigest()
        except OSError as error:
            raise IntegrityError(
                "E0901", f"{directory / name} can't be read back: {error}", hint=_HINT
            ) from error
        if actual != expected:
            raise IntegrityError(
                "E0906",
                f"{directory / name} is not what was written",
                why="Its hash differs from the one in manifest.json",
                hint=_HINT,
            )
    if "ledger" in manifest:
        noted = manifest["ledger"]
        verify(directory / LEDGER, noted["lines"], noted["sha256"])
    return manifest


def load_account(directory: Path) -> Prepared:
    """Read back what ``write_account`` wrote.

    Raises:
        IntegrityError: E0901 a file is missing, E0906 a file was changed, E0920 the ledger was;
            E0921, the sums of the rows do not balance.
    """
    manifest = verify_files(directory)
    examples: dict[str, list[Example]] = {side: [] for side in SIDES}
    hashes: dict[str, int] = {}
    for record in read_jsonl(directory / "rows.jsonl"):
        examples[record["split"]].append(example_from_json(record))
        hashes[record["row_id"]] = int(record.get("blake2b", "0"), 16)
    quarantined = []
    for record in read_jsonl(directory / "quarantine.jsonl"):
        raw = RawRow(
            record["source"],
            record["record"],
            record["line"],
            record["fields"],
            record["malformed"],
        )
        quarantined.append((raw, record["row_id"], record["reason"]))
        hashes[record["row_id"]] = int(record.get("blake2b", "0"), 16)
    layout = dict(manifest["layout"])
    layout["ambiguities"] = tuple(layout["ambiguities"])
    prepared = Prepared(
        examples=examples,
        quarantined=quarantined,
        findings=[
            Finding(**{**record, "related": tuple(record["related"])})
            for record in read_jsonl(directory / "findings.jsonl")
        ],
        splits=[SplitRow(**record) for record in read_jsonl(directory / "splits.jsonl")],
        layout=Layout(**layout),
        sources=[_source(record) for record in manifest["sources"]],
        eval_sources=[_source(record) for record in manifest["eval_sources"]],
        task=manifest["task"],
        labels=tuple(manifest["labels"]),
        seed=manifest["seed"],
        fractions=Fractions(**manifest["fractions"]),
        holdout_sha256=manifest["holdout_sha256"],
        left_out=manifest.get("holdout_left_out", {}),
        skipped=[(name, reason) for name, reason in manifest["skipped"]],
        raw={row_id: raw for raw, row_id, _ in quarantined},
        received=int(manifest.get("sum", "0"), 16),
        hashes=hashes,
        policies=manifest.get("policies", {}),
        waivers=[
            Waiver(**{key: value for key, value in waiver.items() if key != "findings"})
            for waiver in manifest.get("waivers", [])
        ],
        waived=[Waived(*item) for item in manifest.get("waived", [])],
        masked={row_id: tuple(kinds) for row_id, kinds in manifest.get("masked", {}).items()},
        eval_columns=manifest.get("eval_columns", {}),
        against=Changes.from_json(manifest.get("against"), read_changes(directory)),
    )
    if "sum" in manifest:
        check_balance(prepared.received, sums(prepared))
    return prepared


_HINT = "start the run again; `fettle resume` builds data/ anew when the folder is missing"


def example_to_json(example: Example) -> dict[str, Any]:
    """One line of rows.jsonl; ``split`` there is the side, the user's own value is split_column."""
    return {
        "row_id": example.row_id,
        "source": example.source,
        "record": example.record,
        "line": example.line,
        "text": example.text,
        "messages": [{**turn.to_json(), "weight": turn.weight} for turn in example.messages],
        "target": example.target,
        "labels": None if example.labels is None else list(example.labels),
        "number": example.number,
        "tools": list(example.tools),
        "group": example.group,
        "time": example.time,
        "split_column": example.split,
        "tags": dict(example.tags),
    }


def example_from_json(record: Mapping[str, Any]) -> Example:
    """The inverse of ``example_to_json``."""
    messages = tuple(
        Message(
            role=turn["role"],
            content=turn["content"],
            name=turn.get("name"),
            tool_calls=tuple(turn.get("tool_calls", ())),
            tool_call_id=turn.get("tool_call_id"),
            weight=turn["weight"],
        )
        for turn in record["messages"]
    )
    return Example(
        row_id=record["row_id"],
        source=record["source"],
        record=record["record"],
        line=record["line"],
        text=record["text"],
        messages=messages,
        target=record["target"],
        labels=None if record.get("labels") is None else tuple(record["labels"]),
        number=record.get("number"),
        tools=tuple(record["tools"]),
        group=record["group"],
        time=record["time"],
        split=record["split_column"],
        tags=record["tags"],
    )


def _quarantine_line(raw: RawRow, row_id: str, reason: str) -> dict[str, Any]:
    return {
        "row_id": row_id,
        "source": raw.source,
        "record": raw.record,
        "line": raw.line,
        "reason": reason,
        "malformed": raw.malformed,
        "fields": dict(raw.fields),
    }


_encode = json.JSONEncoder(ensure_ascii=False).encode


def _line(record: Mapping[str, Any]) -> bytes:
    """A JSON line; raw fields may hold lone surrogates, which only escapes can carry."""
    try:
        return (_encode(record) + "\n").encode("utf-8")
    except UnicodeEncodeError:
        return (json.dumps(record) + "\n").encode("ascii")


def _plain(value: Finding | SplitRow) -> dict[str, Any]:
    """What dataclasses.asdict gives, without its deep copies (they took half of the time)."""
    return {item.name: getattr(value, item.name) for item in fields(value)}


def _manifest(prepared: Prepared, hashes: Mapping[str, str]) -> dict[str, Any]:
    reasons: dict[str, Counter[str]] = {}
    for row in prepared.splits:
        reasons.setdefault(row.split, Counter())[row.reason] += 1
    return {
        "schema": SCHEMA,
        "task": prepared.task,
        "layout": prepared.layout.to_json(),
        "sources": [source.to_json() for source in prepared.sources],
        "eval_sources": [source.to_json() for source in prepared.eval_sources],
        "skipped": [list(item) for item in prepared.skipped],
        "counts": prepared.counts(),
        "reasons": {side: dict(found) for side, found in reasons.items()},
        "findings": dict(Counter(finding.kind for finding in prepared.findings)),
        "labels": list(prepared.labels),
        "label_counts": {side: prepared.label_counts(side) for side in SIDES},
        "seed": prepared.seed,
        "fractions": asdict(prepared.fractions),
        "label_deviation": prepared.label_deviation(),
        "holdout_sha256": prepared.holdout_sha256,
        "holdout_left_out": dict(prepared.left_out),
        "holdout_rows_with_train_group": prepared.rows_with_train_group(),
        "sum": shown(prepared.received),
        "policies": dict(prepared.policies),
        "waivers": to_manifest(prepared.waivers, prepared.waived),
        "waived": [[item.row_id, item.kind, item.waiver] for item in prepared.waived],
        "masked": {row_id: list(kinds) for row_id, kinds in sorted(prepared.masked.items())},
        "eval_columns": dict(prepared.eval_columns),
        "against": None if prepared.against is None else prepared.against.to_json(),
        "working_directory": str(Path.cwd()),
        "files": dict(hashes),
    }


def _source(record: Mapping[str, Any]) -> Source:
    return Source(**{**record, "columns": tuple(record["columns"])})
