"""Injected faults of text, with an answer key: what was done to which row.

In: clean rows {"prompt", "completion"}, and a seed. Out: dirty rows, and the key. Must not know:
any detector.

Each edit draws from a generator of its own, seeded with the seed, the kind, the variant and the
number of the row, so that a variant more changes nothing else. Look-alikes (``is_fault`` False)
are rows that resemble a fault of a kind and are none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from bench.faults import text_answers, text_damage, text_private
from bench.faults.text_damage import Edit, Row

FAULTS: Final[dict[str, dict[str, Edit]]] = {
    **text_damage.FAULTS,
    "personal_data": text_private.PERSONAL,
    "secret": text_private.SECRETS,
    **text_answers.FAULTS,
}
LOOK_ALIKES: Final[dict[str, dict[str, Edit]]] = {
    **text_damage.NEGATIVES,
    "personal_data": text_private.NOT_PERSONAL,
    "secret": text_private.NOT_SECRET,
    **text_answers.NEGATIVES,
}


@dataclass(frozen=True)
class Injected:
    """One line of the answer key."""

    row: int
    """Position among the dirty rows."""
    kind: str
    variant: str
    is_fault: bool


def inject(
    rows: Sequence[Mapping[str, str]],
    seed: int,
    each: int,
    kinds: Sequence[str] | None = None,
    look_alikes: bool = True,
) -> tuple[list[Row], list[Injected]]:
    """Dirty rows from clean ones.

    Args:
        rows: clean {"prompt", "completion"} rows; each takes at most one edit.
        seed: of all draws.
        each: rows for each variant of each kind, and for each kind of look-alike.
        kinds: those to inject; None = all.
        look_alikes: whether rows that only resemble a fault are made too.
    Returns:
        All rows, in their order, those that took an edit changed; and the answer key.
    Raises:
        ValueError: there are too few rows for so many edits.
    """
    plan = [
        (kind, variant, edit, is_fault)
        for table, is_fault in ((FAULTS, True), (LOOK_ALIKES, False))
        if is_fault or look_alikes
        for kind, variants in table.items()
        if kinds is None or kind in kinds
        for variant, edit in variants.items()
    ]
    dirty = [dict(row) for row in rows]
    free = list(range(len(rows)))
    Random(seed).shuffle(free)
    key: list[Injected] = []
    for kind, variant, edit, is_fault in plan:
        made = 0
        passed: list[int] = []
        while made < each:
            if not free:
                raise ValueError(f"{len(rows)} rows are too few for {each} of each variant")
            at = free.pop()
            changed = edit(Random(f"{seed}/{kind}/{variant}/{at}"), dict(rows[at]))
            if changed is None or changed == rows[at]:
                passed.append(at)
                continue
            dirty[at] = changed
            key.append(Injected(at, kind, variant, is_fault))
            made += 1
        free.extend(passed)
    return dirty, key


def inject_turns(
    rows: Sequence[Mapping[str, str]], seed: int, each: int
) -> tuple[list[dict[str, Any]], list[Injected]]:
    """Conversations with faults of order, and look-alikes; the same arguments as ``inject``."""
    dirty: list[dict[str, Any]] = []
    key: list[Injected] = []
    order = list(range(len(rows)))
    Random(seed).shuffle(order)
    for table, is_fault in ((text_answers.ROLE_FAULTS, True), (text_answers.ROLE_NEGATIVES, False)):
        for kind, variants in table.items():
            for variant, edit in variants.items():
                for _ in range(each):
                    row = rows[order[len(dirty) % len(order)]]
                    turns = [
                        {"role": "user", "content": row["prompt"]},
                        {"role": "assistant", "content": row["completion"]},
                    ]
                    rng = Random(f"{seed}/{kind}/{variant}/{len(dirty)}")
                    changed = edit(rng, turns)
                    if changed is None:
                        continue
                    key.append(Injected(len(dirty), kind, variant, is_fault))
                    dirty.append({"messages": changed})
    return dirty, key
