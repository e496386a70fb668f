"""Which example goes to train, validation or holdout.

In: examples, perhaps a holdout that the user gave. Out: a SplitRow for each example, and findings.
Must not know: files, tokens.

A side is the hash of a key: the group where there is one, else the normalised input, or that of the
cluster of near duplicates in which they lie (``placing``). Rows of one group, duplicates, near
duplicates, texts that contain each other and rows with conflicting labels therefore lie together,
the order of rows plays no part, and a row stays where it is when other rows come. One whose key is
that of other rows (cluster_hash) may move when rows come that tie it to another cluster. ``u`` is
the hash as a number in [0, 1): holdout where u < holdout fraction, validation where u >= 1 -
validation fraction.

What a hash can't promise is mended with as few moves as possible, and a moved row says so in its
reason, since such a row may move back when rows are added:
    label_coverage   a label lacks a side: its key with the nearest u goes there. Train has every
                     label; holdout and validation have those with at least 1 / fraction rows
    size_coverage    a side would be empty: the key nearest to it goes there
A key is never moved where a label would lose its last one on a side, and none that holds more rows
than the whole side should.

Rows that an earlier run knew (``pins``) keep its side whatever else holds, and so do new rows with
the same key, or nearly the same input as one of its rows, be that among the data still or not: an
old training row never comes into the holdout, and the other way round. Where a
new row joins two clusters that lay on different sides, the old rows stay, the new one is trained
on, and the holdout rows that are like it are named (split_leak_near) and counted.

Where the user named a column with the time, time decides instead of the hash (``time_order``): the
holdout is the latest rows. Labels are then not moved, only a side that would be empty.

Fractions left to "auto": 10 % validation, and 20 % holdout, 10 % from 5,000 rows on. When growing
data pass that step, some rows leave the holdout for train; none ever enters it, so that a model of
the smaller data was trained on no row of the larger one's holdout.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import xxhash

from fettle.data import time_order
from fettle.data.check import leaks
from fettle.data.deduplicate import input_key
from fettle.data.near import Clusters, clusters
from fettle.data.placing import RANK, Placed, input_name, name_components
from fettle.errors import DataError
from fettle.recipe.recipe import DataSection, Task
from fettle.records.rows import Example, Finding, Split, SplitRow
from fettle.statistics.power import minimum_detectable_difference

MIN_ROWS = 20
"""Fewer usable rows than this can't be trained on and judged."""
MANY_ROWS = 5_000
_SMALL_HOLDOUT = 100
_DISCORDANCE = 0.2
"""Share of rows on which exactly one of two models is right, before anything is known."""


@dataclass(frozen=True, slots=True)
class Fractions:
    """Shares of the rows that are cut from the user's own; 0 where that side was given."""

    validation: float
    holdout: float


