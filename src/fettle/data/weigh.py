"""What tokenized training rows count: weights of labels, and the unit of numbers.

In: tokenized rows, labels, what the recipe says. Out: the same rows with weights or standardised
values. Must not know: files, models.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from fettle.errors import RecipeError
from fettle.records.tokens import TokenizedExample

ClassWeights = str | Mapping[str, float]
"""none, balanced, or label to weight."""


@dataclass(frozen=True, slots=True)
class Scale:
    """The unit in which a regression model counts."""

    mean: float
    spread: float
    """Standard deviation (of the rows themselves, not of a sample), in the unit of the data."""


def check_class_weights(
    wanted: ClassWeights, task: str, labels: Sequence[str], multi_label: bool
) -> None:
    """Refuse weights that mean nothing for these rows.

    Raises:
        RecipeError: E0365.
    """
    if wanted == "none":
        return
    if task != "classify":
        raise RecipeError(
            "E0365",
            f"train.class_weights is for the task classify, not for {task}",
            hint="leave train.class_weights out",
        )
    if not isinstance(wanted, Mapping):
        return
    for label, weight in wanted.items():
        if label not in labels:
            near = get_close_matches(label, labels, n=1, cutoff=0.0)
            raise RecipeError(
                "E0365",
                f"train.class_weights names the label {label!r}, which no row has",
                why=f"There are {len(labels):,} labels",
                hint=f"did you mean {near[0]!r}?" if near else "leave it out",
            )
        if multi_label and weight == 0:
            raise RecipeError(
                "E0365",
                f"train.class_weights gives {label!r} the weight 0",
                why="With any number of labels a row it would only ever be taught as absent",
                hint="choose a weight above 0, or take the label out of the data",
            )
    if not multi_label and all(wanted.get(label, 1.0) == 0 for label in labels):
        raise RecipeError(
            "E0365",
            "train.class_weights gives every label the weight 0",
            hint="give at least two labels a weight above 0",
        )


def weighed(
    rows: Sequence[TokenizedExample], labels: Sequence[str], wanted: ClassWeights
) -> list[TokenizedExample]:
    """Training rows with the weights of their labels.

    One label a row: the row has the weight of its label. "balanced" is N / (K n), with N rows, K
    labels that occur and n rows of the label (scikit-learn's ``class_weight="balanced"``): each
    label weighs the same in sum, and the mean weight of a row is 1.

    Any number of labels a row: the weight of a label multiplies its loss on the rows to which it
    applies, against 1 on those to which it does not (torch's ``pos_weight``). "balanced" is
    (N - n) / n, so that both sides of each label weigh the same; a label that applies to every row,
    or to none, has 1.

    Args:
        rows: with ``label`` or ``labels``.
        labels: names in the order of the indices.
        wanted: none, balanced, or label to weight; a label that is not named has 1.
    """
    if wanted == "none" or not rows:
        return list(rows)
    counts: Counter[int] = Counter()
    for row in rows:
        counts.update(row.labels if row.labels is not None else (row.label or 0,))
    several = rows[0].labels is not None
    if isinstance(wanted, Mapping):
        weight = {index: float(wanted.get(label, 1.0)) for index, label in enumerate(labels)}
    elif several:
        weight = {i: (len(rows) - n) / n if n < len(rows) else 1.0 for i, n in counts.items()}
    else:
        weight = {i: len(rows) / (len(counts) * n) for i, n in counts.items()}
    if several:
        return [
            replace(row, label_weights=tuple(weight[i] for i in row.labels or ())) for row in rows
        ]
    return [replace(row, weight=weight[row.label or 0]) for row in rows]


def scale_of(rows: Sequence[TokenizedExample]) -> Scale:
    """Mean and spread of the rows' numbers; a spread of 1 where all are the same."""
    values = [row.value or 0.0 for row in rows]
    mean = math.fsum(values) / len(values)
    spread = math.sqrt(math.fsum((value - mean) * (value - mean) for value in values) / len(values))
    return Scale(mean, spread if spread > 0 else 1.0)


def standardised(rows: Sequence[TokenizedExample], scale: Scale) -> list[TokenizedExample]:
    """Rows whose number counts in spreads from the mean."""
    return [
        row if row.value is None else replace(row, value=(row.value - scale.mean) / scale.spread)
        for row in rows
    ]
