"""The parts of the report about metrics, baselines, training and what was judged.

In: ``Contents``. Out: value types that a template prints as they are. Must not know: HTML, except
that a figure is SVG text.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from fettle.report import plots, row_plots, sentences, words
from fettle.report.contents import Contents, mapping, number, objects
from fettle.report.tables import Figure, Table, cell, flat, shown_value
from fettle.report.words import plain

TIME = "time for 1,000 rows"
FILES = (
    "verdict.json",
    "plan.json",
    "recipe.yaml",
    "recipe.resolved.yaml",
    "environment.json",
    "data/manifest.json",
    "data/splits.jsonl",
    "data/findings.jsonl",
    "data/rows.jsonl",
    "evaluation/manifest.json",
    "evaluation/predictions.base.jsonl",
    "evaluation/predictions.tuned.jsonl",
    "evaluation/grades.jsonl",
    "evaluation/seconds.json",
)
"""events.jsonl is not among them: it grows after the page is written."""


def baselines(contents: Contents) -> tuple[Table | None, Figure | None, list[str]]:
    """Cheap alternatives on the same rows: a table, a plot, and the names of those not beaten."""
    verdict = contents.verdict
    primary = mapping(verdict.get("primary"))
    found = objects(verdict.get("baselines"))
    if not found or not primary:
        return None, None, []
    alpha = number(contents.plan.get("alpha")) or number(mapping(verdict.get("power")).get("alpha"))
    rows, not_beaten = [], []
    for item in found:
        name, metric = plain(item.get("name")), str(item.get("metric") or primary.get("metric"))
        gain, p = number(item.get("difference_to_tuned")), number(item.get("p_value"))
        sign = 1.0 if words.known_metric(metric).higher_is_better else -1.0
        is_beaten = gain is not None and sign * gain > 0 and (p is None or p <= (alpha or 0.05))
        if gain is not None and not is_beaten:
            not_beaten.append(name)
        rows.append(
            (
                name,
                words.metric_title(metric),
                words.metric_value(metric, item.get("value")),
                words.metric_difference(metric, gain),
                words.p_value(p),
                words.count(item.get("n") or primary.get("n")),
                "–" if gain is None else "beaten" if is_beaten else "not beaten",
                _time_of(contents, name),
            )
        )
    table = Table(
        "Baselines on the same holdout rows",
        ("baseline", "metric", "value", "tuned − baseline", "p", "n", "outcome", TIME),
        rows,
        numeric=frozenset({2, 3, 4, 5, 7}),
        source="verdict.json › baselines; evaluation/seconds.json",
    )
    return table, _baseline_figure(contents, found), not_beaten


def speeds(contents: Contents) -> Table | None:
    """How long base and tuned model took, beside each other."""
    rows = [(arm, _time_of(contents, arm)) for arm in ("base", "tuned") if arm in contents.seconds]
    if not rows:
        return None
    return Table(
        "Time of both arms",
        ("model", TIME),
        rows,
        frozenset({1}),
        is_compact=True,
        source="evaluation/seconds.json",
    )


def _time_of(contents: Contents, name: str) -> str:
    seconds = contents.seconds.get(name)
    return "–" if seconds is None else words.duration(1000.0 * seconds)


def _baseline_figure(contents: Contents, found: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Baselines, base and tuned on one axis: those measured in the first baseline's metric."""
    primary = mapping(contents.verdict.get("primary"))
    metrics_shown = [str(item.get("metric") or primary.get("metric")) for item in found]
    metric = metrics_shown[0]
    arms = [primary, *objects(contents.verdict.get("secondary"))]
    arm = next((item for item in arms if item.get("metric") == metric), {})
    scores = {name: number(arm.get(name)) for name in ("base", "tuned")}
    for item, shown in zip(found, metrics_shown, strict=True):
        if shown == metric:
            scores[plain(item.get("name"))] = number(item.get("value"))
    scale, _ = words.plot_scale(metric)
    drawn = {name: value * scale for name, value in scores.items() if value is not None}
    if len(drawn) < 2:
        return None
    known = words.known_metric(metric)
    unit = {"share": " (%)", "nats": " (nats per target token)"}.get(known.unit, "")
    svg = plots.baseline_plot(drawn, label=f"{words.metric_title(metric)}{unit}")
    better = "higher is better" if known.higher_is_better else "lower is better"
    caption = f"All models on the same rows; {better}. Differences with p are in the table."
    return Figure(svg, caption, "verdict.json › primary, secondary, baselines")


