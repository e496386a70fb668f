"""What the rows of one side tell about those of another: twins, contained texts, shared groups.

In: rows with their sides, and the clusters of their inputs. Out: findings, and rows set aside where
both sides were ours to choose. Must not know: files, how sides are chosen.

Kinds: split_leak (the same input, or the same group), split_leak_near (nearly the same, or one
contains the other), near_duplicate and similar_text (within one side), same_template. A finding
about a leak stands at the row that judges and names the rows that are trained on.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from fettle.data.deduplicate import input_key
from fettle.data.near import Clusters, Link, clusters
from fettle.data.placing import RANK, Placed
from fettle.records.rows import Example, Finding, Split, SplitRow

MAX_RELATED = 20
_SAME = ("near", "contained")
_LEAKS = ("split_leak", "split_leak_near")


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
        for lower, higher in _crossing(by_key, link):
            if lower.side == "quarantine" or higher.side == "quarantine":
                continue
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
    leaks: dict[str, list[tuple[Link, Placed, Placed]]] = defaultdict(list)
    twins: dict[str, list[tuple[Link, Placed, Placed]]] = defaultdict(list)
    for link in found.links:
        if link.method == "template":
            continue
        if link.method in _SAME:
            for lower, higher in _crossing(by_key, link):
                if link.binds or not (lower.cut and higher.cut):
                    leaks[higher.example.row_id].append((link, higher, lower))
        left, right = by_key.get(link.left, ()), by_key.get(link.right, ())
        if left:
            # Of two rows the one with the larger key is named, never both.
            for item in right:
                partner = next((x for x in left if x.side == item.side), None)
                if partner is not None:
                    twins[item.example.row_id].append((link, item, partner))
    findings = [_leak(entries) for entries in leaks.values()]
    findings += [_twin(entries) for entries in twins.values()]
    templates = [link for link in found.links if link.method == "template"]
    if templates and placed:
        findings.append(_template(templates, by_key, placed[0].example))
    return findings


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
    """Ids of the holdout rows that a training row tells about.

    The verdict is printed with and without them, and ``holdout.rows_with_train_twin`` counts them.

    Args:
        splits: the account.
        findings: of the same check.
    """
    side: Mapping[str, Split] = {row.row_id: row.split for row in splits}
    return {
        finding.row_id
        for finding in findings
        if finding.kind in _LEAKS
        and side.get(finding.row_id) == "holdout"
        and any(side.get(row_id) == "train" for row_id in finding.related)
    }


def _leak(entries: Sequence[tuple[Link, Placed, Placed]]) -> Finding:
    """One finding for a row that judges, about all rows of lower sides that are like it."""
    ranked = sorted(entries, key=lambda entry: (RANK[entry[2].side], -entry[0].similarity,
                                                entry[2].example.row_id))  # fmt: skip
    link, item, other = ranked[0]
    number = f"{len(ranked)} {other.side} rows are" if len(ranked) > 1 else f"a {other.side} row is"
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


def _by_key(items: Iterable[Placed]) -> dict[str, list[Placed]]:
    found: dict[str, list[Placed]] = defaultdict(list)
    for item in items:
        found[item.key].append(item)
    return dict(found)


def _crossing(
    by_key: Mapping[str, Sequence[Placed]], link: Link
) -> Iterable[tuple[Placed, Placed]]:
    """Pairs of rows of a link on different sides, that of the lower side first."""
    for left in by_key.get(link.left, ()):
        for right in by_key.get(link.right, ()):
            low, high = sorted((left, right), key=lambda x: RANK.get(x.side, -1))
            if low.side != high.side:
                yield low, high


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
