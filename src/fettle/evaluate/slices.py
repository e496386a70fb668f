"""Where did it get worse? The primary metric on parts of the holdout, corrected for looking often.

Exploratory: the parts were not chosen before training. A slice is called worse or better when its
p-value, corrected by Benjamini and Hochberg over all slices, is at most alpha.

In: predictions of both arms on the same rows. Out: ``Slice`` records. Must not know: plans, words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from fettle.evaluate.contrast import contrast
from fettle.metrics.metric import Metric, references_of
from fettle.records.outcomes import Prediction, labels_from_text
from fettle.statistics.correction import benjamini_hochberg

MIN_ROWS = 10
"""Smaller slices are left out: no difference on them could be shown."""
MOST_VALUES = 200
"""Most slices of one kind, the largest first; as labels, only references that repeat count."""
MOST_LABELS_SHARE = 0.5
"""References are labels when there are at most this many different ones a row."""
LENGTH_PARTS = 4


@dataclass(frozen=True, slots=True)
class Slice:
    """The metric of both arms on some of the rows."""

    kind: str
    """label, length, group, tag NAME, or a name that the caller gave."""
    value: str
    n: int
    clusters: int | None
    base: float
    tuned: float
    difference: float
    """tuned - base."""
    ci_low: float | None
    """Not corrected for the number of slices."""
    ci_high: float | None
    p_value: float
    p_adjusted: float
    worse: bool
    better: bool

    def to_json(self) -> dict[str, Any]:
        """For verdict.json's ``extra``."""
        return asdict(self)


def find_slices(
    rows: Sequence[Prediction], extra: Mapping[str, Sequence[str | None]] | None = None
) -> dict[tuple[str, str], list[int]]:
    """Parts of the rows by what is known of them before any model answers.

    Args:
        rows: one arm, in the order of both.
        extra: name -> one value a row (None for rows without), such as a domain.

    Returns:
        (kind, value) -> indices of rows; parts of fewer than ``MIN_ROWS`` rows, and a kind with one
        value for all rows, are left out.
    """
    kinds: dict[str, list[Sequence[str]]] = {"label": _labels(rows), "length": _lengths(rows)}
    kinds["group"] = [() if row.group is None else (row.group,) for row in rows]
    for name in sorted({name for row in rows for name in row.tags or {}}):
        values = [(row.tags or {}).get(name) for row in rows]
        kinds[f"tag {name}"] = [() if value is None else (value,) for value in values]
    for name, given in (extra or {}).items():
        kinds[name] = [() if value is None else (value,) for value in given]
    found: dict[tuple[str, str], list[int]] = {}
    for kind, members in kinds.items():
        places: dict[str, list[int]] = {}
        for number, own in enumerate(members):
            for value in own:
                places.setdefault(value, []).append(number)
        # Larger first; among equally large ones in the order of their first row.
        large = sorted(places.items(), key=lambda item: -len(item[1]))[:MOST_VALUES]
        for value, inside in large:
            if MIN_ROWS <= len(inside) < len(rows):
                found[kind, value] = inside
    return found


def slices(
    metric: Metric,
    base: Sequence[Prediction],
    tuned: Sequence[Prediction],
    *,
    extra: Mapping[str, Sequence[str | None]] | None = None,
    alpha: float = 0.05,
    num_resamples: int = 2_000,
    seed: int = 0,
) -> list[Slice]:
    """Compare both arms on every slice.

    Args:
        metric: usually the primary; one that a slice has no value of (AUROC of one label) is not
            measured there.
        base: arm A, covered by the metric.
        tuned: arm B, the same rows in the same order.
        extra: see ``find_slices``.
        alpha: bounds the expected share of false claims among the slices that are called worse or
            better.
        num_resamples: of each slice.
        seed: of the random generators.

    Returns:
        Slices: those called worse first, then by the difference, the worst first.

    Source: Benjamini and Hochberg 1995.
    """
    if [row.row_id for row in base] != [row.row_id for row in tuned]:
        raise ValueError("both arms must hold the same rows in the same order")
    found: list[Slice] = []
    for (kind, value), members in find_slices(base, extra).items():
        arms = [[rows[i] for i in members] for rows in (base, tuned)]
        if not all(metric.covers(row) and metric.is_finite(row) for arm in arms for row in arm):
            continue
        if metric.undefined is not None and metric.undefined(arms[0]) is not None:
            continue
        if kind == "group":
            # Of a group by itself the question is about its rows: they are the units.
            arms = [[replace(row, group=None) for row in arm] for arm in arms]
        compared = contrast(
            metric, *arms, alpha=alpha, num_resamples=num_resamples, seed=seed
        ).comparison
        if not np.isfinite(compared.difference):
            continue
        found.append(
            Slice(
                kind=kind,
                value=value,
                n=compared.n,
                clusters=compared.clusters,
                base=compared.base,
                tuned=compared.tuned,
                difference=compared.difference,
                ci_low=compared.ci_low,
                ci_high=compared.ci_high,
                p_value=compared.p_value,
                p_adjusted=compared.p_value,
                worse=False,
                better=False,
            )
        )
    adjusted = benjamini_hochberg([item.p_value for item in found])
    sign = 1.0 if metric.higher_is_better else -1.0
    judged = [
        replace(
            item,
            p_adjusted=value,
            worse=value <= alpha and sign * item.difference < 0.0,
            better=value <= alpha and sign * item.difference > 0.0,
        )
        for item, value in zip(found, adjusted, strict=True)
    ]
    return sorted(judged, key=lambda item: (not item.worse, sign * item.difference, item.value))


def _labels(rows: Sequence[Prediction]) -> list[Sequence[str]]:
    """The labels that a row refers to; none where references are free text."""
    found = [
        sorted(set().union(*(labels_from_text(text) for text in references_of(row))))
        for row in rows
    ]
    different = {label for labels in found for label in labels}
    free = len(different) > MOST_LABELS_SHARE * max(1, len(rows))
    return [() for _ in rows] if free else list(found)


def _lengths(rows: Sequence[Prediction]) -> list[Sequence[str]]:
    """A quarter of the rows each by words of the input, else of the reference; ties together."""
    texts = [row.input if row.input is not None else references_of(row)[0] for row in rows]
    sizes = np.array([len(text.split()) for text in texts])
    if not len(sizes):
        return []
    edges = np.unique(np.quantile(sizes, np.linspace(0, 1, LENGTH_PARTS + 1)[1:-1]).astype(int))
    parts = np.searchsorted(edges, sizes)
    names = []
    for part in range(len(edges) + 1):
        inside = sizes[parts == part]
        names.append(f"{inside.min()} to {inside.max()} words" if len(inside) else "")
    return [(names[part],) for part in parts]
