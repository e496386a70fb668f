"""The verdict in whole sentences: first for whoever decides, then for whoever checks.

In: ``Contents``. Out: sentences. Wording follows the evidence: a difference never stands without
its interval, a large p-value is never called the absence of an effect, and what was not tested is
said. Must not know: HTML.
"""

import math
from collections.abc import Mapping
from typing import Any

from fettle.evaluate.wording import difference_text, interval_text, value_text
from fettle.metrics import find_metric
from fettle.records.outcomes import Comparison
from fettle.report.contents import Contents, mapping, number, objects
from fettle.report.words import (
    count,
    interval,
    metric_difference,
    metric_meaning,
    metric_title,
    p_value,
    percent,
)

NOUNS = {"chat": "conversation", "text": "text"}
"""What a row of a task is called; elsewhere a row."""
RIGHT_OR_WRONG = frozenset(
    {"accuracy", "subset_accuracy", "exact_match", "normalized_match", "numeric_answer"}
)
"""Metrics that are the share of right answers."""


def main_sentence(contents: Contents) -> str:
    """What was found, for someone who has never seen a p-value; empty without a comparison.

    Returns:
        ``On this holdout, 412 conversations in 96 groups (by customer), the tuned model is right
        6.1 points more often than the base (95 % CI 2.3 to 9.9).``
    """
    primary = mapping(contents.verdict.get("primary"))
    if not primary:
        return ""
    return (
        f"On this holdout, {_rows(contents, primary)}, {_comparison(primary)} "
        f"({_interval_words(primary)})."
    )


def measured(contents: Contents) -> str:
    """What the primary metric is; empty where it is not one of the known."""
    metric = str(mapping(contents.verdict.get("primary")).get("metric"))
    meaning = metric_meaning(metric)
    title = metric_title(metric)
    return f"{title[:1].upper()}{title[1:]}: {meaning}." if meaning else ""


def _rows(contents: Contents, primary: Mapping[str, Any]) -> str:
    noun = NOUNS.get(contents.task, "row")
    n, clusters = number(primary.get("n")), number(primary.get("clusters"))
    said = f"{count(n)} {noun}{'' if n == 1 else 's'}"
    if clusters is None:
        return said
    column = mapping(mapping(contents.manifest.get("layout")).get("columns")).get("group")
    return (
        f"{said} in {count(clusters)} independent group{'' if clusters == 1 else 's'}"
        f"{f' (by {column})' if isinstance(column, str) else ''}"
    )


def _comparison(primary: Mapping[str, Any]) -> str:
    metric = str(primary.get("metric"))
    difference = number(primary.get("difference")) or 0.0
    if difference == 0:
        return "the two models score the same"
    size = metric_difference(metric, abs(difference), sign=False)
    more, less, often = _directions(metric)
    word = more if difference > 0 else less
    if often:
        return f"the tuned model is right {size} {word} often than the base"
    return f"the tuned model's {metric_title(metric)} is {size} {word} than the base's"


def _directions(metric: str) -> tuple[str, str, bool]:
    """Words for up and down, and whether the metric says how often the model is right."""
    often = metric.partition(":")[0] in RIGHT_OR_WRONG
    return ("more", "less", True) if often else ("higher", "lower", False)


def _interval_words(primary: Mapping[str, Any]) -> str:
    """The interval in the direction of the sentence: "2.3 to 9.9", "from 0.9 less to 5.1 more"."""
    metric = str(primary.get("metric"))
    low, high = number(primary.get("ci_low")), number(primary.get("ci_high"))
    level = percent(primary.get("confidence"))
    if low is None or high is None:
        return "these rows give no interval"
    if low < 0 < high:
        more, less, _ = _directions(metric)
        ends = (
            metric_difference(metric, abs(end), sign=False).split(" ")[0] for end in (low, high)
        )
        return f"{level} CI from {next(ends)} {less} to {next(ends)} {more}"
    if (number(primary.get("difference")) or 0.0) < 0:
        low, high = -high, -low
    return f"{level} CI {interval(metric, low, high)}"


