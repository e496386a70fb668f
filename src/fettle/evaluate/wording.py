"""The verdict's headline and figures as text, and the names of metrics for people.

In: a comparison. Out: one line. Must not know: how it was computed, HTML.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from fettle.metrics import find_metric
from fettle.metrics.metric import Metric
from fettle.records.outcomes import BaselineResult, Comparison, VerdictWord

MINUS = "−"

TITLES = {
    "auroc": "AUROC",
    "bleu": "BLEU",
    "brier": "Brier score",
    "chrf": "chrF",
    "json_schema": "JSON schema",
    "judge": "judge's preference",
    "kept": "facts kept",
    "macro_f1": "macro F1",
    "mae": "mean absolute error",
    "micro_f1": "micro F1",
    "pearson": "Pearson correlation",
    "regex": "pattern found",
    "rmse": "root mean squared error",
    "rouge_l": "ROUGE-L",
    "spearman": "Spearman correlation",
    "valid_json": "valid JSON",
}
"""Where the key with spaces for underscores is not the name."""


def metric_title(metric: str) -> str:
    """A metric's name for a person: "macro_f1" is "macro F1", parameters in brackets."""
    name, _, parameters = metric.partition(":")
    title = TITLES.get(name, name.replace("_", " "))
    return f"{title} ({parameters})" if parameters else title


def headline(word: VerdictWord, found: Comparison, notes: Sequence[str] = ()) -> str:
    """One line: the word, both values, difference, interval, p, test, rows.

    Args:
        word: the verdict.
        found: the primary comparison.
        notes: what else belongs there, such as a baseline that was not beaten.

    Returns:
        ``IMPROVED  accuracy 61.2 % → 91.7 % (+30.5 points, 95 % CI 27.6 to 33.4, p < 0.001,
        exact McNemar, n = 976)``.
    """
    metric = find_metric(found.metric)
    figures = [
        difference_text(metric, found.difference),
        interval_text(metric, found),
        p_text(found.p_value),
        found.test,
        f"n = {found.n:,}",
    ]
    if found.clusters is not None:
        figures.append(f"{found.clusters:,} groups")
    line = (
        f"{word.upper().replace('_', ' ')}  {metric_title(found.metric)} "
        f"{value_text(metric, found.base)} → {value_text(metric, found.tuned)}"
        f" ({', '.join(figures)})"
    )
    return "; ".join([line, *notes])


def value_text(metric: Metric, value: float) -> str:
    """A value in its unit: ``61.2 %``, ``2.310 nats``."""
    if metric.unit == "share":
        return f"{_number(100.0 * value, 1)} %"
    return _number(value, _decimals(metric)) + (" nats" if metric.unit == "nats" else "")


def difference_text(metric: Metric, value: float, *, sign: bool = True) -> str:
    """A difference in its unit: ``+30.5 points``."""
    scale, unit = (100.0, " points") if metric.unit == "share" else (1.0, "")
    unit = {"points": " points", "nats": " nats"}.get(metric.unit, unit)
    text = _number(scale * value, _decimals(metric))
    return ("+" if sign and not text.startswith(MINUS) else "") + text + unit


class Bounded(Protocol):
    """Anything with a confidence interval."""

    @property
    def ci_low(self) -> float | None: ...
    @property
    def ci_high(self) -> float | None: ...
    @property
    def confidence(self) -> float: ...


def interval_text(metric: Metric, found: Bounded) -> str:
    """``95 % CI 27.6 to 33.4``, in the unit of the difference."""
    if found.ci_low is None or found.ci_high is None:
        return "no interval"
    scale = 100.0 if metric.unit == "share" else 1.0
    low, high = (_number(scale * end, _decimals(metric)) for end in (found.ci_low, found.ci_high))
    return f"{100.0 * found.confidence:g} % CI {low} to {high}"


def p_text(value: float) -> str:
    """``p < 0.001``, ``p = 0.012``, ``p = 0.34``."""
    if value < 0.001:
        return "p < 0.001"
    return f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"


def power_sentence(plan: Mapping[str, Any]) -> str:
    """What the holdout can show, and what its guards can, said before any training.

    Args:
        plan: the sealed plan.

    Returns:
        ``80 holdout rows can show a difference of 9.8 points or more at 80 % power, if exactly one
        arm is right on 10 % of the rows; 331 would show 5.0 points; …``, then lines about guards
        and earlier looks where there are any.
    """
    power = plan["power"]
    clusters = power.get("clusters")
    rows = f"{power['n']:,} holdout rows" + (f" in {clusters:,} groups" if clusters else "")
    lines = [rows + _shown_by(find_metric(plan["metric"]), power)]
    if power.get("guards") is not None:
        lines.append(_guards_sentence(power["guards"]))
    look = int(plan.get("looks") or 1)
    if look > 1:
        before = "once" if look == 2 else f"{look - 1} times"
        lines.append(
            f"this holdout was opened {before} before: look {look} is tested at alpha"
            f" {power['alpha']:.3g}"
        )
    return "\n".join(lines)


