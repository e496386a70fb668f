"""Which example goes to train, validation or holdout.

In: examples, perhaps a holdout that the user gave. Out: a SplitRow for each example, and findings.
Must not know: files, tokens.

A side is the hash of a key: the group where there is one, else the normalised input. Rows of one
group, exact duplicates and rows with conflicting labels therefore lie together, the order of rows
plays no part, and a row stays where it is when other rows come. ``u`` is the hash as a number in
[0, 1): holdout where u < holdout fraction, validation where u >= 1 - validation fraction.

What a hash can't promise is mended with as few moves as possible, and a moved row says so in its
reason, since such a row may move back when rows are added:
    label_coverage   no row of the label was in train: its key with the largest u goes there
    size_coverage    a side would be empty: the key nearest to it goes there

Fractions left to "auto": 10 % validation, and 20 % holdout, 10 % from 5,000 rows on. When growing
data pass that step, some rows leave the holdout for train; none ever enters it, so that a model of
the smaller data was trained on no row of the larger one's holdout.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import xxhash

from fettle.data.deduplicate import input_key
from fettle.errors import DataError
from fettle.recipe.recipe import DataSection, Task
from fettle.records.rows import Example, Finding, Split, SplitRow

MIN_ROWS = 20
"""Fewer usable rows than this can't be trained on and judged."""
MANY_ROWS = 5_000
_SMALL_HOLDOUT = 100
_RANK = {"train": 0, "validation": 1, "holdout": 2}


@dataclass(frozen=True, slots=True)
class Fractions:
    """Shares of the rows that are cut from the user's own; 0 where that side was given."""

    validation: float
    holdout: float


@dataclass(slots=True)
class _Placed:
    """An example on its way to a side."""

    example: Example
    key: str
    """Input key."""
    side: Split = "train"
    reason: str = ""
    cut: bool = False
    """Whether its side is ours to choose."""


def split(
    examples: Sequence[Example],
    eval_examples: Sequence[Example],
    options: DataSection,
    seed: int,
    task: Task,
) -> tuple[list[SplitRow], list[Finding]]:
    """Give each example its side.

    Args:
        examples: the user's rows, without exact copies.
        eval_examples: a holdout that the user gave; may be empty.
        options: the fractions are used.
        seed: part of the hash.
        task: labels are looked at for classify.
    Returns:
        One SplitRow for each example, examples first, and findings: split_leak, unknown_label,
        holdout_too_small.
    Raises:
        DataError: E0331 too few rows, E0335 no row is left to train on, E0336 too few groups.
    """
    own = [_Placed(example, input_key(example)) for example in examples]
    given = [
        _Placed(example, input_key(example), "holdout", "eval_file") for example in eval_examples
    ]
    if len(own) + len(given) < MIN_ROWS:
        raise too_few(len(own) + len(given))
    fractions = fractions_for(examples, bool(given), options)
    _place_given(own, bool(given), fractions)
    placed = [*own, *given]
    findings = _quarantine_leaks([item for item in placed if not item.cut], placed)
    ours = [item for item in own if item.cut and item.side != "quarantine"]
    if not ours and not any(item.side == "train" for item in own):
        raise _no_train(Counter(item.side for item in placed))
    _cut(ours, fractions, seed)
    if task == "classify":
        _cover_labels(ours, placed, seed)
    _cover_sizes(ours, placed, fractions, seed)
    findings.extend(_quarantine_leaks(placed, placed))
    counts = Counter(item.side for item in placed)
    if not counts["train"]:
        raise _no_train(counts)
    findings.extend(_look(placed, counts, task))
    return [item.example.placed(item.side, item.reason) for item in placed], findings


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


def _place_given(own: Sequence[_Placed], has_eval: bool, fractions: Fractions) -> None:
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


def _cut(ours: Sequence[_Placed], fractions: Fractions, seed: int) -> None:
    for item in ours:
        u = position(seed, _split_key(item))
        item.reason = "group_hash" if item.example.group is not None else "hash"
        if u < fractions.holdout:
            item.side = "holdout"
        elif u >= 1 - fractions.validation:
            item.side = "validation"
        else:
            item.side = "train"