def split(
    examples: Sequence[Example],
    eval_examples: Sequence[Example],
    options: DataSection,
    seed: int,
    task: Task,
    pins: Mapping[str, Split] | None = None,
    found: Clusters | None = None,
    earlier: Sequence[Example] = (),
    first_times: Mapping[str, int] | None = None,
) -> tuple[list[SplitRow], list[Finding]]:
    """Give each example its side.

    Args:
        examples: the user's rows, without exact copies.
        eval_examples: a holdout that the user gave; may be empty.
        options: the fractions, and whether a column with the time was named.
        seed: part of the hash.
        task: labels are looked at for classify.
        pins: row_id to the side that an earlier run gave it; train, validation or holdout.
        found: clusters of all these examples; None = they are looked for here.
        earlier: rows of earlier runs that are not among these (``not_among``), whose sides are in
            ``pins``; they get no SplitRow.
        first_times: row_id to the earliest time of its exact copies, where it has any.
    Returns:
        One SplitRow for each example, examples first, and findings: split_leak, split_leak_near,
        near_duplicate, similar_text, same_template, unknown_label, unused_holdout,
        unrepresentative, holdout_too_small, time_order.
    Raises:
        DataError: E0331 too few rows, E0335 no row is left to train on, E0336 too few groups, E0337
            an earlier run trained on all rows, E0341 few rows have a readable time.
    """
    own = [Placed(example, input_key(example)) for example in examples]
    given = [
        Placed(example, input_key(example), "holdout", "eval_file") for example in eval_examples
    ]
    if len(own) + len(given) < MIN_ROWS:
        raise too_few(len(own) + len(given))
    fractions = fractions_for(examples, bool(given), options)
    times: dict[str, int] | None = None
    if options.time is not None:
        times = time_order.read_times(examples, eval_examples, options.time)
        for row_id, time in (first_times or {}).items():
            times[row_id] = min(time, times.get(row_id, time))
    placed = [*own, *given]
    gone = _placed_before(earlier, pins or {})
    known = [*placed, *gone]
    if found is None:
        judges = [item.reason == "eval_file" or item.example.split == "holdout" for item in placed]
        judges += [True] * len(gone)
        found = clusters([x.example for x in known], [x.key for x in known], judges)
    name_components(known, found)
    _place_given(own, bool(given), fractions)
    _pin([item for item in own if item.cut], gone, found, pins or {}, bool(given))
    findings = _quarantine_leaks([item for item in placed if not item.cut], placed)
    ours = [item for item in own if item.cut and item.side != "quarantine"]
    if not ours and not any(item.side == "train" for item in own):
        raise _no_train(Counter(item.side for item in placed))
    if times is not None:
        time_order.place(ours, times, fractions.holdout, fractions.validation)
    else:
        _cut(ours, fractions, seed)
        if task == "classify":
            _cover_labels(ours, placed, fractions, seed)
    _cover_sizes(ours, placed, fractions, seed, times)
    findings.extend(_quarantine_leaks(placed, placed))
    findings.extend(leaks.set_aside(placed, found))
    counts = Counter(item.side for item in placed)
    if not counts["train"]:
        raise _no_train(counts)
    findings.extend(_look(placed, counts, task))
    if times is not None and options.time is not None:
        findings.extend(time_order.look(placed, times, options.time))
    findings.extend(leaks.find(placed, found))
    findings.extend(leaks.find_earlier(placed, gone, found))
    return [item.example.placed(item.side, item.reason) for item in placed], findings


def not_among(
    earlier: Sequence[Example], examples: Sequence[Example], keys: Collection[str]
) -> list[Example]:
    """The rows of earlier runs that are no longer there; one of each input.

    Args:
        earlier: rows of earlier runs.
        examples: the rows now.
        keys: their input keys.
    """
    ids = {example.row_id for example in examples}
    by_key: dict[str, Example] = {}
    for example in sorted(earlier, key=lambda example: example.row_id):
        if example.row_id not in ids and (key := input_key(example)) not in keys:
            by_key.setdefault(key, example)
    return list(by_key.values())


def fractions_for(examples: Sequence[Example], has_eval: bool, options: DataSection) -> Fractions:
    """The fractions that are cut: the user's, or the automatic ones (see the top of this file)."""
    sides = {example.split for example in examples}
    auto_holdout = 0.1 if len(examples) >= MANY_ROWS else 0.2
    holdout = options.holdout_fraction or auto_holdout
    validation = options.validation_fraction or 0.1
    return Fractions(
        validation=0.0 if "validation" in sides else validation,
        holdout=0.0 if has_eval or "holdout" in sides else holdout,
    )


def position(seed: int, key: str) -> float:
    """The key's place in [0, 1)."""
    return xxhash.xxh64_intdigest(f"{seed}:{key}".encode("utf-8", "surrogatepass")) / 2**64


def too_few(num_rows: int, where: str = "") -> DataError:
    """E0331."""
    return DataError(
        "E0331",
        f"{num_rows} usable row{'s' if num_rows != 1 else ''} can't be split and learned from",
        where=where,
        why=f"At least {MIN_ROWS} are needed, a few hundred to show an improvement",
        hint="add rows; if rows were lost, name the right columns (--text, --label, --prompt,"
        " --completion, --messages)",
    )