def _shown_by(metric: Metric, power: Mapping[str, Any]) -> str:
    """What so many rows can show; goes on from their number."""
    found, chance = power.get("minimum_detectable_difference"), f"{100 * power['power']:g} % power"
    if power.get("too_few"):
        return " are too few to show any difference"
    if found is None and "standardized" in power:
        return (
            f" can show a mean difference of about {power['standardized']:.2f} standard deviations"
            f" of the rows' differences at {chance} (that spread is known only after training)"
        )
    if found is None:
        return ""
    said = f" can show a difference of {difference_text(metric, found, sign=False)} or more"
    said += f" at {chance}"
    if "discordance" in power:
        said += f", if exactly one arm is right on {100 * power['discordance']:g} % of the rows"
    smaller = power.get("smaller") or {}
    if smaller.get("rows"):
        least = difference_text(metric, smaller["difference"], sign=False)
        said += f"; {smaller['rows']:,} would show {least}"
    lucky = power.get("exaggeration")
    if lucky is not None:
        half = difference_text(metric, lucky["difference"], sign=False)
        said += f"; where the truth is {half}, a result with p at most alpha would on average show"
        said += f" {lucky['type_m']:.1f} times as much"
    return said


def _guards_sentence(guards: Mapping[str, Any]) -> str:
    several = "the guard holds" if guards["guards"] == 1 else f"all {guards['guards']} guards hold"
    said = (
        f"{several} with {100 * guards['joint']:.0f} % power where nothing got worse, if exactly"
        f" one arm is right on {100 * guards['discordance']:g} % of the rows"
    )
    if guards["joint"] < 0.8 and guards["rows_needed"]:
        said += f"; {guards['rows_needed']:,} rows in each would make it 90 %"
    return said


def baseline_note(found: BaselineResult, alpha: float, n: int) -> str | None:
    """What the headline must say of a baseline; None when the tuned model clearly beats it.

    Args:
        found: the baseline against the tuned model.
        alpha: two-sided level.
        n: rows of the primary comparison; a baseline on fewer says so.
    """
    metric = find_metric(found.metric)
    gain = found.difference_to_tuned if metric.higher_is_better else -found.difference_to_tuned
    shown = f"{found.name} ({metric_title(found.metric)} {value_text(metric, found.value)}"
    if found.n < n:
        shown += f" on {found.n:,} rows"
    if gain <= 0.0:
        return f"not better than {shown})"
    if found.p_value is not None and found.p_value > alpha:
        return f"not clearly better than {shown}, {p_text(found.p_value)})"
    return None


def holdout_notes(holdout: Mapping[str, Any]) -> list[str]:
    """What the headline must say of the holdout itself.

    Args:
        holdout: verdict.json's ``holdout`` object; ``rows_with_train_group`` and ``left_out``
            ({reason: rows}) are looked at.

    Returns:
        Clauses, such as ``3 rows of the holdout were left out (2 overlong, 1 empty)``.
    """
    notes = []
    shared = int(holdout.get("rows_with_train_group") or 0)
    if shared:
        verb = "shares its group" if shared == 1 else "share their group"
        notes.append(f"{_rows(shared)} of the holdout {verb} with training rows")
    left_out = dict(holdout.get("left_out") or {})
    if left_out:
        reasons = ", ".join(
            f"{count:,} {reason.replace('_', ' ')}" for reason, count in sorted(left_out.items())
        )
        total = sum(left_out.values())
        notes.append(
            f"{_rows(total)} of the holdout {'was' if total == 1 else 'were'} left out ({reasons})"
        )
    return notes


def twins_note(extra: Mapping[str, Any], n: int) -> list[str]:
    """What the headline must say of rows that a training row tells about.

    Args:
        extra: from ``extras.without_twins``.
        n: rows of the primary comparison.

    Returns:
        One clause, or none where there are no such rows.
    """
    if "without_train_twins" not in extra:
        return []
    found = extra["without_train_twins"]
    if found is None:
        why = extra["without_train_twins_fault"]
        return [f"rows of the holdout have near twins in train; without them: {why}"]
    metric = find_metric(found["metric"])
    shown = difference_text(metric, found["difference"])
    twins = n - found["n"]
    verb = "has a near twin" if twins == 1 else "have near twins"
    return [
        f"{_rows(twins)} of the holdout {verb} in train; without"
        f" {'it' if twins == 1 else 'them'} the difference is {shown}"
        f" ({p_text(found['p_value'])}, n = {found['n']:,})"
    ]


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _decimals(metric: Metric) -> int:
    return 1 if metric.unit in {"share", "points"} else 3


def _number(value: float, decimals: int) -> str:
    # Adding 0.0 turns a rounded -0.0 into 0.0.
    return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", MINUS)
