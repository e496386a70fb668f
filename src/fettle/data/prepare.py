"""Raw files -> rows on their sides: read, detect, normalize, check, split, in one pure call.

In: the data section of a recipe. Out: ``Prepared``. Must not know: tokens, models, where the result
is written. Start reading the data layer here.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date

from fettle.data.account.account import SIDES, Prepared, hash_holdout, verify_conservation
from fettle.data.account.actions import sums
from fettle.data.account.ledger import check_balance, row_hash, total
from fettle.data.check import check
from fettle.data.cleaning.masking import mask_examples
from fettle.data.cleaning.policy import place_again, redacted, take_out, to_set_aside, with_severity
from fettle.data.cleaning.waivers import Waived, find_waived, look_at_waivers
from fettle.data.deduplicate import find_copies, input_key
from fettle.data.meaning.detect import Layout, detect
from fettle.data.meaning.normalize import normalize
from fettle.data.near import clusters
from fettle.data.reading.read import ReadResult, read
from fettle.data.sensitive import redact
from fettle.data.split import MIN_ROWS, fractions_for, not_among, split, too_few
from fettle.data.time_order import first_times
from fettle.errors import DataError
from fettle.recipe.policies import policy_of
from fettle.recipe.recipe import DataSection, Task
from fettle.records.rows import Example, Finding, RawRow, Split, SplitRow

__all__ = ["Prepared", "prepare"]

Tell = Callable[[str, int], None]
"""Told the name of a step and the number of rows."""

_EMPTY = ReadResult([], [])
_OPTIONAL_ROLES = ("group", "time", "system", "tools")


def _silent(step: str, rows: int) -> None:
    """Says nothing."""
    del step, rows


def prepare(
    options: DataSection,
    task: Task | None,
    seed: int,
    pins: Mapping[str, Split] | None = None,
    earlier: Sequence[Example] = (),
    today: date | None = None,
    tell: Tell = _silent,
    workers: int = 1,
) -> Prepared:
    """Everything that happens to rows before they are tokenized. Reads files, writes none.

    Args:
        options: files, columns, fractions, policies, waivers.
        task: the user's task; None = follow the layout.
        seed: of the split.
        pins: row_id to the side that an earlier run gave it.
        earlier: the rows that ``pins`` tell about; what is nearly one of them keeps to its side.
        today: the day on which waivers are looked at; None = this one.
        tell: called with the name of each step and the number of rows before it begins.
        workers: processes for the checks of single rows; the result is the same.
    Raises:
        UsageError: a path or column that does not exist.
        DataError: rows that can't be read, understood, split or learned from.
        IntegrityError: E0905, a record was lost or doubled (a bug).
    """
    tell("read", 0)
    own = read(options.path, options)
    held = read(options.eval, options) if options.eval else _EMPTY
    everything = [*own.rows, *held.rows]
    received = total(row_hash(row.fields) for row in everything)
    tell("understand", len(everything))
    layout = _with_encodings(detect(own.rows, options, task), own, held, options)
    eval_layout = _layout_of_holdout(held, layout, options)
    # The holdout is numbered first: its row ids must not depend on the rows that train.
    seen: Counter[str] = Counter()
    holdout, held_findings, held_lost = normalize(held.rows, eval_layout, options, seen)
    examples, findings, lost = normalize(own.rows, layout, options, seen)
    findings = [*held_findings, *findings]
    _refuse_bad_targets([*lost, *held_lost], everything, findings, layout, options)
    _refuse(examples, holdout, [*lost, *held_lost], findings, layout)
    raw = _raw_rows(everything, [*lost, *held_lost], [*examples, *holdout])
    # Before rows are compared: two that differ in an address only are one when it is masked.
    examples, own_masks, masked = mask_examples(examples, options.policies)
    holdout, held_masks, held_masked = mask_examples(holdout, options.policies)
    findings += [*own_masks, *held_masks]
    tell("check", len(everything))
    keys = [input_key(example) for example in examples]
    held_keys = [input_key(example) for example in holdout]
    judges = [e.split == "holdout" for e in examples] + [True] * len(holdout)
    gone_since = not_among(earlier, [*examples, *holdout], {*keys, *held_keys})
    near = clusters(
        [*examples, *holdout, *gone_since],
        [*keys, *held_keys, *map(input_key, gone_since)],
        [*judges, *[True] * len(gone_since)],
    )
    findings.extend(check(examples, keys, near=near, workers=workers))
    findings.extend(check(holdout, held_keys, given_holdout=True, near=near, workers=workers))
    protected = {e.row_id for e in holdout} | {e.row_id for e in examples if e.split == "holdout"}
    day = today or date.today()
    waived = find_waived(findings, options.waivers, raw, day)
    aside = to_set_aside(findings, options.policies, waived, protected)
    left, left_keys, gone = take_out(examples, keys, aside)
    kept, copies = _take_out_copies(left, left_keys, _staying_copies(options, waived))
    if not kept:
        raise _nothing_left(aside)
    tell("split", len(kept))
    inherited = _inherited(pins or {}, left, left_keys)
    placed, split_findings = split(
        kept, holdout, options, seed, layout.task, inherited, near, gone_since,
        first_times(find_copies(left, left_keys), left) if options.time is not None else None,
    )  # fmt: skip
    late = find_waived(split_findings, options.waivers, raw, day)
    waived = list(dict.fromkeys([*waived, *late]))
    aside |= to_set_aside(_of_kept(split_findings, placed), options.policies, late, protected)
    placed = place_again(placed, aside)
    if not any(row.split == "train" for row in placed):
        raise _nothing_left(aside)
    findings.extend(split_findings)
    kinds = (finding.kind for finding in findings)
    findings.extend(
        look_at_waivers(options.waivers, waived, kinds, everything[0].source, day)
        if options.waivers
        else ()
    )
    splits = _in_order(everything, [*lost, *held_lost, *gone, *copies, *placed])
    verify_conservation(splits, ((row.source, row.record) for row in everything))
    left_out = Counter(row.reason for row in held_lost)
    prepared = _assemble(
        options, seed, layout, own, held, [*kept, *holdout], splits, findings, kept, raw
    )
    prepared = replace(
        prepared,
        findings=with_severity(redacted(prepared.findings), options.policies),
        left_out=dict(left_out),
        received=received,
        hashes={row_id: row_hash(row.fields) for row_id, row in raw.items()},
        policies=dict(options.policies),
        waivers=options.waivers,
        waived=waived,
        masked=masked | held_masked,
        eval_columns=eval_layout.columns,
    )
    check_balance(received, sums(prepared))
    return prepared


def _raw_rows(
    rows: Sequence[RawRow], lost: Sequence[SplitRow], examples: Sequence[Example]
) -> dict[str, RawRow]:
    """Raw rows by row id."""
    at = {(row.source, row.record): row for row in rows}
    found = {row.row_id: at[row.source, row.record] for row in lost}
    return found | {e.row_id: at[e.source, e.record] for e in examples}


def _of_kept(findings: Sequence[Finding], placed: Sequence[SplitRow]) -> list[Finding]:
    """Findings about rows that the split has not set aside already."""
    gone = {row.row_id for row in placed if row.split == "quarantine"}
    return [finding for finding in findings if finding.row_id not in gone]


def _staying_copies(options: DataSection, waived: Sequence[Waived]) -> Callable[[str], bool]:
    """Whether an exact copy stays with the others, by its row id."""
    if policy_of("exact_duplicate", options.policies) != "quarantine":
        return lambda row_id: True
    passed = {item.row_id for item in waived if item.kind == "exact_duplicate"}
    return lambda row_id: row_id in passed


def _nothing_left(aside: Mapping[str, str]) -> DataError:
    counts = Counter(aside.values())
    return DataError(
        "E0371",
        "data.policies leaves no row to train on",
        where=", ".join(f"{number:,} rows {kind}" for kind, number in sorted(counts.items())),
        hint="choose report for one of these kinds, or mend the rows",
    )


def _layout_of_holdout(held: ReadResult, layout: Layout, options: DataSection) -> Layout:
    """The holdout is read as the other rows are, unless its columns have other names."""
    if not held.rows:
        return layout
    split_free = {role: name for role, name in layout.columns.items() if role != "split"}
    columns = {name for row in held.rows if row.malformed is None for name in row.fields}
    needed = {name for role, name in split_free.items() if role not in _OPTIONAL_ROLES}
    if needed <= columns:
        return replace(layout, columns=split_free, ambiguities=())
    unnamed = options.model_copy(
        update=dict.fromkeys(
            ("text", "label", "prompt", "completion", "messages", "group", "time", "split_column")
        )
        | {"layout": layout.name}
    )
    found = detect(held.rows, unnamed, layout.task)
    split_free = {role: name for role, name in found.columns.items() if role != "split"}
    return replace(found, columns=split_free, ambiguities=())


def _with_encodings(
    layout: Layout, own: ReadResult, held: ReadResult, options: DataSection
) -> Layout:
    """An encoding that was guessed is a reading that the user may have to correct."""
    guessed = [
        f"{source.path} is not UTF-8 and was read as {source.encoding};"
        " --set data.encoding=NAME decides"
        for source in [*own.sources, *held.sources]
        if source.encoding is not None
        and not source.encoding.startswith("utf-")
        and options.encoding is None
    ]
    return replace(layout, ambiguities=(*layout.ambiguities, *guessed))


def _refuse(
    examples: Sequence[Example],
    holdout: Sequence[Example],
    lost: Sequence[SplitRow],
    findings: Sequence[Finding],
    layout: Layout,
) -> None:
    """Stop where rows can't be learned from at all."""
    if len(examples) + len(holdout) < MIN_ROWS or not examples:
        raise too_few(len(examples), _lost(lost, findings))
    if layout.task not in ("classify", "regress"):
        return
    counts = Counter(example.target for example in examples)
    column = layout.columns["label"]
    if len(counts) == 1:
        raise DataError(
            "E0332",
            f'every row has the same label {next(iter(counts))!r} in "{column}"',
            why="There is nothing to tell apart",
            hint="add rows of other labels, or name another column with --label",
        )
    if layout.multi_label:
        counts = Counter(label for example in examples for label in example.classes)
    if layout.task == "classify" and len(counts) > 0.8 * len(examples):
        every = "all" if len(counts) == len(examples) else "nearly all"
        raise DataError(
            "E0333",
            f'the labels in "{column}" are {every} different: {len(counts):,} in'
            f" {len(examples):,} rows",
            why="A label has to come up again to be learned; this looks like free text",
            hint="--task chat if these are answers, or name the right column with --label",
        )


