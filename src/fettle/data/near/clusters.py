"""Which rows belong together, so that no two of them may lie on different sides of a split.

In: examples and their input keys. Out: ``Clusters``: a cluster for each input, and the links that
made it. Must not know: sides, what is done about a link.

A cluster joins the inputs that are nearly the same or half contain each other, that begin with the
same 50 words (questions about one document), or that continue the same conversation. Its key is the
smallest input key among its members: rows that come later change it only if they are smaller
themselves, and a cluster of one has its own key as before.

No cluster holds more than 5 % of the inputs (but up to 100): the strongest links are joined first,
and a link that would go beyond that stays a link between two clusters, for the split to look after.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import xxhash

from fettle.data.deduplicate import normal_text
from fettle.data.near.pairs import SHORT_WORDS, Found, Method, Pair, find
from fettle.records.rows import Example, Message

MAJORITY = 0.5
"""Share of the shorter text that must stand in the other one to hold both on one side."""
MAX_SHARE = 0.05
MAX_INPUTS = 100
NEAR_APART = 0.92
"""Least similarity of short texts with other labels to say the same; what is below is akin."""
MAX_BEGIN = 0.5
"""What more of the inputs begin with is an instruction in front of them, not a document."""
_CONVERSATION_WORDS = 12
"""Conversations that share fewer words at their beginning share a greeting."""


@dataclass(frozen=True, slots=True)
class Link:
    """Two inputs that have much in common."""

    left: str
    """Input key; the smaller one."""
    right: str
    similarity: float
    method: Method

    @property
    def binds(self) -> bool:
        """Whether the two are held on one side: nearly the same, or half of one is in the other.

        Less in common is told of where a holdout was given, but texts made of the same phrases
        would otherwise hang together by the hundreds.
        """
        return self.method == "near" or (self.method == "contained" and self.similarity >= MAJORITY)


@dataclass(frozen=True, slots=True)
class Clusters:
    """What the inputs of examples have to do with each other."""

    cluster_of: Mapping[str, str]
    """Input key to cluster key, for inputs that are not alone."""
    links: Sequence[Link]
    """Every pair that was found, akin ones and look-alikes of a template too."""
    beginnings: Sequence[Sequence[str]] = ()
    """Inputs that begin alike, as questions about one document do, or that continue the same
    conversation; in a cluster only as far as there is room for them."""

    def key(self, input_key: str) -> str:
        """The key of an input's cluster; its own key where it is alone."""
        return self.cluster_of.get(input_key, input_key)


def clusters(
    examples: Sequence[Example],
    keys: Sequence[str],
    other: Sequence[bool] | None = None,
    workers: int | None = None,
) -> Clusters:
    """Find what belongs together.

    Args:
        examples: examples of all pools.
        keys: their input keys, in the same order.
        other: which of them are of the other side, such as a holdout that was given.
        workers: threads; None = the machine's cores, four at most. The result is the same.
    """
    workers = workers or min(4, os.cpu_count() or 1)
    units = _units(examples, keys, other)
    found = find([unit.text for unit in units], [unit.other for unit in units], workers)
    links = _links(units, found)
    edges = [(link.left, link.right) for link in _strongest_first(links) if link.binds]
    # Inputs of the same text that differ in the system turn.
    same = [(unit.keys[0], key) for unit in units for key in unit.keys[1:]]
    groups = [[units[i].keys[0] for i in group] for group in found.beginnings]
    conversations = _conversations(examples, keys)
    common = [[units[i].keys[0] for i in group] for group in found.common_beginnings]
    all_groups = [*groups, *conversations, *(g for g in common if len(g) <= MAX_BEGIN * len(units))]
    room = max(MAX_INPUTS / 2, MAX_SHARE * len(examples))
    groups += [group for group in conversations if len(group) <= room]
    grouped = [(group[0], key) for group in sorted(map(sorted, groups)) for key in group[1:]]
    limit = max(MAX_INPUTS, int(MAX_SHARE * len(units)))
    beginnings = sorted({tuple(sorted(group)) for group in all_groups})
    return Clusters(_joined([*same, *edges, *grouped], limit), links, beginnings)