def explained(contents: Contents) -> list[str]:
    """What the interval and the p-value of the primary comparison mean, a sentence each."""
    primary = mapping(contents.verdict.get("primary"))
    if not primary:
        return []
    # 0.95 -> "95 of 100", 0.1 % -> "999 of 1000"
    level = number(primary.get("confidence")) or 0.95
    whole = 100 if math.isclose(level * 100, round(level * 100)) else 1000
    return [
        f"The interval (CI) shows how precise that is: if the whole comparison were repeated with "
        f"other rows of the same kind, about {round(level * whole)} of {whole} such intervals "
        "would contain the true difference.",
        f"The p-value shows how easily luck alone could do it: if the two models were equally "
        f"good, a difference at least this large would occur in {_trials(primary.get('p_value'))} "
        "such trials.",
    ]


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


def guard_sentence(verdict: Mapping[str, Any]) -> str:
    """Whether anything else got worse, as far as was tested."""
    found = objects(verdict.get("guards"))
    if not found:
        return (
            "Whether anything else got worse was not tested: there is no guard set. The tuned "
            "model may have lost skills that the base has."
        )
    parts = []
    for outcome, words in (
        ("lost", "got worse on"),
        ("unproven", "could not be shown to have kept"),
        ("held", "kept"),
    ):
        names = [_guard_words(item) for item in found if item.get("outcome") == outcome]
        if names:
            parts.append(f"{words} {'; '.join(names)}")
    return f"What was to be kept: the tuned model {', and it '.join(parts)}."


def _guard_words(guard: Mapping[str, Any]) -> str:
    metric = str(guard.get("metric"))
    low, high = guard.get("ci_low"), guard.get("ci_high")
    level = percent(guard.get("confidence") or 0.95)
    ends = interval(metric, low, high)
    ends = f"{level} CI {ends}" if ends != "no interval" else ends
    return (
        f"{guard.get('name')} ({metric_title(metric)} "
        f"{metric_difference(metric, guard.get('difference'))}, {ends}; accepted was a loss of "
        f"{metric_difference(metric, guard.get('margin'), sign=False)})"
    )


def power_sentences(verdict: Mapping[str, Any]) -> list[str]:
    """What the holdout could have found, as planned; empty when there was no plan."""
    power = mapping(verdict.get("power"))
    metric = str(mapping(verdict.get("primary")).get("metric"))
    if power.get("too_few"):
        return ["Stated before training: these rows are too few to show any difference."]
    smallest = number(power.get("minimum_detectable_difference"))
    standardized = number(power.get("standardized"))
    if smallest is not None:
        size = metric_difference(metric, smallest, sign=False)
    elif standardized is not None:
        size = f"{standardized:.2f} standard deviations of the rows' own differences"
    else:
        return []
    sentence = (
        f"Stated before training: with {count(power.get('n'))} rows, a true difference of "
        f"{size} is found with "
        f"{percent(power.get('power'))} power (in that share of such experiments) at alpha "
        f"{number(power.get('alpha')) or 0.05:.3g}, two-sided"
    )
    if number(power.get("discordance")) is not None:
        sentence += (
            f", if exactly one model is right on {percent(power.get('discordance'))} of the rows"
        )
    if number(power.get("clusters")) is not None:
        sentence += "; rows that are alike within their groups would show less"
    return [f"{sentence}.", *_beyond_power(metric, power)]


def _beyond_power(metric: str, power: Mapping[str, Any]) -> list[str]:
    """Rows for a smaller difference, the exaggeration of lucky results, the guards' joint power."""
    found = []
    smaller, lucky = mapping(power.get("smaller")), mapping(power.get("exaggeration"))
    if number(smaller.get("rows")) is not None:
        least = metric_difference(metric, smaller.get("difference"), sign=False)
        found.append(f"For a true difference of {least}, {count(smaller['rows'])} rows are needed.")
    factor = number(lucky.get("type_m"))
    if factor is not None:
        half = metric_difference(metric, lucky.get("difference"), sign=False)
        found.append(
            f"If the true difference is only {half}, a result with p at most alpha is rare "
            f"({percent(lucky.get('power'))} of such experiments) and shows on average "
            f"{factor:.1f} times the true size (type M error)."
        )
    guards = mapping(power.get("guards"))
    if number(guards.get("joint")) is not None:
        several = number(guards.get("guards")) != 1
        who = f"All {count(guards.get('guards'))} guards hold" if several else "The guard holds"
        found.append(f"{who} with {percent(guards['joint'])} power if nothing got worse.")
    return found


