"""Rows on their way to a side, and which of them may not part.

In: examples, their input keys, clusters. Out: ``Placed`` rows with a name for those that stay
together. Must not know: how sides are chosen.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fettle.data.near import Clusters
from fettle.records.rows import Example, Split

RANK = {"train": 0, "validation": 1, "holdout": 2}
"""A row that lies on two sides counts for the higher one."""
SEEN = ("train", "validation")
"""Sides whose rows decide about weights."""
_MAX_ROWS = 100
_MAX_SHARE = 0.05


@dataclass(slots=True)
class Placed:
    """An example on its way to a side."""

    example: Example
    key: str
    """Input key."""
    side: Split = "train"
    reason: str = ""
    cut: bool = False
    """Whether its side is ours to choose."""
    split_key: str = ""
    """What is hashed; rows with one key never part."""
    tied: bool = False
    """Whether other rows than those of its group or input decide about the split key."""


def input_name(key: str) -> str:
    """What rows with this input key are called where row ids stand as well."""
    return f"input:{key}"


def name_components(placed: Sequence[Placed], found: Clusters) -> None:
    """Give each row its split key: its group, its cluster, or both where they hang together.

    A row with a group joins its cluster with its group. The name is the smallest group's, or that
    of the cluster where there is no group. Groups are not joined beyond 5 % of the rows (but up to
    100 rows): one greeting that everybody writes must not tie all groups together. What then lies
    on two sides is found and set aside afterwards.

    Args:
        placed: rows; ``split_key`` and ``tied`` are written.
        found: clusters of their inputs.
    """
    names = [_own_name(item, found) for item in placed]
    size = Counter(names)
    limit = max(_MAX_ROWS, int(_MAX_SHARE * len(placed)))
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    edges = {
        (name, input_name(found.key(item.key)))
        for name, item in zip(names, placed, strict=True)
        if item.example.group is not None
    }
    for group, cluster in sorted(edges):
        one, two = sorted((root(group), root(cluster)))
        if one != two and size[one] + size[two] <= max(limit, size[one], size[two]):
            parent[two] = one
            size[one] += size[two]
    for item, name in zip(placed, names, strict=True):
        item.split_key = root(name)
        alone = input_name(item.key) if item.example.group is None else name
        item.tied = item.split_key != alone


def _own_name(item: Placed, found: Clusters) -> str:
    group = item.example.group
    return f"group:{group}" if group is not None else input_name(found.key(item.key))