def shown_text(example: Example) -> str:
    """What is compared: the text, or what was said before the target, without system turns."""
    if example.text is not None:
        return example.text
    turns = [turn.content for turn in example.messages[:-1] if turn.role in ("user", "assistant")]
    return "\n".join(turns or [turn.content for turn in example.messages[:-1]])


@dataclass(slots=True)
class _Unit:
    """All examples with one text."""

    text: str
    other: bool
    keys: list[str]
    """Their input keys, sorted; several where system turns differ."""
    labels: set[str]
    """Of texts to classify."""


def _units(
    examples: Sequence[Example], keys: Sequence[str], other: Sequence[bool] | None
) -> list[_Unit]:
    by_text: dict[str, _Unit] = {}
    for index, (example, key) in enumerate(zip(examples, keys, strict=True)):
        text = shown_text(example)
        name = key if example.text is not None else _digest(normal_text(text))
        side = other is not None and other[index]
        labels = set(example.classes) if example.text is not None else set()
        unit = by_text.get(name)
        if unit is None:
            by_text[name] = _Unit(text, side, [key], labels)
            continue
        unit.labels |= labels
        # Of spellings that differ in case and spaces the smallest: the order plays no part.
        unit.text = min(unit.text, text)
        unit.other |= side
        if key not in unit.keys:
            unit.keys.append(key)
    for unit in by_text.values():
        unit.keys.sort()
    return list(by_text.values())


def _links(units: Sequence[_Unit], found: Found) -> list[Link]:
    links = []
    for pair in found.pairs:
        one, two = units[pair.left], units[pair.right]
        if pair.slight and not one.labels & two.labels:
            continue
        left, right = sorted((one.keys[0], two.keys[0]))
        method: Method = "akin" if _say_other_things(one, two, pair) else pair.method
        links.append(Link(left, right, pair.similarity, method))
    for unit in units:
        links += [Link(unit.keys[0], key, 1.0, "near") for key in unit.keys[1:]]
    return sorted(links, key=lambda link: (link.left, link.right))


def _say_other_things(one: _Unit, two: _Unit, pair: Pair) -> bool:
    """Whether a word makes two short texts two requests, which their labels tell.

    "When should I change my oil" and "... my tires" share as much as two spellings of one of them.
    """
    if pair.method not in ("near", "contained") or not one.labels or not two.labels:
        return False
    if one.labels & two.labels or min(len(x.text.split()) for x in (one, two)) >= SHORT_WORDS:
        return False
    return pair.method == "contained" or pair.similarity < NEAR_APART


def _strongest_first(links: Iterable[Link]) -> list[Link]:
    return sorted(links, key=lambda link: (-link.similarity, link.left, link.right))


def _conversations(examples: Sequence[Example], keys: Sequence[str]) -> list[list[str]]:
    """Inputs of conversations that begin with the same exchange, or continue a whole other row."""
    starting: dict[str, set[str]] = defaultdict(set)
    for example, key in zip(examples, keys, strict=True):
        if example.text is not None:
            continue
        turns = [turn for turn in example.messages if turn.role not in ("system", "developer")]
        for start in _starts(turns):
            starting[start].add(key)
    return [list(group) for group in starting.values() if len(group) > 1]


def _starts(turns: Sequence[Message]) -> Iterable[str]:
    """A key for each beginning that ends with an answer and is more than a greeting."""
    said: list[str] = []
    num_words = 0
    for turn in turns:
        said.append(f"{turn.role}\x1f{normal_text(turn.content)}")
        num_words += len(turn.content.split())
        if turn.role == "assistant" and len(said) > 1 and num_words >= _CONVERSATION_WORDS:
            yield _digest("\x1e".join(said))


def _joined(edges: Iterable[tuple[str, str]], limit: int) -> dict[str, str]:
    """Cluster key of each input that has a neighbour (union-find; a cluster's root is its key)."""
    parent: dict[str, str] = {}
    size: dict[str, int] = {}

    def root(key: str) -> str:
        parent.setdefault(key, key)
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for left, right in edges:
        one, two = sorted((root(left), root(right)))
        total = size.get(one, 1) + size.get(two, 1)
        if one != two and total <= limit:
            parent[two], size[one] = one, total
    return {key: root(key) for key in list(parent)}


def _digest(text: str) -> str:
    return xxhash.xxh3_128_hexdigest(text.encode("utf-8", "surrogatepass"))
