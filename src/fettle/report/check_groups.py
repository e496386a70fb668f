"""The parts of the page of `fettle check` about rows among other rows: copies, and the target.

In: ``Prepared``; what ``represent`` found about a target. Out: tables and sentences of bounded
size. Must not know: HTML, files, how a copy is found.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fettle.data.account.account import Prepared
from fettle.data.represent.mix import MixShift
from fettle.data.represent.represent import ALPHA, Representation
from fettle.data.sensitive import redact
from fettle.report import words
from fettle.report.check_rows import Seen
from fettle.report.check_words import number_of, readable
from fettle.report.tables import Bars, Table, cell

JOINING: Final = frozenset({"exact_duplicate", "near_duplicate", "split_leak", "split_leak_near"})
"""Kinds whose rows say the same."""
MAX_CLUSTERS: Final = 10
MAX_MEMBERS: Final = 8
MAX_GROUP_ROWS: Final = 3


@dataclass(frozen=True, slots=True)
class Cluster:
    """Rows that say the same."""

    row_ids: tuple[str, ...]
    """All of them; those that are shown come first."""


@dataclass(frozen=True, slots=True)
class Clusters:
    """All clusters in numbers, the largest ones with their rows."""

    num_clusters: int
    num_rows: int
    """Rows that are in a cluster."""
    largest: tuple[Cluster, ...]

    def wanted(self) -> list[str]:
        """Ids of the rows that are shown."""
        return [row for cluster in self.largest for row in cluster.row_ids[:MAX_MEMBERS]]


@dataclass(frozen=True, slots=True)
class ShownCluster:
    """One cluster on the page."""

    title: str
    table: Table
    more: int
    """Rows that are not shown."""


@dataclass(frozen=True, slots=True)
class Target:
    """How the target compares, for the page."""

    sentences: Sequence[tuple[str, str]]
    """Question, answer."""
    groups: Table | None
    words: Table | None
    mixes: Sequence[tuple[str, Bars]]
    """What a mix comes to, and its slices."""


def clusters(prepared: Prepared) -> Clusters:
    """Rows that a finding about copies names together, directly or through others.

    Of a row with more than twenty twins a finding names twenty; the others name it themselves.
    """
    parent: dict[str, str] = {}

    def root(row_id: str) -> str:
        parent.setdefault(row_id, row_id)
        while parent[row_id] != row_id:
            parent[row_id] = parent[parent[row_id]]
            row_id = parent[row_id]
        return row_id

    for finding in prepared.findings:
        if finding.kind in JOINING and finding.row_id:
            for related in finding.related:
                one, other = sorted((root(finding.row_id), root(related)))
                parent[other] = one
    members: dict[str, list[str]] = {}
    for row_id in parent:
        members.setdefault(root(row_id), []).append(row_id)
    groups = [sorted(rows) for rows in members.values() if len(rows) > 1]
    groups.sort(key=lambda rows: (-len(rows), rows[0]))
    largest = tuple(Cluster(tuple(rows)) for rows in groups[:MAX_CLUSTERS])
    return Clusters(len(groups), sum(map(len, groups)), largest)


def shown_clusters(found: Clusters, seen: Mapping[str, Seen]) -> list[ShownCluster]:
    """The largest clusters with some of their rows.

    Args:
        found: from ``clusters``.
        seen: the rows that are shown.
    """
    unknown = Seen("(not in this account)", "–", "", "")
    shown = []
    for number, cluster in enumerate(found.largest, start=1):
        rows: list[tuple[str, ...]] = []
        for row_id in cluster.row_ids[:MAX_MEMBERS]:
            row = seen.get(row_id, unknown)
            rows.append((cell(row.place), row.side, row.text, row_id, cell(row.label, 100)))
        size = number_of(len(cluster.row_ids), "row")
        columns: tuple[str, ...] = ("place", "side", "text", "row", "label")
        if not any(row[4] for row in rows):
            columns, rows = columns[:4], [row[:4] for row in rows]
        shown.append(
            ShownCluster(
                f"{size}, such as “{rows[0][2][:80]}”",
                Table(f"Cluster {number} of {size}", columns, rows, code=frozenset({3})),
                len(cluster.row_ids) - len(rows),
            )
        )
    return shown


def duplicate_counts(prepared: Prepared) -> list[tuple[str, int]]:
    """Findings about copies by kind."""
    counts = Counter(f.kind for f in prepared.findings if f.kind in JOINING)
    return [(readable(kind), number) for kind, number in counts.most_common()]


def target(found: Representation, texts: Mapping[str, str]) -> Target:
    """The answers about a target in words and tables.

    Args:
        found: from ``represent``.
        texts: excerpt of a target row by row id, for those that are shown; may be empty.
    """
    apart = found.distinguishability
    return Target(
        _answers(found),
        _groups(found, texts),
        Table(
            "Words that tell them apart",
            ("word", "share of train rows", "share of target rows"),
            [
                (cell(w.word, 60), words.percent(w.train_share), words.percent(w.target_share))
                for w in apart.words
            ],
            numeric=frozenset({1, 2}),
            is_compact=True,
        )
        if apart.words and apart.p_value <= ALPHA
        else None,
        [_mix(mix) for mix in found.mix],
    )


def _answers(found: Representation) -> list[tuple[str, str]]:
    coverage, apart, drop = found.coverage, found.distinguishability, found.drop
    answers = [
        (
            "Is anything in the target unlike all of train?",
            f"{words.percent(coverage.share)} of {number_of(coverage.n, 'target row')} "
            f"({coverage.uncovered:,}; 95 % CI {words.percent(coverage.ci_low)} to "
            f"{words.percent(coverage.ci_high)}) are unlike anything in train. Of train's own rows "
            f"that were held out, {words.percent(coverage.expected)} are "
            f"(p {_p(coverage.p_value)}).",
        ),
        (
            "Can the two be told apart?",
            f"A classifier puts a target row above a train row with probability {apart.auc:.2f} "
            f"(AUC; 95 % CI {apart.ci_low:.2f} to {apart.ci_high:.2f}; 0.50 is guessing, "
            f"p {_p(apart.p_value)})" + ("; in practice they are close." if apart.close else "."),
        ),
    ]
    if drop is not None:
        answers.append(
            (
                "What may it cost?",
                f"A linear model expects {words.percent(drop.own_accuracy)} accuracy on rows like "
                f"train and {words.percent(drop.target_accuracy)} on the target. It is an estimate "
                "without labels: measure on labelled target rows before you trust it.",
            )
        )
    return answers


def _groups(found: Representation, texts: Mapping[str, str]) -> Table | None:
    groups = found.coverage.groups
    if not groups:
        return None
    rows = []
    for group in groups:
        such = " · ".join(texts[row] for row in group.rows if row in texts)
        about = ", ".join(group.keywords) or "(no words in common)"
        rows.append(
            (cell(about, 200), f"{len(group.rows):,}", f"{group.rows_to_collect:,}", cell(such))
        )
    return Table(
        "Rows to collect: groups of the target that train lacks",
        ("about", "target rows", "rows to collect", "such as"),
        rows,
        numeric=frozenset({1, 2}),
    )


def target_rows(found: Representation) -> list[str]:
    """Ids of the target rows that are shown."""
    return [row for group in found.coverage.groups for row in group.rows[:MAX_GROUP_ROWS]]


def _mix(mix: MixShift) -> tuple[str, Bars]:
    sentence = (
        f"By {cell(mix.slices, 60)}, the mix differs by {words.percent(mix.distance)} of the rows "
        f"(95 % CI {words.percent(mix.ci_low)} to {words.percent(mix.ci_high)}; two samples "
        f"without any shift: {words.percent(mix.expected)}; p {_p(mix.p_value)})."
    )
    most = max((max(s.train, s.target) for s in mix.shares), default=0.0) or 1.0
    bars = Bars(
        f"The slices by {cell(mix.slices, 60)} that differ most (upper bar train, lower target)",
        ("slice", "train", "target"),
        [
            (
                cell(redact(s.name), 80),
                words.percent(s.train),
                words.percent(s.target),
                (s.train / most, s.target / most),
            )
            for s in mix.shares
        ],
    )
    return sentence, bars


def _p(value: float) -> str:
    shown = words.p_value(value)
    return shown if shown.startswith("<") else f"= {shown}"
