"""Figures and verdicts as words: one way to write a number, a p-value, an interval.

In: values of verdict.json. Out: text. Wording follows the evidence: nothing is called shown that
was not tested, no size is left out, a large p-value is never called the absence of an effect.
Must not know: HTML, files.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fettle.errors import UsageError
from fettle.evaluate.wording import difference_text, p_text, value_text
from fettle.evaluate.wording import metric_title as metric_title  # used as words.metric_title
from fettle.metrics import METRICS, Metric, find_metric
from fettle.report.contents import number

CLASS_METRIC = "macro_f1"
"""One class's F1, precision and recall are written as this metric is."""

MEANINGS = {
    "accuracy": "share of the rows whose answer is right",
    "auroc": "how well probabilities put rows of a class before the others, 0.5 as"
    " by chance, 1 at best",
    "bleu": "agreement with the reference in words and word sequences, 0 to 100",
    "brand_voice": "how much a text sounds like the brand's, to a classifier that learned"
    " from others",
    "brier": "squared distance of the probabilities from the truth; lower is better",
    "calibration_error": "how far confidences are from the share that is right; lower is better",
    "chrf": "agreement with the reference in short character sequences, 0 to 100",
    "constraints": "share of what an answer must satisfy that it does",
    "contains": "share of the answers that hold the reference",
    "exact_match": "share of the answers that are the reference, letter for letter",
    "faithfulness": "share of an answer's numbers, names and terms that its source has",
    "json_schema": "share of the answers that are JSON of the given schema",
    "judge": "how often a judging model preferred the answer, ties as half",
    "kept": "share of the source's numbers, names and terms that an answer keeps",
    "log_loss": "how much the right label surprises the model, in nats; lower is better",
    "loss": "how much the reference surprises the model, in nats per target token; lower is better",
    "macro_f1": "mean over the classes of F1, which weighs missed and wrongly named rows",
    "macro_recall": "mean over the classes of the share of a class's rows that are found",
    "mae": "mean distance of the prediction from the true number; lower is better",
    "micro_f1": "F1 over all labels of all rows together: weighs labels that are"
    " missing and labels that are too many",
    "normalized_match": "share of the answers that are the reference, but for case, signs and"
    " articles",
    "novelty": "share of an answer's word sequences that its source has not",
    "numeric_answer": "share of the answers whose last number is the right one",
    "pearson": "how closely predictions and true numbers lie on a line, -1 to 1",
    "perplexity": "the loss as a number of equally likely choices per token; lower is better",
    "regex": "share of the answers that have the given pattern",
    "rmse": "as the mean absolute error, with large errors weighing more; lower is better",
    "rouge_l": "longest common word sequence with the reference, 0 to 1",
    "slot_coverage": "share of the values of the input that the answer says",
    "slot_error_rate": "values missing from the answer or said without being asked for; lower"
    " is better",
    "spearman": "how well predictions put the rows in the true order, -1 to 1",
    "subset_accuracy": "share of the rows whose set of labels is exactly right",
    "valid_json": "share of the answers that are JSON",
}
"""A metric for someone who never heard of it."""


@dataclass(frozen=True, slots=True)
class VerdictStyle:
    """How a verdict is shown: the word, a sign and a tone, so that colour never stands alone."""

    word: str
    sign: str
    tone: str
    meaning: str


VERDICTS = {
    "improved": VerdictStyle(
        "Improved",
        "▲",
        "good",
        "The tuned model did better than the base on rows that it had never seen.",
    ),
    "equivalent": VerdictStyle(
        "Equivalent",
        "=",
        "plain",
        "The two models are within the band that the plan calls equal.",
    ),
    "worse": VerdictStyle(
        "Worse", "▼", "bad", "The tuned model did worse than the base. Keep the base."
    ),
    "no_clear_difference": VerdictStyle(
        "No clear difference",
        "?",
        "warn",
        "These rows do not decide it. That is not evidence that the models are equal.",
    ),
    "too_few_rows": VerdictStyle(
        "Too few rows",
        "?",
        "warn",
        "With so few holdout rows, no result could have decided it.",
    ),
    "regressed_elsewhere": VerdictStyle(
        "Regressed elsewhere",
        "▼",
        "bad",
        "Better or not on this task, the tuned model lost on something that was to be kept.",
    ),
    "guard_unproven": VerdictStyle(
        "Guard not shown to hold",
        "?",
        "warn",
        "It could not be shown that the tuned model kept what was to be kept.",
    ),
    "invalid": VerdictStyle(
        "Invalid",
        "✕",
        "bad",
        "The comparison broke its own rules, so its figures decide nothing.",
    ),
}


