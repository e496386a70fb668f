"""The design behind the verdict: what was to be kept, and what was planned beside what came out.

In: ``Contents``. Out: tables and a figure, each with the file that its numbers come from. Must not
know: HTML.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fettle.report import sentences, words
from fettle.report.contents import Contents, mapping, number, objects
from fettle.report.evidence import alpha_of
from fettle.report.forest_plot import ForestRow, forest_plot
from fettle.report.tables import Figure, Table, cell
from fettle.report.words import plain


def guards(contents: Contents) -> tuple[Table | None, Figure | None]:
    """What was to be kept: a table, and a forest plot in units of the accepted loss."""
    found = objects(contents.verdict.get("guards"))
    if not found:
        return None, None
    rows, lines = [], []
    for item in found:
        metric = str(item.get("metric"))
        margin = number(item.get("margin"))
        rows.append(
            (
                cell(item.get("name")),
                cell(words.metric_title(metric)),
                words.metric_value(metric, item.get("base")),
                words.metric_value(metric, item.get("tuned")),
                words.metric_difference(metric, item.get("difference")),
                words.interval(metric, item.get("ci_low"), item.get("ci_high")),
                words.metric_difference(metric, margin, sign=False),
                words.p_value(item.get("p_value")),
                words.count(item.get("n")),
                cell(item.get("outcome")),
            )
        )
        if margin and number(item.get("difference")) is not None:
            lines.append(_guard_row(item, margin))
    source = "verdict.json › guards"
    table = Table(
        "Guards: what was to be kept",
        (
            "guard", "metric", "base", "tuned", "difference", "interval", "accepted loss",
            "p", "rows", "outcome",
        ),
        rows,
        numeric=frozenset(range(2, 9)),
        source=source,
    )  # fmt: skip
    return table, _guard_figure(lines, source) if lines else None


def guard_reasons(contents: Contents) -> list[tuple[str, str]]:
    """Each guard with the sentence that says why it came out so."""
    found = objects(contents.verdict.get("guards"))
    return [
        (plain(item.get("name")), plain(item.get("reason"))) for item in found if item.get("reason")
    ]


def _guard_row(item: Mapping[str, Any], margin: float) -> ForestRow:
    """Right is better whatever the metric; 1 is the loss that is accepted."""
    known = words.known_metric(str(item.get("metric"))).higher_is_better
    up = item.get("higher_is_better")
    sign = 1.0 if (up if isinstance(up, bool) else known) else -1.0
    ends = [number(item.get(key)) for key in ("ci_low", "ci_high")]
    turned = [None if end is None else sign * end / margin for end in ends]
    low, high = turned if sign > 0 else (turned[1], turned[0])
    tone = {"held": "better", "lost": "worse"}.get(str(item.get("outcome")), "open")
    difference = sign * (number(item.get("difference")) or 0.0) / margin
    return ForestRow(plain(item.get("name")), difference, low, high, tone)


def _guard_figure(lines: Sequence[ForestRow], source: str) -> Figure:
    svg = forest_plot(
        lines,
        label="difference / accepted loss",
        sides=("worse", "better"),
        margin=-1.0,
        spoken="Guards against the loss that is accepted: "
        + ", ".join(f"{line.name} at {line.difference:.2f} times of it" for line in lines),
    )
    return Figure(
        svg,
        "Each guard in units of its own accepted loss, with its interval; right is better. A guard "
        "is held (▲) where the whole interval lies right of the dotted line: a loss as large as "
        "that is ruled out. It is lost (▼) where a loss is shown; else unproven (●).",
        source,
    )


def design(contents: Contents) -> Table | None:
    """What was planned beside what came out."""
    verdict, plan = contents.verdict, contents.plan
    power, primary = mapping(verdict.get("power")), mapping(verdict.get("primary"))
    if not power and not plan:
        return None
    metric = str(primary.get("metric") or plan.get("metric"))
    extra, holdout = mapping(verdict.get("extra")), mapping(verdict.get("holdout"))

    def size(value: Any) -> str:
        return words.metric_difference(metric, value, sign=False)

    discordant = mapping(extra.get("discordant"))
    one_right = [number(discordant.get(key)) for key in ("base_only", "tuned_only")]
    n = number(primary.get("n"))
    seen = None
    if n and one_right[0] is not None and one_right[1] is not None:
        seen = (one_right[0] + one_right[1]) / n
    minimum = plan.get("minimum_difference")
    looks = number(holdout.get("looks"))
    as_planned, as_tested = plan.get("alpha") or power.get("alpha"), alpha_of(contents)
    rows = [
        ("primary metric", words.metric_title(metric), words.metric_title(metric)),
        ("holdout rows", words.count(power.get("n")), words.count(n)),
        (
            "independent groups",
            words.count(power.get("clusters")),
            words.count(primary.get("clusters")),
        ),
        ("look at this holdout", words.count(plan.get("looks")), words.count(looks)),
        ("alpha, two-sided", _level(as_planned), _level(as_tested) if primary else "–"),
        ("power", words.percent(power.get("power")), "–"),
        (
            "rows where one model is right",
            words.percent(power.get("discordance")),
            words.percent(seen),
        ),
        ("smallest difference to be found", size(power.get("minimum_detectable_difference")), "–"),
        ("smallest difference that matters", "any" if minimum == 0 else size(minimum), "–"),
        ("difference", "–", _with_interval(metric, primary)),
        ("rows to decide this difference", "–", words.count(extra.get("rows_to_decide"))),
        ("alpha spent over all looks, one-sided", "–", _level(holdout.get("alpha_spent"))),
        ("resamples", words.count(plan.get("resamples")), "–"),
        ("candidates screened on validation", "–", words.count(verdict.get("candidates_screened"))),
        ("what the claim is about", "–", sentences.scope(verdict)),
    ]
    kept = [row for row in rows if set(row[1:]) != {"–"}]
    source = "plan.json; verdict.json › power, primary, holdout; .fettle/looks.jsonl"
    columns = ("what", "planned", "came out")
    return Table("Planned before training, and what came out", columns, kept, source=source)


def _level(value: Any) -> str:
    found = number(value)
    return "–" if found is None else f"{found:.3g}"


def _with_interval(metric: str, item: Mapping[str, Any]) -> str:
    if number(item.get("difference")) is None:
        return "–"
    shown = words.metric_difference(metric, item.get("difference"))
    return f"{shown} ({words.interval(metric, item.get('ci_low'), item.get('ci_high'))})"