def _refuse_bad_targets(
    lost: Sequence[SplitRow],
    rows: Sequence[RawRow],
    findings: Sequence[Finding],
    layout: Layout,
    options: DataSection,
) -> None:
    """Numbers and lists of labels that can't be read are malformed, and too many of them stop."""
    if layout.task != "regress" and not layout.multi_label:
        return
    bad = [row for row in lost if row.reason == "malformed_row"]
    if len(bad) > options.max_malformed * len(rows):
        raise DataError(
            "E0328",
            f"{len(bad):,} of {len(rows):,} rows are malformed, more than"
            f" {options.max_malformed:.0%}",
            where=_lost(bad, findings),
            hint=f'name the column with --label if it is not "{layout.columns["label"]}", correct'
            " its values, or allow more with --set data.max_malformed=0.5",
        )


def _lost(lost: Sequence[SplitRow], findings: Sequence[Finding]) -> str:
    """Why rows can't be used, the most frequent reasons with an example each."""
    if not lost:
        return ""
    evidence = {finding.row_id: finding.evidence for finding in findings}
    first: dict[str, SplitRow] = {}
    for row in lost:
        first.setdefault(row.reason, row)
    return "; ".join(
        f"{count:,} rows {reason} (such as {first[reason].source}:"
        f"{first[reason].line or f'record {first[reason].record}'}:"
        f" {redact(evidence.get(first[reason].row_id, ''))})"
        for reason, count in Counter(row.reason for row in lost).most_common(3)
    )