def _place_given(own: Sequence[Placed], has_eval: bool, fractions: Fractions) -> None:
    """The sides that the user's column names; the others are ours to cut."""
    for item in own:
        side = item.example.split
        if side == "holdout" and has_eval:
            item.side, item.reason = "quarantine", "unused_holdout"
        elif side == "holdout":
            item.side, item.reason = "holdout", "split_column"
        elif side == "validation":
            item.side, item.reason = "validation", "split_column"
        elif side == "train" and not (fractions.validation or fractions.holdout):
            item.side, item.reason = "train", "split_column"
        else:
            item.cut = True


def _cut(ours: Sequence[Placed], fractions: Fractions, seed: int) -> None:
    for item in ours:
        u = position(seed, item.split_key)
        item.reason = "group_hash" if item.example.group is not None else "hash"
        if item.tied:
            item.reason = "cluster_hash"
        if u < fractions.holdout:
            item.side = "holdout"
        elif u >= 1 - fractions.validation:
            item.side = "validation"
        else:
            item.side = "train"


def _placed_before(earlier: Sequence[Example], pins: Mapping[str, Split]) -> list[Placed]:
    """Rows that are gone, on the sides that they had."""
    items = [Placed(example, input_key(example)) for example in earlier]
    for item in items:
        item.side = _side_of(item, pins) or "quarantine"
    return [item for item in items if item.side != "quarantine"]


def _side_of(item: Placed, pins: Mapping[str, Split]) -> Split | None:
    return pins.get(item.example.row_id) or pins.get(input_name(item.key))


def _pin(
    items: Sequence[Placed],
    gone: Sequence[Placed],
    found: Clusters,
    pins: Mapping[str, Split],
    has_eval: bool,
) -> None:
    """Rows of earlier runs keep their side; a new row follows the old rows that it is like.

    Of two sides that it would follow the lower one holds: new rows of a group that the earlier run
    did not keep together, say, must not be judged on.
    """
    by_key: dict[str, Split] = {}
    by_input: dict[str, Split] = {}
    for item in [*items, *gone]:
        side = _side_of(item, pins)
        if side is not None:
            by_key[item.split_key] = _lower(side, by_key.get(item.split_key))
            by_input[item.key] = _lower(side, by_input.get(item.key))
    # A link that was too much for a cluster still says that two rows are like each other.
    like: dict[str, Split] = {}
    for link in found.links if pins else ():
        for one, other in ((link.left, link.right), (link.right, link.left)):
            if link.binds and other in by_input:
                like[one] = _lower(by_input[other], like.get(one))
    for item in items:
        if item.key in like and _side_of(item, pins) is None:
            by_key[item.split_key] = _lower(like[item.key], by_key.get(item.split_key))
    for item in items:
        kept = _side_of(item, pins) or by_key.get(item.split_key)
        if kept is None:
            continue
        item.cut = False
        if kept == "holdout" and has_eval:
            item.side, item.reason = "quarantine", "unused_holdout"
        else:
            item.side, item.reason = kept, "earlier_run"


def _lower(side: Split, other: Split | None) -> Split:
    return side if other is None or RANK[side] < RANK[other] else other


def _cover_labels(
    ours: Sequence[Placed],
    placed: Sequence[Placed],
    fractions: Fractions,
    seed: int,
) -> None:
    """Every label in train, and in the other sides those with enough rows; train comes first.

    Moved are keys of ``ours``; the others of ``placed`` count, but stay.
    """
    movable: dict[str, list[Placed]] = defaultdict(list)
    for item in ours:
        movable[item.split_key].append(item)
    u = {key: position(seed, key) for key in movable}
    labels_of_key = {
        key: {label for item in rows for label in item.example.classes}
        for key, rows in movable.items()
    }
    keys_of_label: dict[str, list[str]] = defaultdict(list)
    for key in sorted(movable, key=lambda key: (u[key], key)):
        for label in labels_of_key[key]:
            keys_of_label[label].append(key)
    at: dict[str, Split] = {key: rows[0].side for key, rows in movable.items()}
    held: Counter[tuple[Split, str]] = Counter()
    num_rows: Counter[str] = Counter()
    for item in placed:
        for label in item.example.classes:
            num_rows[label] += item.side != "quarantine"
            held[item.side, label] += not item.cut
    for key, side in at.items():
        held.update((side, label) for label in labels_of_key[key])

    def move(key: str, side: Split) -> None:
        held.subtract((at[key], label) for label in labels_of_key[key])
        held.update((side, label) for label in labels_of_key[key])
        at[key] = side

    for label, keys in sorted(keys_of_label.items()):
        if not held["train", label]:
            move(keys[-1], "train")
    wanted: tuple[tuple[Split, float, int], ...] = (
        ("holdout", fractions.holdout, 1),
        ("validation", fractions.validation, -1),
    )
    for side, fraction, direction in wanted:
        room = max(1.0, fraction * len(ours))
        for label, keys in sorted(keys_of_label.items()):
            if held[side, label] or num_rows[label] * fraction < 1 - 1e-9:
                continue
            nearest = next(
                (
                    key
                    for key in keys[::direction]
                    if len(movable[key]) <= room
                    and all(held[at[key], other] > 1 for other in labels_of_key[key])
                ),
                None,
            )
            if nearest is not None:
                move(nearest, side)
    for item in ours:
        if item.side != at[item.split_key]:
            item.side, item.reason = at[item.split_key], "label_coverage"


