"""Is the model right as often as it says, and what would abstaining buy?

In: ``Contents`` (the answers, and what the verdict says of a threshold). Out: figures with their
tables. Must not know: HTML.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from fettle.report import words
from fettle.report.confidence_plots import Bin, calibration_plot, coverage_plot
from fettle.report.contents import Answer, Contents, mapping, number, objects
from fettle.report.tables import Figure, Table
from fettle.statistics.single import wilson_interval

NUM_BINS = 10
MIN_ROWS = 20
"""With fewer rows a calibration curve shows nothing."""
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Abstaining:
    """What a threshold of confidence does."""

    figure: Figure
    sentence: str


def bins(answers: Iterable[Answer]) -> list[Bin]:
    """Rows in bins of equal width by the confidence of their prediction; empty bins are left out.

    Args:
        answers: of one arm; rows without a confidence from 0 to 1 are passed over.

    Returns:
        Bins with Wilson intervals of the share that is right.
    """
    parts: list[list[tuple[float, bool]]] = [[] for _ in range(NUM_BINS)]
    for answer in answers:
        sure = answer.confidence
        if sure is not None and answer.prediction is not None and 0.0 <= sure <= 1.0:
            place = min(NUM_BINS - 1, math.floor(sure * NUM_BINS))
            parts[place].append((sure, answer.prediction in answer.references))
    found = []
    for place, part in enumerate(parts):
        if part:
            right = sum(good for _, good in part)
            mean = math.fsum(sure for sure, _ in part) / len(part)
            ends = wilson_interval(right, len(part), CONFIDENCE)
            edges = (place / NUM_BINS, (place + 1) / NUM_BINS)
            found.append(Bin(*edges, len(part), mean, right, *ends))
    return found


def calibration(contents: Contents) -> Figure | None:
    """Share of right answers at each confidence, for classification."""
    if contents.task != "classify":
        return None
    arms = {arm: bins(contents.answers.get(arm, {}).values()) for arm in ("base", "tuned")}
    tuned = arms["tuned"]
    if sum(item.n for item in tuned) < MIN_ROWS:
        return None
    rows = [
        (
            f"{100 * item.low:.0f} to {100 * item.high:.0f} %",
            f"{item.n:,}",
            words.percent(item.confidence),
            words.percent(item.accuracy),
            f"{100 * item.ci_low:.1f} to {100 * item.ci_high:.1f}",
        )
        for item in tuned
    ]
    source = "evaluation/predictions.*.jsonl › probabilities, prediction, reference"
    columns = ("confidence", "rows", "mean confidence", "right", "95 % interval of right")
    table = Table(
        "Calibration of the tuned model", columns, rows, frozenset({1, 2, 3, 4}), source=source
    )
    low = [item for item in tuned if item.ci_high < item.confidence]
    high = [item for item in tuned if item.ci_low > item.confidence]
    caption = (
        "Rows in ten bins by the confidence of the prediction. On the dashed line the model is "
        "right as often as it says; below it, it is too sure. Vertical lines are 95 % intervals; "
        "the bars below count the rows of the tuned model."
    )
    if low or high:
        over, under = (sum(item.n for item in part) for part in (low, high))
        caption += (
            f" The interval lies wholly below the line for {over:,} rows (too sure) and wholly "
            f"above it for {under:,} (not sure enough)."
        )
    drawn = {arm: found for arm, found in arms.items() if found}
    return Figure(calibration_plot(drawn), caption, source, table)


def abstaining(contents: Contents) -> Abstaining | None:
    """Accuracy against coverage, with the threshold that validation rows chose."""
    found = mapping(mapping(contents.verdict.get("extra")).get("abstain"))
    places = [
        (number(item.get("coverage")), number(item.get("accuracy")), number(item.get("threshold")))
        for item in objects(found.get("curve"))
    ]
    curve = [(x, y, t) for x, y, t in places if x is not None and y is not None]
    if not curve:
        return None
    values = {
        key: number(found.get(key))
        for key in ("threshold", "coverage", "accuracy", "ci_low", "ci_high", "target_accuracy")
    }
    chosen = interval = None
    if values["coverage"] is not None and values["accuracy"] is not None:
        chosen = (values["coverage"], values["accuracy"])
        if values["ci_low"] is not None and values["ci_high"] is not None:
            interval = (values["ci_low"], values["ci_high"])
    target = values["target_accuracy"]
    svg = coverage_plot(
        [(x, y) for x, y, _ in curve], chosen=chosen, interval=interval, target=target
    )
    kept = curve[:: max(1, len(curve) // 20)]
    kept += [curve[-1]] if kept[-1] is not curve[-1] else []
    table = Table(
        "Accuracy at growing coverage, tuned model",
        ("rows answered", "of those, right", "threshold"),
        [
            (words.percent(x), words.percent(y), "–" if t is None else f"{t:.3f}")
            for x, y, t in kept
        ],
        frozenset({0, 1, 2}),
        is_compact=True,
    )
    caption = (
        "The surest rows first: how many of the answers are right when only so many rows are "
        "answered. The threshold (◆) was chosen on validation rows, for the target that is dotted; "
        "the holdout only judges it."
    )
    figure = Figure(svg, caption, "verdict.json › extra.abstain", table)
    return Abstaining(figure, _abstain_sentence(contents))


def _abstain_sentence(contents: Contents) -> str:
    found = mapping(mapping(contents.verdict.get("extra")).get("abstain"))
    target = words.percent(found.get("target_accuracy"))
    if number(found.get("threshold")) is None or number(found.get("accuracy")) is None:
        said = f"No threshold reached {target} on the validation rows, so none is recommended."
    else:
        ends = words.interval("accuracy", found.get("ci_low"), found.get("ci_high"))
        said = (
            f"Answering only rows with a confidence of at least {found['threshold']:.3f} answers "
            f"{words.percent(found.get('coverage'))} of the holdout and is right on "
            f"{words.percent(found.get('accuracy'))} of them (95 % CI {ends}); answering every row "
            f"is right on {words.percent(found.get('accuracy_of_all'))} of "
            f"{words.count(found.get('rows'))}."
        )
    scope = mapping(found.get("out_of_scope"))
    if number(scope.get("rows")):
        said += (
            f" Of {words.count(scope['rows'])} rows that belong to none of the labels, "
            f"{words.count(scope.get('abstained'))} are kept from a wrong answer."
        )
    return said