def look_sentence(verdict: Mapping[str, Any]) -> str:
    """How often this holdout was opened, and what of alpha that has spent."""
    holdout, primary = mapping(verdict.get("holdout")), mapping(verdict.get("primary"))
    looks, spent = number(holdout.get("looks")), number(holdout.get("alpha_spent"))
    if looks is None:
        return ""
    level = number(primary.get("confidence"))
    said = (
        "This is the first time that this holdout was opened"
        if looks <= 1
        else f"This is look {count(looks)} at this holdout"
    )
    if level is not None:
        said += f"; it is tested at alpha {1 - level:.3g}"
    if spent is not None:
        said += (
            f". Over all looks so far, the chance of a false “improved” is at most {percent(spent)}"
        )
    screened = number(verdict.get("candidates_screened"))
    if screened is not None:
        checkpoints = "1 checkpoint was" if screened == 1 else f"{count(screened)} checkpoints were"
        said += f". {checkpoints} looked at before, on validation rows only"
    return f"{said}."


def twins_sentence(verdict: Mapping[str, Any]) -> str:
    """The primary comparison on the rows that no training row tells about; empty without any."""
    found = mapping(mapping(verdict.get("extra")).get("without_train_twins"))
    if not found:
        return ""
    other = Comparison(**found)
    metric = find_metric(other.metric)
    return (
        f"On the {count(other.n)} others: {value_text(metric, other.base)} → "
        f"{value_text(metric, other.tuned)} ({difference_text(metric, other.difference)}, "
        f"{interval_text(metric, other)})."
    )


def twins_change(verdict: Mapping[str, Any], alpha: float) -> str:
    """Says so where the result depends on rows with a twin in train; else empty.

    Args:
        verdict: verdict.json.
        alpha: level at which the primary comparison is tested.
    """
    primary = mapping(verdict.get("primary"))
    other = mapping(mapping(verdict.get("extra")).get("without_train_twins"))
    first, second = number(primary.get("difference")), number(other.get("difference"))
    if first is None or second is None:
        return ""
    p_first, p_second = number(primary.get("p_value")), number(other.get("p_value"))
    changes = []
    if first * second < 0:
        changes.append("its sign")
    if p_first is not None and p_second is not None and (p_first <= alpha) != (p_second <= alpha):
        changes.append(f"on which side of alpha p lies ({p_value(p_first)} → {p_value(p_second)})")
    if not changes:
        return ""
    return (
        "Without the rows that have a twin among the training rows, the result changes "
        f"{' and '.join(changes)}. {twins_sentence(verdict)} A fresh holdout is needed before "
        "anything rests on this."
    )


def scope(verdict: Mapping[str, Any]) -> str:
    """What the claim is about: one model file, or the recipe."""
    seeds = verdict.get("seeds")
    if isinstance(seeds, list) and len(seeds) > 1:
        return f"this recipe: {len(seeds)} trainings with other seeds"
    return "this model file: one training"


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
        others = twins_sentence(verdict)
        lines.append(
            f"Near twins. {count(twins)} of {count(holdout.get('rows'))} holdout rows have a near "
            "twin among the training rows and may be easier than new rows."
            + (f" {others}" if others else "")
        )
    looks = number(holdout.get("looks"))
    if looks is not None and looks > 1:
        lines.append(
            f"A fresh holdout. This holdout has been opened {count(looks)} times; each look makes "
            "a lucky result more likely. Use new rows for the next decision."
        )
    speed = "" if contents.seconds else "speed, cost, "
    rest = f"{speed}memory, safety and bias were not measured."
    lines.append(rest[:1].upper() + rest[1:])
    return lines


def slice_sentence(worse: list[Mapping[str, Any]], metric: str, total: int) -> str:
    """The parts of the holdout that got worse, by name; empty where none did."""
    if not worse:
        return ""
    named = [
        f"{item.get('kind')} {item.get('value')} "
        f"({metric_difference(metric, item.get('difference'))}, "
        f"{interval(metric, item.get('ci_low'), item.get('ci_high'))}, {count(item.get('n'))} rows)"
        for item in worse[:5]
    ]
    more = f", and {len(worse) - 5} more" if len(worse) > 5 else ""
    return (
        f"Worse on {len(worse)} of {total:,} parts of the holdout: {'; '.join(named)}{more}. "
        "Exploratory: these parts were not chosen before training."
    )