def _cover_sizes(
    ours: Sequence[Placed],
    placed: Sequence[Placed],
    fractions: Fractions,
    seed: int,
    times: Mapping[str, int] | None,
) -> None:
    """No side that is to be cut may be empty; by time, its latest key goes there."""
    for side, wanted in (("holdout", fractions.holdout), ("validation", fractions.validation)):
        if not wanted or any(item.side == side for item in placed):
            continue
        by_label: dict[str | None, set[str]] = defaultdict(set)
        movable: set[str] = set()
        pool = [item for item in ours if item.side == "train"]
        kept = [item for item in placed if item.reason == "earlier_run"]
        if not pool and side == "validation":
            # It chooses among checkpoints and judges nothing: old training rows will do.
            pool = [item for item in kept if item.side == "train"]
        for item in pool:
            for label in item.example.classes if item.example.text else (None,):
                by_label[label].add(item.split_key)
            movable.add(item.split_key)
        if kept and not movable:
            raise DataError(
                "E0337",
                f"no row is left for the {side}: an earlier run knew {len(kept):,} of"
                f" {len(placed):,}"
                " rows, and they keep their sides",
                why="The base is that run; a row it was trained on can't judge it",
                hint="add rows that the run did not see, or give a holdout with --eval",
            )
        if len(movable) < 2 and not kept:
            raise DataError(
                "E0336",
                f"the rows can't be split: they have only {len({i.split_key for i in ours})}"
                " different group(s) or text(s)",
                why="Rows of one group, and rows with the same text, stay on one side",
                hint="add rows, choose another --group column, or give a holdout with --eval",
            )
        needed = {next(iter(keys)) for keys in by_label.values() if len(keys) == 1}
        if times is not None:
            latest = time_order.ranks(pool, times)
            chosen = min(movable - needed or movable, key=latest.__getitem__)
        else:
            free = sorted(movable - needed or movable, key=lambda key: (position(seed, key), key))
            chosen = free[0] if side == "holdout" else free[-1]
        for item in pool:
            if item.split_key == chosen:
                item.side = "holdout" if side == "holdout" else "validation"
                item.reason = "size_coverage"


def _quarantine_leaks(judges: Sequence[Placed], placed: Sequence[Placed]) -> list[Finding]:
    """Rows whose input lies on a higher side too leave the lower one; the holdout keeps its rows.

    Args:
        judges: rows whose side is known.
        placed: all rows.
    """
    highest: dict[str, Placed] = {}
    for item in judges:
        if item.side == "quarantine":
            continue
        rank, held = RANK[item.side], highest.get(item.key)
        if rank and (held is None or (-RANK[held.side], held.example.row_id) > (
            -rank, item.example.row_id
        )):  # fmt: skip
            highest[item.key] = item
    findings = []
    for item in placed:
        other = highest.get(item.key)
        if other is None or item.side == "quarantine" or RANK[item.side] >= RANK[other.side]:
            continue
        item.side, item.reason = "quarantine", "split_leak"
        findings.append(
            item.example.finding(
                "split_leak",
                "warning",
                f"the same input is in the {other.side} rows ({other.example.source},"
                f" record {other.example.record})",
                "went to quarantine, so that the model is judged on rows it never saw",
                (other.example.row_id,),
            )
        )
    return findings