def plain(text: object) -> str:
    """Text that every browser and file can hold: surrogate pairs joined, lone ones and controls
    replaced by visible signs.
    """
    joined = str(text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return re.sub(
        r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe\uffff]",
        lambda match: _control_picture(ord(match[0])),
        joined.replace("\r\n", "\n"),
    )


def _control_picture(code: int) -> str:
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else "\ufffd"


def verdict_style(verdict: Mapping[str, Any]) -> VerdictStyle:
    """The style of a verdict; an unknown word is shown as it is, in a neutral tone."""
    word = str(verdict.get("verdict"))
    return VERDICTS.get(word, VerdictStyle(word.replace("_", " ").capitalize(), "?", "warn", ""))


def known_metric(name: str) -> Metric:
    """The metric of a name; a plain number when this version does not have it."""
    try:
        return find_metric(name)
    except UsageError:
        return METRICS["score"]


def metric_meaning(metric: str) -> str:
    """What a metric is, in a few words; empty when it is not one of the known."""
    return MEANINGS.get(metric.partition(":")[0], "")


def metric_value(metric: str, value: Any) -> str:
    """A score with its unit: ``61.2 %``, ``2.310 nats``."""
    found = number(value)
    return "–" if found is None else value_text(known_metric(metric), found)


def metric_difference(metric: str, value: Any, *, sign: bool = True) -> str:
    """A difference with its sign and unit: ``+30.5 points``."""
    found = number(value)
    return "–" if found is None else difference_text(known_metric(metric), found, sign=sign)


def interval(metric: str, low: Any, high: Any) -> str:
    """``27.6 to 33.4``, in the unit of ``metric_difference``."""
    if number(low) is None or number(high) is None:
        return "no interval"
    ends = (metric_difference(metric, end, sign=False).split(" ")[0] for end in (low, high))
    return " to ".join(ends)


def plot_scale(metric: str) -> tuple[float, str]:
    """Factor and unit for a difference on an axis."""
    unit = known_metric(metric).unit
    if unit == "share":
        return 100.0, "points"
    return 1.0, "" if unit == "number" else unit


def p_value(value: Any) -> str:
    """``< 0.001``, ``0.012``, ``0.34``."""
    found = number(value)
    return "–" if found is None else p_text(found).removeprefix("p ").removeprefix("= ")


def percent(value: Any) -> str:
    """A fraction as per cent, without a decimal when it has none: ``95 %``."""
    found = number(value)
    return "–" if found is None else f"{round(found * 100, 1):g} %"


def count(value: Any) -> str:
    """A whole number with thousands separated."""
    found = number(value)
    return "–" if found is None else f"{round(found):,}"


def duration(seconds: float) -> str:
    """``45 s``, ``3 min 10 s``, ``2 h 5 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(num_bytes: Any) -> str:
    """Bytes as KiB, MiB or GiB."""
    found = number(num_bytes)
    if found is None:
        return "–"
    for unit in ("bytes", "KiB", "MiB"):
        if found < 1024:
            return f"{found:.0f} {unit}" if unit == "bytes" else f"{found:.1f} {unit}"
        found /= 1024
    return f"{found:.1f} GiB"


def headline(verdict: Mapping[str, Any]) -> str:
    """The verdict's own line with base, tuned, interval, p, test and n, without its first word.

    The word stands above it already, in large letters.
    """
    text = str(verdict.get("headline") or "")
    word = str(verdict.get("verdict")).upper().replace("_", " ")
    return text.removeprefix(word).strip()
