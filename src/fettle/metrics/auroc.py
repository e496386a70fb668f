"""Area under the ROC curve: how well the probability of a class ranks its rows above the others.

The area is a mean over pairs of rows, so that no statistic of single rows adds up to it. What does
add up are placement values: for a row of the class, the share of other rows that it outranks, and
the reverse. With all rows they give the area exactly; a resample keeps the placements that its rows
have among all rows (the Hajek projection, on which DeLong's test rests).

In: predictions with probabilities. Out: a metric. Must not know: models, which arm is which.
"""

from collections.abc import Sequence

import numpy as np

from fettle.errors import DataError
from fettle.metrics.metric import Metric, single_reference
from fettle.records.outcomes import Prediction, labels_from_text
from fettle.statistics.resampling import BoolArray, FloatArray

FEWEST = 8
"""Rows of the rarer side (summed over classes), below which a bootstrap interval covers less than
it says: 95 % ones covered 92.6 % with 5 positives among 100 rows, 94.4 % with 8."""


def auroc() -> Metric:
    """Area under the ROC curve; the mean of one class against the rest where there are several.

    Ties count half. With two classes it is the usual binary area, whichever is called positive.
    Classes that no row or every row refers to have no area and are left out.

    Source: Hanley and McNeil 1982; DeLong et al. 1988; Obuchowski 1997 for rows in clusters.
    """
    return Metric(
        name="auroc",
        higher_is_better=True,
        kind="corpus",
        needs="probabilities",
        unit="share",
        span=1.0,
        source="fettle",
        settings="average:macro|one class against the rest|ties:half",
        sums=_sums,
        score=_score,
        undefined=too_few,
    )


def too_few(rows: Sequence[Prediction]) -> str | None:
    """Why no verdict can rest on the areas of some rows; None where one can."""
    why = one_class(rows)
    if why is not None:
        return why
    truths = [_truth(row) for row in rows]
    inside = [sum(label in truth for truth in truths) for label in _classes(truths)]
    rare = sum(min(count, len(rows) - count) for count in inside)
    if rare >= FEWEST:
        return None
    return (
        f"auroc needs at least {FEWEST} rows on the rarer side of its classes, there are {rare}:"
        " no interval would cover"
    )


def one_class(rows: Sequence[Prediction]) -> str | None:
    """Why rows have no area under a curve at all; None where they have one."""
    if not rows:
        return "auroc needs rows of two classes, there are no rows"
    if _classes([_truth(row) for row in rows]):
        return None
    only = ", ".join(sorted(_truth(rows[0]))) or "no label"
    return f"auroc needs rows of two classes, every row has {only!r}"


def placements(scores: FloatArray, positive: BoolArray) -> tuple[FloatArray, float]:
    """Where each row stands among the rows of the other side.

    Args:
        scores: [N] finite.
        positive: [N] which rows belong to the class; some do and some do not.

    Returns:
        [N] for a positive row the share of negatives below it, for a negative the share of
        positives above it, ties half; and the area under the curve, the mean over either side.
    """
    value = np.empty(len(scores))
    inside, outside = np.sort(scores[positive]), np.sort(scores[~positive])
    value[positive] = _share_below(outside, scores[positive])
    value[~positive] = 1.0 - _share_below(inside, scores[~positive])
    return value, float(np.mean(value[positive]))


def _share_below(others: FloatArray, scores: FloatArray) -> FloatArray:
    below = np.searchsorted(others, scores, side="left")
    not_above = np.searchsorted(others, scores, side="right")
    share: FloatArray = (below + not_above) / (2.0 * len(others))
    return share


def _sums(arms: Sequence[Sequence[Prediction]]) -> list[FloatArray]:
    """Per arm [N, 1 + 4 L]: 1, and per class: placement if positive, placement if negative, is
    positive, the arm's area."""
    tables = []
    for rows in arms:
        truths = [_truth(row) for row in rows]
        classes = _classes(truths)
        if not classes:
            raise DataError(
                "E1009",
                one_class(rows) or "",
                hint="use another metric, such as --metric log_loss, or rows of several classes",
            )
        table = np.zeros((len(rows), 1 + 4 * len(classes)))
        table[:, 0] = 1.0
        for number, label in enumerate(classes):
            positive = np.array([label in truth for truth in truths])
            scores = np.array([(row.probabilities or {}).get(label, 0.0) for row in rows])
            place, area = placements(scores, positive)
            first = 1 + 4 * number
            table[:, first] = np.where(positive, place, 0.0)
            table[:, first + 1] = np.where(positive, 0.0, place)
            table[:, first + 2] = positive
            table[:, first + 3] = area
        tables.append(table)
    return tables


def _score(sums: FloatArray) -> FloatArray:
    """Mean placement of either side, less the area that both have in common.

    The area counts by the row, so that the rarer side, which decides how far chance can go, keeps
    nearly all of its own variation when rows are swapped.
    """
    count = sums[..., :1]
    inside, outside, positives, areas = np.moveaxis(
        sums[..., 1:].reshape(*sums.shape[:-1], -1, 4), -1, 0
    )
    negatives, area = count - positives, areas / count
    # A resample without one of the sides tells of the other alone.
    above = np.where(positives > 0, inside / np.where(positives > 0, positives, 1.0), area)
    below = np.where(negatives > 0, outside / np.where(negatives > 0, negatives, 1.0), area)
    value: FloatArray = (above + below - area).mean(axis=-1)
    return value


def _truth(row: Prediction) -> frozenset[str]:
    return labels_from_text(single_reference(row, "auroc"))


def _classes(truths: Sequence[frozenset[str]]) -> list[str]:
    """Labels with an area: of some rows, not of all. Of two that exclude each other, the last."""
    labels = sorted(frozenset().union(*truths))
    found = [label for label in labels if not all(label in truth for truth in truths)]
    single = all(len(truth) == 1 for truth in truths)
    return found[-1:] if len(labels) == 2 and single else found