def _take_out_copies(
    examples: Sequence[Example], keys: Sequence[str], stays: Callable[[str], bool]
) -> tuple[list[Example], list[SplitRow]]:
    """Exact copies leave, one stays; a holdout that a column names keeps all of its rows."""
    kept: list[Example] = []
    rows: list[SplitRow] = []
    by_side: dict[str | None, list[int]] = {}
    for index, example in enumerate(examples):
        by_side.setdefault(example.split, []).append(index)
    copies: set[str] = set()
    for side, indices in by_side.items():
        if side != "holdout":
            copies |= find_copies([examples[i] for i in indices], [keys[i] for i in indices]).keys()
    for example in examples:
        if example.row_id in copies and not stays(example.row_id):
            rows.append(example.placed("quarantine", "exact_duplicate"))
        else:
            kept.append(example)
    return kept, rows


def _inherited(
    pins: Mapping[str, Split], examples: Sequence[Example], keys: Sequence[str]
) -> dict[str, Split]:
    """The pins, for copies too: the copy that stays now may not be the one that stayed then."""
    if not pins:
        return {}
    copies = find_copies(examples, keys)
    inherited = dict(pins)
    # In the order of the ids: where two pinned copies disagree, the order of rows plays no part.
    for copy, kept in sorted(copies.items()):
        if copy in pins and kept not in pins and inherited.get(kept) != "train":
            inherited[kept] = pins[copy]
    return inherited


def _in_order(raw: Sequence[RawRow], rows: Sequence[SplitRow]) -> list[SplitRow]:
    """The account in the order of the input."""
    order = {(row.source, row.record): index for index, row in enumerate(raw)}
    return sorted(rows, key=lambda row: (order.get((row.source, row.record), -1), row.row_id))


def _assemble(
    options: DataSection,
    seed: int,
    layout: Layout,
    own: ReadResult,
    held: ReadResult,
    examples: Sequence[Example],
    splits: list[SplitRow],
    findings: list[Finding],
    cut: Sequence[Example],
    raw: Mapping[str, RawRow],
) -> Prepared:
    side_of = {row.row_id: row.split for row in splits}
    by_side: dict[str, list[Example]] = {side: [] for side in SIDES}
    for example in examples:
        side = side_of[example.row_id]
        if side != "quarantine":
            by_side[side].append(example)
    labels: tuple[str, ...] = ()
    if layout.task == "classify":
        found = {label for rows in by_side.values() for e in rows for label in e.classes}
        labels = tuple(sorted(found))
    return Prepared(
        examples=by_side,
        quarantined=[
            (raw[row.row_id], row.row_id, row.reason) for row in splits if row.split == "quarantine"
        ],
        findings=findings,
        splits=splits,
        layout=layout,
        sources=own.sources,
        eval_sources=held.sources,
        task=layout.task,
        labels=labels,
        seed=seed,
        fractions=fractions_for(cut, bool(held.rows), options),
        holdout_sha256=hash_holdout(by_side["holdout"]),
        skipped=[*own.skipped, *held.skipped],
        raw=raw,
    )