def curves(contents: Contents) -> tuple[list[Figure], Table | None]:
    """Loss and learning rate over the steps, and how long each stage took."""
    figures = []
    steps, losses = _series(contents.steps, "loss")
    looks = list(zip(*_series(contents.validations, "loss"), strict=True))
    best = [number(item.get("step")) for item in contents.validations if item.get("best") is True]
    best_step = best[-1] if best else None
    if losses or looks:
        svg = plots.loss_plot(steps, losses, looks, best_step)
        caption = "Loss: lower is better. "
        caption += (
            f"The ring marks the checkpoint that was kept (step {best_step:,.0f}), chosen on the "
            "validation rows alone."
            if best_step is not None
            else "No look at the validation rows is marked as the best."
        )
        figures.append(Figure(svg, caption, "events.jsonl › step, validation", _looks(contents)))
    figures += _chosen_by(contents, best_step)
    steps, rates = _series(contents.steps, "learning_rate")
    if rates:
        svg = plots.learning_rate_plot(steps, rates)
        figures.append(Figure(svg, "Learning rate at every step.", "events.jsonl › step"))
    rows = [(name, words.duration(seconds)) for name, seconds in contents.stages.items()]
    _, speeds = _series(contents.steps, "tokens_per_second")
    if speeds:
        rows.append(("training speed (median)", f"{_median(speeds):,.0f} tokens/s"))
    if not rows:
        return figures, None
    columns, source = ("stage", "wall time"), "events.jsonl › stage"
    return figures, Table("Time", columns, rows, frozenset({1}), is_compact=True, source=source)


def _looks(contents: Contents) -> Table | None:
    """Every look at the validation rows."""
    rows = [
        (
            words.count(item.get("step")),
            words.metric_value("loss", item.get("loss")),
            words.metric_value(str(item.get("metric")), item.get("value")),
            "best so far" if item.get("best") is True else "",
        )
        for item in contents.validations
    ]
    if not rows:
        return None
    title = words.metric_title(str(contents.validations[0].get("metric")))
    columns = ("step", "validation loss", f"validation {title}", "")
    return Table("Looks at the validation rows", columns, rows, frozenset({0, 1, 2}))


def _chosen_by(contents: Contents, best_step: float | None) -> list[Figure]:
    """The metric that chose the checkpoint, where that is not the loss."""
    metric = str(contents.validations[0].get("metric")) if contents.validations else "loss"
    steps, values = _series(contents.validations, "value")
    if metric == "loss" or not values:
        return []
    scale, unit = words.plot_scale(metric)
    label = words.metric_title(metric) + (" (%)" if unit == "points" and scale == 100 else "")
    looks = [(step, scale * value) for step, value in zip(steps, values, strict=True)]
    svg = plots.choice_plot(looks, best_step, label=f"validation {label}")
    caption = f"{label[:1].upper()}{label[1:]} on the validation rows, which chose the checkpoint."
    return [Figure(svg, caption, "events.jsonl › validation")]


def _series(records: Sequence[Mapping[str, Any]], key: str) -> tuple[list[float], list[float]]:
    pairs = [(number(item.get("step")), number(item.get(key))) for item in records]
    kept = [(step, value) for step, value in pairs if step is not None and value is not None]
    return [step for step, _ in kept], [value for _, value in kept]


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


def metrics(contents: Contents) -> Table | None:
    """Primary and secondary metrics with intervals."""
    primary = mapping(contents.verdict.get("primary"))
    extra = mapping(contents.verdict.get("extra"))
    found = ([primary] if primary else []) + objects(contents.verdict.get("secondary"))
    if not found:
        return None
    rows = []
    for place, item in enumerate(found):
        metric = str(item.get("metric"))
        is_primary = bool(primary) and place == 0
        better = "higher" if item.get("higher_is_better", True) else "lower"
        rows.append(
            (
                cell(words.metric_title(metric) + (", primary" if is_primary else "")),
                words.metric_value(metric, item.get("base")),
                words.metric_value(metric, item.get("tuned")),
                words.metric_difference(metric, item.get("difference")),
                words.interval(metric, item.get("ci_low"), item.get("ci_high")),
                words.p_value(item.get("p_value")),
                "not needed" if is_primary else words.p_value(item.get("p_adjusted")),
                words.count(item.get("n")),
                better,
                cell(item.get("test") or "–"),
            )
        )
    for metric, values in mapping(extra.get("display")).items():
        rows.append(
            (
                cell(words.metric_title(metric)),
                words.metric_value(metric, mapping(values).get("base")),
                words.metric_value(metric, mapping(values).get("tuned")),
                *("",) * 5,
                "higher" if words.known_metric(metric).higher_is_better else "lower",
                "not tested: the primary metric on another scale",
            )
        )
    confidence = words.percent(found[0].get("confidence"))
    return Table(
        "Metrics on the holdout",
        (
            "metric",
            "base",
            "tuned",
            "difference",
            f"{confidence} interval",
            "p",
            "p adjusted",
            "n",
            "better is",
            "test",
        ),
        rows,
        numeric=frozenset(range(1, 8)),
        source="verdict.json › primary, secondary, extra.display",
    )