def _look(placed: Sequence[Placed], counts: Counter[Split], task: Task) -> list[Finding]:
    findings = []
    for item in placed:
        if item.reason == "unused_holdout":
            column = item.example.split == "holdout"
            findings.append(
                item.example.finding(
                    "unused_holdout",
                    "warning",
                    f"{'its split column says' if column else 'an earlier run had it in its'}"
                    " holdout, but another holdout was given",
                    "leave out --eval to judge on these rows",
                )
            )
    findings.extend(_shared_groups(placed))
    if task == "classify":
        findings.extend(_unseen_labels(placed))
    if counts["holdout"] < _SMALL_HOLDOUT:
        first = placed[0].example
        findings.append(
            Finding(
                "",
                first.source,
                0,
                None,
                "holdout_too_small",
                "warning",
                f"{counts['holdout']} rows in the holdout show only large differences"
                f"{_shown(counts['holdout']) if task == 'classify' else ''}",
                "add rows, or --set data.holdout_fraction=0.3",
            )
        )
    return findings


def _shown(num_rows: int) -> str:
    """The smallest difference of accuracy that they show, where it can be said."""
    found = minimum_detectable_difference(num_rows, _DISCORDANCE, 0.8, 0.05)
    if found is None:
        return "; too few for any"
    return (
        f": from {100 * found:.0f} points of accuracy on, if exactly one of two models is right on "
        f"{_DISCORDANCE:.0%} of them (80 % power)"
    )


def _shared_groups(placed: Sequence[Placed]) -> list[Finding]:
    """Holdout rows whose group is in train too: only sides that were given can part a group."""
    train: dict[str, list[Example]] = defaultdict(list)
    for item in placed:
        if item.side == "train" and item.example.group is not None:
            train[item.example.group].append(item.example)
    findings = []
    for item in placed:
        group = item.example.group
        if item.side != "holdout" or group is None or group not in train:
            continue
        rows = train[group]
        number = "1 training row is" if len(rows) == 1 else f"{len(rows):,} training rows are"
        findings.append(
            item.example.finding(
                "split_leak",
                "warning",
                f"{number} {leaks.SAME_GROUP} {group!r}, such as {rows[0].source},"
                f" record {rows[0].record}",
                "kept: no row is taken out of the holdout; the verdict counts such rows",
                tuple(row.row_id for row in rows[: leaks.MAX_RELATED]),
            )
        )
    return findings


def _unseen_labels(placed: Sequence[Placed]) -> list[Finding]:
    """Labels that can't be learned, and labels that can't be judged."""
    on: dict[str, set[str]] = {side: set() for side in RANK}
    for item in placed:
        if item.side in on:
            on[item.side].update(item.example.classes)
    findings = [
        item.example.finding(
            "unknown_label",
            "warning",
            f"no training row has the label {label!r}",
            "add training rows with this label; until then it counts as wrong",
        )
        for item in placed
        if item.side in ("validation", "holdout")
        for label in item.example.classes
        if label not in on["train"]
    ]
    absent = sorted(on["train"] - on["holdout"])
    if absent:
        more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
        findings.append(
            Finding(
                "",
                placed[0].example.source,
                0,
                None,
                "unrepresentative",
                "note",
                f"the holdout has no row of {len(absent)} of the {len(on['train'])} labels:"
                f" {', '.join(map(repr, absent[:3]))}{more}",
                "the verdict says nothing about them; add rows of these labels",
            )
        )
    return findings


def _no_train(counts: Counter[Split]) -> DataError:
    return DataError(
        "E0335",
        "no row is left to train on",
        where=", ".join(f"{side} {number:,}" for side, number in sorted(counts.items())),
        why="Every row is in the holdout or has a twin there"
        if counts["quarantine"]
        else "the split column gives none to train",
        hint="give training rows that are not in the holdout; check the split column and --eval",
    )
