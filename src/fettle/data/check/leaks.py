"""What the rows of one side tell about those of another: twins, contained texts, shared groups.

In: rows with their sides, and the clusters of their inputs. Out: findings, and rows set aside where
both sides were ours to choose. Must not know: files, how sides are chosen.

Kinds: split_leak (the same input, or the same group), split_leak_near (nearly the same, or one
contains the other), near_duplicate and similar_text (within one side), same_template. A finding
about a leak stands at the row that judges and names the rows that are trained on.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fettle.data.deduplicate import input_key
from fettle.data.near import Clusters, Link, clusters
from fettle.data.placing import RANK, SEEN, Placed
from fettle.records.rows import Example, Finding, Split, SplitRow

MAX_RELATED = 20
_SAME = ("near", "contained")
_LEAKS = ("split_leak", "split_leak_near")
SAME_GROUP = "of the same group"
"""In the evidence of a leak by group: such a row need not be like any training row."""


def set_aside(placed: Sequence[Placed], found: Clusters) -> list[Finding]:
    """Rows that are nearly the same as one on a higher side leave the lower one.

    Only where both sides were ours to choose: then nothing is lost that somebody gave, and our own
    split has no near leak at all. It happens where a cluster was too large to stay together.
    """
    by_key = _by_key(item for item in placed if item.cut)
    findings = []
    for link in found.links:
        if not link.binds:
            continue
        for lower, higher in _lower_rows(by_key, link):
            lower.side, lower.reason = "quarantine", "split_leak_near"
            findings.append(
                lower.example.finding(
                    "split_leak_near",
                    "warning",
                    _how(link, f"a {higher.side} row, {_place(higher.example)}"),
                    "went to quarantine, so that the model is judged on rows it never saw",
                    (higher.example.row_id,),
                )
            )
    return findings


def find(placed: Sequence[Placed], found: Clusters) -> list[Finding]:
    """Near duplicates on one side, and near leaks between sides that were given.

    Args:
        placed: rows whose sides are final.
        found: clusters of their inputs.
    """
    by_key = _by_key(item for item in placed if item.side != "quarantine")
    leaks: dict[str, _Entries] = defaultdict(_Entries)
    twins: dict[str, list[tuple[Link, Placed, Placed]]] = defaultdict(list)
    for link in found.links:
        if link.method == "template":
            continue
        if link.method in _SAME:
            for higher, lower in _crossing(by_key, link):
                if not link.binds and higher.cut:
                    lower = [item for item in lower if not item.cut]
                if lower:
                    leaks[higher.example.row_id].add(link, higher, lower)
        left, right = by_key.get(link.left, ()), by_key.get(link.right, ())
        if left:
            # Of two rows the one with the larger key is named, never both.
            first = {item.side: item for item in reversed(left)}
            for item in right:
                partner = first.get(item.side)
                if partner is not None:
                    twins[item.example.row_id].append((link, item, partner))
    findings = [_leak(entries) for entries in leaks.values()]
    findings += [_twin(entries) for entries in twins.values()]
    templates = [link for link in found.links if link.method == "template"]
    if templates and placed:
        findings.append(_template(templates, by_key, placed[0].example))
    findings += _parted(found, by_key)
    return findings


def find_earlier(
    placed: Sequence[Placed], gone: Sequence[Placed], found: Clusters
) -> list[Finding]:
    """Rows that judge and are nearly the same as one that an earlier run chose weights on.

    Args:
        placed: rows whose sides are final.
        gone: rows of earlier runs that are not among them, on the sides that they had.
        found: clusters of both.
    """
    by_key = _by_key(item for item in placed if item.side in ("validation", "holdout"))
    seen = _by_key(item for item in gone if item.side in SEEN)
    leaks: dict[str, _Entries] = defaultdict(_Entries)
    for link in found.links if seen else ():
        for one, other in ((link.left, link.right), (link.right, link.left)):
            if link.method in _SAME and other in seen:
                for item in by_key.get(one, ()):
                    if RANK[item.side] > RANK[seen[other][0].side]:
                        leaks[item.example.row_id].add(link, item, seen[other])
    return [_leak(entries, " of an earlier run") for entries in leaks.values()]


def against(
    examples: Sequence[Example], keys: Sequence[str], pool: Sequence[Example]
) -> list[Finding]:
    """Rows that lie in another pool too, such as a guard set or a benchmark, exactly or nearly.

    Args:
        examples: rows that may be trained on.
        keys: their input keys.
        pool: rows that must not be trained on.
    Returns:
        One finding for each such row of ``examples``.
    """
    pool_keys = [input_key(example) for example in pool]
    other = [False] * len(examples) + [True] * len(pool)
    found = clusters([*examples, *pool], [*keys, *pool_keys], other)
    held = dict(zip(reversed(pool_keys), reversed(pool), strict=True))
    near: dict[str, Link] = {}
    for link in found.links:
        for mine, theirs in ((link.left, link.right), (link.right, link.left)):
            if theirs in held and link.method in _SAME:
                known = near.get(mine)
                if known is None or known.similarity < link.similarity:
                    near[mine] = link
    findings = []
    remedy = "leave it out of training: what it is measured on would be known to the model"
    for example, key in zip(examples, keys, strict=True):
        if key in held:
            other_row, kind = held[key], "split_leak"
            evidence = f"the same input as {_place(other_row)}"
        elif key in near:
            link = near[key]
            other_row = held[link.right if link.left == key else link.left]
            kind, evidence = "split_leak_near", _how(link, _place(other_row))
        else:
            continue
        findings.append(example.finding(kind, "warning", evidence, remedy, (other_row.row_id,)))
    return findings


def with_train_twin(splits: Iterable[SplitRow], findings: Iterable[Finding]) -> set[str]:
    """Ids of the holdout rows that a training row tells about: it holds nearly the same text.

    The verdict is printed with and without them, and ``holdout.rows_with_train_twin`` counts them.

    Args:
        splits: the account.
        findings: of the same check.
    """
    # A row that is not in the account is one that an earlier run chose weights on.
    side: Mapping[str, Split] = {row.row_id: row.split for row in splits}
    return {
        finding.row_id
        for finding in findings
        if finding.kind in _LEAKS
        and SAME_GROUP not in finding.evidence
        and side.get(finding.row_id) == "holdout"
        and any(side.get(row_id, "train") == "train" for row_id in finding.related)
    }


@dataclass(slots=True)
class _Entries:
    """What a row that judges is like: how many rows, and the first ones of each side."""

    count: int = 0
    first: list[tuple[Link, Placed, Placed]] = field(default_factory=list)

    def add(self, link: Link, item: Placed, others: Sequence[Placed]) -> None:
        """Note rows of one lower side and one input, in the order of their ids."""
        self.count += len(others)
        self.first += [(link, item, other) for other in others[:MAX_RELATED]]


def _leak(entries: _Entries, whose: str = "") -> Finding:
    """One finding for a row that judges, about all rows of lower sides that are like it."""
    ranked = sorted(entries.first, key=lambda entry: (RANK[entry[2].side], -entry[0].similarity,
                                                      entry[2].example.row_id))  # fmt: skip
    link, item, other = ranked[0]
    several = entries.count > 1
    number = f"{entries.count:,} {other.side} rows" if several else f"a {other.side} row"
    number += f"{whose} {'are' if several else 'is'}"
    return item.example.finding(
        "split_leak_near",
        "warning",
        f"{number} like it: {_how(link, _place(other.example))}",
        f"kept: no row is taken out of the {item.side} rows; the verdict is given without such"
        " rows too",
        _ids(entry[2] for entry in ranked),
    )


def _twin(entries: Sequence[tuple[Link, Placed, Placed]]) -> Finding:
    same = [entry for entry in entries if entry[0].method in _SAME]
    ranked = sorted(
        same or entries, key=lambda entry: (-entry[0].similarity, entry[2].example.row_id)
    )
    link, item, other = ranked[0]
    evidence = _how(link, _place(other.example))
    if len(ranked) > 1:
        evidence += f", and {len(ranked) - 1} more"
    related = _ids(entry[2] for entry in ranked)
    if same:
        return item.example.finding(
            "near_duplicate", "note", evidence, f"kept, all in {item.side}", related
        )
    return item.example.finding(
        "similar_text",
        "warning",
        evidence,
        "kept; look whether it says the same, and take one out if it does",
        related,
    )


def _template(
    templates: Sequence[Link], by_key: Mapping[str, Sequence[Placed]], first: Example
) -> Finding:
    keys = {key for link in templates for key in (link.left, link.right)}
    rows = sum(len(by_key.get(key, ())) for key in keys)
    example = next((link for link in templates if link.left in by_key and link.right in by_key),
                   None)  # fmt: skip
    such = ""
    if example is not None:
        left, right = by_key[example.left][0], by_key[example.right][0]
        such = f", such as {_place(left.example)} and {_place(right.example)}"
    return Finding(
        "",
        first.source,
        0,
        None,
        "same_template",
        "note",
        f"{rows:,} rows differ from another in numbers, dates or names only{such}",
        "kept, and not held together: they say different things; a --group column that names the"
        " template keeps each on one side",
    )


def _parted(found: Clusters, by_key: Mapping[str, Sequence[Placed]]) -> list[Finding]:
    """One finding about rows that begin alike and lie on both sides; no one of them is a twin."""
    parted: list[tuple[Counter[str], list[Placed]]] = []
    for group in found.beginnings:
        rows = [item for key in group for item in by_key.get(key, ())]
        held = Counter[str](item.side for item in rows)
        if len(held) > 1 and "train" in held:
            parted.append((held, rows))
    if not parted:
        return []
    sides, rows = max(parted, key=lambda entry: (len(entry[1]), entry[1][0].example.row_id))
    one = next(item for item in rows if item.side == "train")
    other = max(rows, key=lambda item: RANK[item.side])
    counts = ", ".join(f"{side} {sides[side]:,}" for side in RANK if sides[side])
    such = f"{_place(one.example)} and {_place(other.example)}"
    number = "Rows that begin" if len(parted) == 1 else f"{len(parted):,} groups of rows that begin"
    return [
        Finding(
            "",
            one.example.source,
            0,
            None,
            "split_leak_near",
            "warning",
            f"{number} with the same 50 words, or the same exchange, lie on several sides"
            f" ({counts}{' in the largest group' if len(parted) > 1 else ''}), such as {such}",
            "if they are about one document or conversation, name the column that says so with"
            " --group: then each is on one side",
        )
    ]


def _by_key(items: Iterable[Placed]) -> dict[str, list[Placed]]:
    """Rows by input; in the order of their ids, so that the order of a file plays no part."""
    found: dict[str, list[Placed]] = defaultdict(list)
    for item in sorted(items, key=lambda item: item.example.row_id):
        found[item.key].append(item)
    return dict(found)


def _lower_rows(
    by_key: Mapping[str, Sequence[Placed]], link: Link
) -> Iterable[tuple[Placed, Placed]]:
    """Each row of a link below one of the other input, with that; what is below the top first."""
    for side in ("holdout", "validation"):
        for one, other in ((link.left, link.right), (link.right, link.left)):
            higher = next((item for item in by_key.get(other, ()) if item.side == side), None)
            for item in by_key.get(one, ()) if higher is not None else ():
                if higher is not None and RANK.get(item.side, len(RANK)) < RANK[side]:
                    yield item, higher


def _crossing(
    by_key: Mapping[str, Sequence[Placed]], link: Link
) -> Iterable[tuple[Placed, list[Placed]]]:
    """Each row of a link, with the rows of the other input on each lower side."""
    for one, other in ((link.left, link.right), (link.right, link.left)):
        by_side: dict[Split, list[Placed]] = defaultdict(list)
        for item in by_key.get(one, ()):
            by_side[item.side].append(item)
        for item in by_key.get(other, ()):
            for side, items in by_side.items():
                if RANK[side] < RANK[item.side]:
                    yield item, items


def _how(link: Link, place: str) -> str:
    if link.method == "contained":
        return f"{link.similarity:.0%} of the shorter of it and {place} stands in the other"
    return f"{link.similarity:.0%} the same as {place}"


def _place(example: Example) -> str:
    if example.line:
        return f"{example.source}:{example.line}"
    return f"{example.source}, record {example.record}"


def _ids(items: Iterable[Placed]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(item.example.row_id for item in items))[:MAX_RELATED]