def skipped(contents: Contents) -> list[str]:
    """Planned metrics that could not be measured, each with its reason."""
    found = mapping(mapping(contents.verdict.get("extra")).get("skipped"))
    return [cell(f"{words.metric_title(name)}: {reason}") for name, reason in found.items()]


def meanings(contents: Contents) -> list[tuple[str, str]]:
    """The metrics of the verdict, explained."""
    verdict = contents.verdict
    found = [mapping(verdict.get("primary")), *objects(verdict.get("secondary"))]
    names = dict.fromkeys(str(item.get("metric")) for item in found if item)
    names |= dict.fromkeys(mapping(mapping(verdict.get("extra")).get("display")))
    explained = [(words.metric_title(name), words.metric_meaning(name)) for name in names]
    return [(plain(name), meaning) for name, meaning in explained if meaning]


def loss_distribution(contents: Contents) -> Figure | None:
    """Loss per holdout row, base against tuned."""
    base, tuned = (contents.answers.get(arm, {}) for arm in ("base", "tuned"))
    pairs = [(base[row_id].loss, tuned[row_id].loss) for row_id in base if row_id in tuned]
    both = [(a, b) for a, b in pairs if a is not None and b is not None]
    if len(both) < 2:
        return None
    better = sum(b < a for a, b in both)
    svg = row_plots.loss_distribution_plot([a for a, _ in both], [b for _, b in both])
    return Figure(
        svg,
        f"Loss per holdout row; lower is better. The tuned model has the lower loss on {better:,} "
        f"of {len(both):,} rows. The highest 1 % is counted in the last bar.",
        "evaluation/predictions.*.jsonl › loss_sum, num_targets",
    )


def recipe(contents: Contents) -> Table | None:
    """Every resolved value with its source and reason."""
    if not contents.resolved:
        return None
    return Table(
        "Resolved recipe",
        ("key", "value", "from", "reason"),
        [
            (
                cell(item.key),
                shown_value(item.value),
                cell(item.source or "–"),
                cell(item.reason),
            )
            for item in contents.resolved.values()
        ],
        code=frozenset({0, 1}),
        source="recipe.resolved.yaml › values",
    )


def environment(contents: Contents) -> Table | None:
    """The machine and the package versions, flattened."""
    rows = [(key, value) for key, value in flat(contents.environment) if key != "schema"]
    if not rows:
        return None
    columns = ("what", "value")
    return Table("Environment", columns, rows, code=frozenset({1}), source="environment.json")


def identity(contents: Contents) -> Table | None:
    """Base, weights, holdout, plan: what the verdict is about, by hash."""
    verdict = contents.verdict
    base, holdout = mapping(verdict.get("base")), mapping(verdict.get("holdout"))
    facts = mapping(contents.facts.get("base"))
    rows = [
        ("base", base.get("id") or facts.get("id")),
        ("base revision", base.get("revision") or facts.get("revision")),
        ("base licence", facts.get("licence")),
        (
            "base parameters",
            words.count(facts["num_parameters"]) if number(facts.get("num_parameters")) else None,
        ),
        ("base weights SHA-256", base.get("sha256") or facts.get("sha256")),
        ("tuned weights SHA-256", mapping(verdict.get("weights")).get("sha256")),
        ("holdout rows", words.count(holdout["rows"]) if number(holdout.get("rows")) else None),
        ("holdout SHA-256", holdout.get("sha256")),
        ("holdout opened", _times(holdout["looks"]) if number(holdout.get("looks")) else None),
        ("plan SHA-256", mapping(verdict.get("plan")).get("sha256")),
        ("seeds", ", ".join(map(str, verdict.get("seeds") or ())) or None),
        ("candidates screened", verdict.get("candidates_screened")),
        ("what the claim is about", sentences.scope(verdict)),
        ("verdict made", verdict.get("created") or None),
    ]
    kept = [(name, cell(value)) for name, value in rows if value is not None]
    if not kept:
        return None
    source = "verdict.json; recipe.resolved.yaml › facts.base"
    return Table("What was judged", ("what", "value"), kept, code=frozenset({1}), source=source)


def files(contents: Contents) -> Table:
    """The files that this page was made from and that no later stage writes to, with hashes."""
    rows = []
    for name in FILES:
        path = contents.root / name
        if path.is_file():
            with path.open("rb") as handle:
                rows.append((name, hashlib.file_digest(handle, "sha256").hexdigest()))
    return Table("Files behind this page", ("file", "SHA-256"), rows, code=frozenset({0, 1}))


def _times(looks: Any) -> str:
    return "once" if looks == 1 else f"{words.count(looks)} times"
