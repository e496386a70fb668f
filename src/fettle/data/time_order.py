"""Sides by time: the holdout is the latest rows, validation the ones just before.

In: rows with the text of their time column. Out: sides, and findings about what time order could
not promise. Must not know: files, hashes, labels.

Rows with one split key (group, near duplicates) are a unit and never part. A unit stands where its
earliest row stands, so that one which spans a boundary goes to the earlier side: nothing that began
before the holdout is judged on. Units are taken from the latest on, those with the same time in the
order of their smallest row id, until the side has its rows, give or take half a unit; one that
holds more rows than the whole side should is trained on. A unit with a row whose time can't be read
is trained on too: it may be old. A row that has exact copies is as old as the oldest of them. A
finding tells of the rows that are trained on and later than the holdout's first one. Order of rows,
workers and seed play no part.

When newer rows come, the boundaries move on: the oldest rows of the holdout go to validation and
those of validation to train. When older ones come, they move back. To keep each row where it was,
name the earlier run as the base.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from fettle.data.meaning.times import MAX_CHARACTERS, parse_time, shown_time
from fettle.data.placing import SEEN, Placed
from fettle.errors import DataError
from fettle.records.rows import Example, Finding, Severity, Split

_MAX_RELATED = 20


def read_times(
    examples: Sequence[Example], given: Sequence[Example], column: str
) -> dict[str, int]:
    """row_id to time in microseconds, for the rows whose time can be read.

    Args:
        examples: the user's rows.
        given: a holdout that the user gave; it may have no times.
        column: the name of the column, for the message.
    Raises:
        DataError: E0341, fewer than half of the user's rows have one.
    """
    known: dict[str | None, int | None] = {}
    times: dict[str, int] = {}
    for example in [*examples, *given]:
        if example.time not in known:
            known[example.time] = parse_time(example.time)
        time = known[example.time]
        if time is not None:
            times[example.row_id] = time
    readable = sum(example.row_id in times for example in examples)
    if readable * 2 < len(examples):
        bad = sorted({example.time for example in examples if example.time} - {
            text for text, time in known.items() if time is not None
        })  # fmt: skip
        shown = ", ".join(repr(text[:MAX_CHARACTERS]) for text in bad[:3])
        raise DataError(
            "E0341",
            f'only {readable:,} of {len(examples):,} rows have a readable time in "{column}"',
            where=f"such as {shown}" if shown else "the others are empty",
            why="The holdout is to be the latest rows",
            hint="write times as 2024-01-31 or 2024-01-31T12:30:00Z, or as seconds since 1970; or"
            " leave --time out",
        )
    return times


def first_times(copies: Mapping[str, str], examples: Sequence[Example]) -> dict[str, int]:
    """The earliest time of a row that stays and its exact copies, which leave.

    Args:
        copies: row_id of each copy to that of the row that stays.
        examples: rows, those among them.
    """
    found: dict[str, int] = {}
    for example in examples:
        stays = copies.get(example.row_id)
        time = parse_time(example.time) if stays is not None else None
        if stays is not None and time is not None:
            found[stays] = min(time, found.get(stays, time))
    return found


class _Unit(NamedTuple):
    """Rows that never part."""

    rank: tuple[int, str]
    """The latest first; then by row id."""
    key: str
    rows: list[Placed]


def place(
    ours: Sequence[Placed], times: Mapping[str, int], holdout: float, validation: float
) -> None:
    """Give each row its side.

    Args:
        ours: rows whose sides are ours to choose; ``side`` and ``reason`` are written.
        times: row_id to time.
        holdout: share of the rows; 0 = none.
        validation: the same.
    """
    units = _latest_first(ours, times)
    for item in ours:
        item.side = "train"
        item.reason = "time" if item.example.row_id in times else "no_time"
    for unit in units:
        for item in unit.rows if len(unit.rows) > 1 else ():
            if times[item.example.row_id] > -unit.rank[0]:
                item.reason = "time_cluster"
    timeless = {item.split_key for item in ours} - {unit.key for unit in units}
    for item in ours:
        if item.split_key in timeless and item.reason == "time":
            item.reason = "time_cluster"
    next_unit = 0
    sides: tuple[tuple[Split, float], ...] = (("holdout", holdout), ("validation", validation))
    for side, share in sides:
        wanted = max(1, round(share * len(ours))) if share else 0
        taken = 0
        while next_unit < len(units):
            rows = units[next_unit].rows
            fits = len(rows) <= wanted
            if taken >= wanted or (fits and 2 * taken + len(rows) > 2 * wanted):
                break
            next_unit += 1
            if fits:
                taken += len(rows)
                for item in rows:
                    item.side = side


def ranks(items: Iterable[Placed], times: Mapping[str, int]) -> dict[str, int]:
    """Split key to its place, the latest first; those without a time last.

    Args:
        items: rows.
        times: row_id to time.
    """
    items = list(items)
    found = [unit.key for unit in _latest_first(items, times)]
    return {
        key: index
        for index, key in enumerate(dict.fromkeys([*found, *sorted(i.split_key for i in items)]))
    }


def _latest_first(items: Sequence[Placed], times: Mapping[str, int]) -> list[_Unit]:
    """Units all of whose rows have a time."""
    by_key: dict[str, list[Placed]] = defaultdict(list)
    for item in items:
        by_key[item.split_key].append(item)
    units = []
    for key, rows in by_key.items():
        ids = [item.example.row_id for item in rows]
        known = [times[row_id] for row_id in ids if row_id in times]
        if len(known) == len(ids):
            units.append(_Unit((-min(known), min(ids)), key, rows))
    return sorted(units, key=lambda unit: unit.rank)


def look(placed: Sequence[Placed], times: Mapping[str, int], column: str) -> list[Finding]:
    """What time order came to: where the sides begin, and which rows it does not hold for.

    Args:
        placed: rows whose sides are final.
        times: row_id to time, of the rows that are cut and of those given as the holdout.
        column: its name.
    Returns:
        Findings of the kind time_order.
    """
    used = [item for item in placed if item.side != "quarantine"]
    begins: dict[str, int] = {}
    for item in used:
        time = times.get(item.example.row_id)
        if time is not None and item.cut:
            begins[item.side] = min(time, begins.get(item.side, time))
    findings = []
    cut = [f"{s} from {shown_time(begins[s])} on" for s in ("holdout", "validation") if s in begins]
    if cut:
        findings.append(
            _finding(
                used[0], "note", f'cut by "{column}": {", ".join(cut)}',
                "leave --time out to cut at random instead", (),
            )
        )  # fmt: skip
    unread = _by_id(item for item in used if item.example.row_id not in times)
    if unread:
        first = unread[0].example
        value = f" ({first.time[:MAX_CHARACTERS]!r})" if first.time else ""
        number = "1 row has" if len(unread) == 1 else f"{len(unread):,} rows have"
        judges = sum(item.side == "holdout" for item in unread)
        findings.append(
            _finding(
                unread[0], "warning",
                f'{number} no readable time in "{column}", such as {_place(first)}{value}'
                + (f"; {judges:,} in the holdout" if judges else ""),
                "trained on, unless you gave its side; write times as 2024-01-31 or"
                " 2024-01-31T12:30:00Z, or as seconds since 1970",
                unread,
            )
        )  # fmt: skip
    return findings + _out_of_order(used, times)


def _out_of_order(used: Sequence[Placed], times: Mapping[str, int]) -> list[Finding]:
    """Rows that decide about weights and are later than the first row that judges."""
    judges = _by_id(i for i in used if i.side == "holdout" and i.example.row_id in times)
    seen = _by_id(i for i in used if i.side in SEEN and i.example.row_id in times)
    if not judges or not seen:
        return []
    first = min(times[item.example.row_id] for item in judges)
    last = max(times[item.example.row_id] for item in seen)
    later = [item for item in seen if times[item.example.row_id] > first]
    older = [item for item in judges if times[item.example.row_id] < last]
    if not later:
        return []
    given = any(not item.cut for item in older)
    remedy = (
        "kept: no row is taken out of the holdout; judge on rows that are all later than those"
        " that are trained on"
        if given
        else "kept: their group, or their near copies, began before the holdout, or are too many"
        " for it; a finer --group parts them"
    )
    return [
        _finding(
            later[0],
            "warning",
            f"{len(later):,} of {len(seen):,} training and validation rows are later than the"
            f" first holdout row ({shown_time(first)}), and {len(older):,} of {len(judges):,}"
            f" holdout rows older than the last of those ({shown_time(last)})",
            remedy,
            older if given else later,
        )
    ]


def _finding(
    item: Placed, severity: Severity, evidence: str, remedy: str, related: Sequence[Placed]
) -> Finding:
    return Finding(
        "",
        item.example.source,
        0,
        None,
        "time_order",
        severity,
        evidence,
        remedy,
        tuple(other.example.row_id for other in related[:_MAX_RELATED]),
    )


def _by_id(items: Iterable[Placed]) -> list[Placed]:
    return sorted(items, key=lambda item: item.example.row_id)


def _place(example: Example) -> str:
    if example.line:
        return f"{example.source}:{example.line}"
    return f"{example.source}, record {example.record}"
