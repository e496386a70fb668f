"""Figures and verdicts as words: one way to write a number, a p-value, an interval, a sentence.

In: values of verdict.json. Out: text. Wording follows the evidence: nothing is called shown that
was not tested, no size is left out, a large p-value is never called the absence of an effect.
Must not know: HTML, files.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fettle.errors import UsageError
from fettle.evaluate.wording import difference_text, interval_text, p_text, value_text
from fettle.evaluate.wording import metric_title as metric_title  # used as words.metric_title
from fettle.metrics import METRICS, Metric, find_metric
from fettle.records.outcomes import Comparison
from fettle.report.contents import Contents, mapping, number

CLASS_METRIC = "macro_f1"
"""One class's F1, precision and recall are written as this metric is."""

MEANINGS = {
    "accuracy": "share of the rows whose answer is right",
    "bleu": "agreement with the reference in words and word sequences, 0 to 100",
    "chrf": "agreement with the reference in short character sequences, 0 to 100",
    "exact_match": "share of the answers that are the reference, letter for letter",
    "loss": "how much the reference surprises the model, in nats per target token; lower is better",
    "macro_f1": "mean over the classes of F1, which weighs missed and wrongly named rows",
    "macro_recall": "mean over the classes of the share of a class's rows that are found",
    "mae": "mean distance of the prediction from the true number; lower is better",
    "micro_f1": "F1 over all labels of all rows together: weighs labels that are missing and labels"
    " that are too many",
    "pearson": "how closely predictions and true numbers lie on a line, -1 to 1",
    "perplexity": "the loss as a number of equally likely choices per token; lower is better",
    "rmse": "as the mean absolute error, with large errors weighing more; lower is better",
    "rouge_l": "longest common word sequence with the reference, 0 to 1",
    "spearman": "how well predictions put the rows in the true order, -1 to 1",
    "subset_accuracy": "share of the rows whose set of labels is exactly right",
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


def in_plain_words(verdict: Mapping[str, Any]) -> list[str]:
    """What the primary comparison, its interval and its p-value mean, a sentence each."""
    primary = mapping(verdict.get("primary"))
    if not primary:
        return []
    metric = str(primary.get("metric"))
    difference = number(primary.get("difference")) or 0.0
    clusters = number(primary.get("clusters"))
    among = f"{count(primary.get('n'))} rows"
    if clusters is not None:
        among += f", {count(clusters)} independent groups"
    size_text = metric_difference(metric, abs(difference), sign=False)
    # 0.95 -> "95 of 100", 0.1 % -> "999 of 1000"
    level = number(primary.get("confidence")) or 0.95
    whole = 100 if math.isclose(level * 100, round(level * 100)) else 1000
    return [
        f"On this holdout ({among}), {_comparison(metric, difference, size_text)} "
        f"({_interval_words(primary)}).",
        f"The interval (CI) shows how precise that is: if the whole comparison were repeated with "
        f"other rows of the same kind, about {round(level * whole)} of {whole} such intervals "
        "would contain the true difference.",
        f"The p-value shows how easily luck alone could do it: if the two models were equally "
        f"good, a difference at least this large would occur in {_trials(primary.get('p_value'))} "
        "such trials.",
    ]


def _interval_words(primary: Mapping[str, Any]) -> str:
    low, high = primary.get("ci_low"), primary.get("ci_high")
    if low is None or high is None:
        return "these rows give no interval"
    shown = interval(str(primary.get("metric")), low, high)
    return f"{percent(primary.get('confidence'))} CI {shown}"


def _comparison(metric: str, difference: float, size_text: str) -> str:
    more = "more" if difference > 0 else "less"
    if difference == 0:
        return "the two models score the same"
    if metric.partition(":")[0] == "accuracy":
        return f"the tuned model is right {size_text} {more} often than the base"
    higher = "higher" if difference > 0 else "lower"
    return f"the tuned model's {metric_title(metric)} is {size_text} {higher} than the base's"


def _trials(value: Any) -> str:
    p = number(value)
    if p is None:
        return "an unknown share of"
    if p < 1e-6:
        return "less than 1 of 1,000,000"
    if p > 0.05:
        return f"about {max(1, round(p * 100))} of 100"
    # Rounded down to two digits, so that "at most" stays true.
    trials = 1 / p + 1e-9
    step = 10 ** max(0, math.floor(math.log10(trials)) - 1)
    return f"at most 1 of {math.floor(trials / step) * step:,}"


def power_sentence(verdict: Mapping[str, Any]) -> str:
    """What the holdout could have found, as planned; empty when there was no plan."""
    power = mapping(verdict.get("power"))
    smallest = number(power.get("minimum_detectable_difference"))
    standardized = number(power.get("standardized"))
    metric = str(mapping(verdict.get("primary")).get("metric"))
    if smallest is not None:
        size = metric_difference(metric, smallest, sign=False)
    elif standardized is not None:
        size = f"{standardized:.2f} standard deviations of the rows' own differences"
    else:
        return ""
    sentence = (
        f"Stated before training: with {count(power.get('n'))} rows, a true difference of "
        f"{size} is found with "
        f"{percent(power.get('power'))} power (in that share of such experiments) at alpha "
        f"{number(power.get('alpha')) or 0.05:g}, two-sided"
    )
    if number(power.get("discordance")) is not None:
        sentence += (
            f", if exactly one model is right on {percent(power.get('discordance'))} of the rows"
        )
    if number(power.get("clusters")) is not None:
        sentence += "; rows that are alike within their groups would show less"
    return f"{sentence}."


def _without_twins(verdict: Mapping[str, Any]) -> str:
    """The primary comparison on the other rows alone, as a sentence."""
    found = mapping(mapping(verdict.get("extra")).get("without_train_twins"))
    if not found:
        return ""
    other = Comparison(**found)
    metric = find_metric(other.metric)
    return (
        f" On the {count(other.n)} others: {value_text(metric, other.base)} → "
        f"{value_text(metric, other.tuned)} ({difference_text(metric, other.difference)}, "
        f"{interval_text(metric, other)})."
    )


def untested(contents: Contents) -> list[str]:
    """What this verdict does not cover, as honest sentences."""
    verdict = contents.verdict
    primary = mapping(verdict.get("primary"))
    holdout = mapping(verdict.get("holdout"))
    lines: list[str] = []
    if not verdict.get("guards"):
        lines.append(
            "Other abilities. No guard set was given, so nothing else was tested: the tuned model "
            "may have lost skills that the base has."
        )
    source = (
        "The holdout is the file that was given with --eval"
        if any(use == "eval" for use, _ in contents.sources)
        or mapping(contents.recipe.get("data")).get("eval")
        else "The holdout was cut from the same data as the training rows"
    )
    lines.append(
        f"Other data. {source}; how the model does on rows of another kind, source or time was "
        "not measured."
    )
    seeds = verdict.get("seeds")
    if not isinstance(seeds, list) or len(seeds) < 2:
        seed = f" (seed {seeds[0]})" if isinstance(seeds, list) and seeds else ""
        lines.append(
            f"Other runs. One training run{seed} was judged. The verdict is about this model file; "
            "another seed can come out differently."
        )
    if primary and primary.get("clusters") is None:
        lines.append(
            "Dependence between rows. No group column was named, so every row counts as "
            "independent. If rows of one customer or document are alike, the interval is too "
            "narrow (name the column with --group)."
        )
    twins = number(holdout.get("rows_with_train_twin"))
    if twins:
        lines.append(
            f"Near twins. {count(twins)} of {count(holdout.get('rows'))} holdout rows have a near "
            "twin among the training rows and may be easier than new rows."
            + _without_twins(verdict)
        )
    looks = number(holdout.get("looks"))
    if looks is not None and looks > 1:
        lines.append(
            f"A fresh holdout. This holdout has been opened {count(looks)} times; each look makes "
            "a lucky result more likely. Use new rows for the next decision."
        )
    lines.append("Speed, memory, cost, safety and bias were not measured.")
    return lines