def _split_key(item: _Placed) -> str:
    group = item.example.group
    return f"group:{group}" if group is not None else f"input:{item.key}"


def _cover_labels(ours: Sequence[_Placed], placed: Sequence[_Placed], seed: int) -> None:
    """A label that train lacks can't be learned: one of its keys goes there."""
    known = {item.example.target for item in placed if item.side == "train"}
    lacking: dict[str, set[str]] = defaultdict(set)
    for item in ours:
        if item.example.target is not None and item.example.target not in known:
            lacking[item.example.target].add(_split_key(item))
    moved = {
        max(keys, key=lambda key: (position(seed, key), key)) for _, keys in sorted(lacking.items())
    }
    for item in ours:
        if _split_key(item) in moved:
            item.side, item.reason = "train", "label_coverage"


def _cover_sizes(
    ours: Sequence[_Placed], placed: Sequence[_Placed], fractions: Fractions, seed: int
) -> None:
    """No side that is to be cut may be empty."""
    for side, wanted in (("holdout", fractions.holdout), ("validation", fractions.validation)):
        if not wanted or any(item.side == side for item in placed):
            continue
        by_label: dict[str | None, set[str]] = defaultdict(set)
        movable: set[str] = set()
        for item in ours:
            if item.side == "train":
                by_label[item.example.target if item.example.text else None].add(_split_key(item))
                movable.add(_split_key(item))
        if len(movable) < 2:
            raise DataError(
                "E0336",
                f"the rows can't be split: they have only {len({_split_key(i) for i in ours})}"
                " different group(s) or text(s)",
                why="Rows of one group, and rows with the same text, stay on one side",
                hint="add rows, choose another --group column, or give a holdout with --eval",
            )
        needed = {next(iter(keys)) for keys in by_label.values() if len(keys) == 1}
        free = sorted(movable - needed or movable, key=lambda key: (position(seed, key), key))
        chosen = free[0] if side == "holdout" else free[-1]
        for item in ours:
            if _split_key(item) == chosen:
                item.side = "holdout" if side == "holdout" else "validation"
                item.reason = "size_coverage"


def _quarantine_leaks(judges: Sequence[_Placed], placed: Sequence[_Placed]) -> list[Finding]:
    """Rows whose input lies on a higher side too leave the lower one; the holdout keeps its rows.

    Args:
        judges: rows whose side is known.
        placed: all rows.
    """
    highest: dict[str, _Placed] = {}
    for item in judges:
        if item.side == "quarantine":
            continue
        rank, held = _RANK[item.side], highest.get(item.key)
        if rank and (held is None or (-_RANK[held.side], held.example.row_id) > (
            -rank, item.example.row_id
        )):  # fmt: skip
            highest[item.key] = item
    findings = []
    for item in placed:
        other = highest.get(item.key)
        if other is None or item.side == "quarantine" or _RANK[item.side] >= _RANK[other.side]:
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


def _look(placed: Sequence[_Placed], counts: Counter[Split], task: Task) -> list[Finding]:
    findings = []
    for item in placed:
        if item.reason == "unused_holdout":
            findings.append(
                item.example.finding(
                    "unused_holdout",
                    "warning",
                    "its split column says holdout, but another holdout was given",
                    "leave out --eval to judge on these rows",
                )
            )
    if task == "classify":
        known = {item.example.target for item in placed if item.side == "train"}
        findings.extend(
            item.example.finding(
                "unknown_label",
                "warning",
                f"no training row has the label {item.example.target!r}",
                "add training rows with this label; until then it counts as wrong",
            )
            for item in placed
            if item.side in ("validation", "holdout") and item.example.target not in known
        )
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
                f"{counts['holdout']} rows in the holdout show only large differences",
                "add rows, or --set data.holdout_fraction=0.3",
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
