"""The parts of the report as plain tables and figures, ready for a template.

In: ``Contents``. Out: value types that a template prints as they are. Must not know: HTML, except
that a figure is SVG text from ``plots``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fettle.report import plots, words
from fettle.report.contents import SPLITS, Contents, mapping, number, objects
from fettle.report.tables import Figure, Table, cell, flat, shown_value
from fettle.report.words import plain


@dataclass(frozen=True, slots=True)
class DataAccount:
    """Where every input row went."""

    total: int
    figure: Figure | None
    tables: Sequence[Table] = field(default_factory=tuple)
    layout: Sequence[tuple[str, str]] = ()


def effect(contents: Contents) -> Figure | None:
    """The primary difference with its interval against zero."""
    primary = mapping(contents.verdict.get("primary"))
    found = [number(primary.get(key)) for key in ("difference", "ci_low", "ci_high")]
    difference, low, high = found
    if difference is None or low is None or high is None:
        return None
    metric = str(primary.get("metric"))
    scale, unit = words.plot_scale(metric)
    text = f"{words.metric_difference(metric, difference)} ({words.interval(metric, low, high)})"
    minimum = number(contents.value("evaluate.minimum_difference"))
    if minimum is None:
        minimum = number(contents.plan.get("minimum_difference")) or 0.0
    svg = plots.effect_plot(
        difference * scale,
        low * scale,
        high * scale,
        unit=unit,
        text=text,
        higher_is_better=bool(primary.get("higher_is_better", True)),
        minimum=minimum * scale,
    )
    caption = (
        f"The dot is the measured difference in {words.metric_title(metric)}, the bar its "
        f"{words.percent(primary.get('confidence'))} interval. The dashed line is zero: the two "
        "models equally good. The shaded side is where the tuned model is better."
    )
    if minimum > 0:
        caption += " The dotted line is the smallest difference that the plan calls meaningful."
    return Figure(svg, caption)


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
            )
        )
    table = Table(
        "Baselines on the same holdout rows",
        ("baseline", "metric", "value", "tuned − baseline", "p", "n", "outcome"),
        rows,
        numeric=frozenset({2, 3, 4, 5}),
    )
    return table, _baseline_figure(contents, found), not_beaten


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
    return Figure(svg, f"All models on the same rows; {better}.")


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
        figures.append(Figure(svg, caption))
    steps, rates = _series(contents.steps, "learning_rate")
    if rates:
        svg = plots.learning_rate_plot(steps, rates)
        figures.append(Figure(svg, "Learning rate at every step."))
    rows = [(name, words.duration(seconds)) for name, seconds in contents.stages.items()]
    _, speeds = _series(contents.steps, "tokens_per_second")
    if speeds:
        rows.append(("training speed (median)", f"{_median(speeds):,.0f} tokens/s"))
    if not rows:
        return figures, None
    numeric = frozenset({1})
    return figures, Table("Time", ("stage", "wall time"), rows, numeric, is_compact=True)


def _series(records: Sequence[Mapping[str, Any]], key: str) -> tuple[list[float], list[float]]:
    pairs = [(number(item.get("step")), number(item.get(key))) for item in records]
    kept = [(step, value) for step, value in pairs if step is not None and value is not None]
    return [step for step, _ in kept], [value for _, value in kept]


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


def data_account(contents: Contents) -> DataAccount:
    """Every input row: its split, the quarantine by reason, the findings, the sources."""
    counts = contents.splits.total
    known = {name: counts[name] for name in SPLITS if counts[name]}
    known.update({name: rows for name, rows in counts.items() if name not in SPLITS})
    total = sum(counts.values())
    figure = None
    if total:
        figure = Figure(
            plots.split_plot({plain(name): rows for name, rows in known.items()}),
            f"All {total:,} input rows; none is left out.",
        )
    tables = []
    if total:
        tables.append(_split_table(contents, total))
    if contents.sources:
        tables.append(source_table(contents.sources))
    if contents.splits.reasons:
        tables.append(
            Table(
                "Quarantine by reason",
                ("reason", "rows"),
                [
                    (cell(reason), f"{rows:,}")
                    for reason, rows in contents.splits.reasons.most_common()
                ],
                numeric=frozenset({1}),
                is_compact=True,
            )
        )
    if contents.findings:
        tables.append(
            Table(
                "Findings",
                ("kind", "severity", "count", "example", "remedy"),
                [
                    (
                        cell(item.kind.replace("_", " ")),
                        item.severity,
                        f"{item.count:,}",
                        cell(item.evidence, 200),
                        cell(item.remedy, 200),
                    )
                    for item in contents.findings
                ],
                numeric=frozenset({2}),
            )
        )
    return DataAccount(total, figure, tables, _layout(contents.manifest))


def _split_table(contents: Contents, total: int) -> Table:
    names = [name for name in SPLITS if contents.splits.total[name]]
    rows = [
        (cell(source), *(f"{counts[name]:,}" for name in names), f"{sum(counts.values()):,}")
        for source, counts in contents.splits.by_source.items()
    ]
    if len(rows) > 1:
        sums = [f"{contents.splits.total[name]:,}" for name in names]
        rows.append(("all sources", *sums, f"{total:,}"))
    columns = ("source", *names, "all")
    return Table("Input rows by source", columns, rows, frozenset(range(1, len(columns))))


def source_table(sources: Sequence[tuple[str, Mapping[str, Any]]]) -> Table:
    """Files that were read, with their hashes."""
    return Table(
        "Sources",
        ("file", "given as", "format", "encoding", "records", "malformed", "size", "SHA-256"),
        [
            (
                cell(item.get("path", "")),
                use,
                cell(item.get("format") or "–"),
                cell(item.get("encoding") or "–"),
                words.count(item.get("num_records")),
                words.count(item.get("num_malformed")),
                words.size(item.get("num_bytes")),
                cell(item.get("sha256") or "–"),
            )
            for use, item in sources
        ],
        numeric=frozenset({4, 5, 6}),
        code=frozenset({7}),
    )


def _layout(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How the columns were understood, and what could have been read otherwise."""
    layout = mapping(manifest.get("layout"))
    rows = [("layout", layout.get("name")), ("columns", layout.get("columns"))]
    rows.append(("because", layout.get("reason")))
    rows += [("could also be", item) for item in layout.get("ambiguities") or ()]
    rows += [
        ("not read", f"{item[0]}: {item[1]}")
        for item in manifest.get("skipped") or ()
        if isinstance(item, list) and len(item) == 2
    ]
    rows += _about_holdout(manifest)
    return [(key, shown_value(value)) for key, value in rows if value]


def _about_holdout(manifest: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What the verdict does not cover, and how alike the sides are."""
    left_out = mapping(manifest.get("holdout_left_out"))
    deviation = mapping(manifest.get("label_deviation"))
    shares = mapping(deviation.get("shares"))
    listed = ", ".join(
        f"{words.count(rows)} {plain(kind).replace('_', ' ')}" for kind, rows in left_out.items()
    )
    shown = ", ".join(f"{side} {words.percent(share)}" for side, share in shares.items())
    return [
        ("left out of the holdout", listed),
        ("holdout rows of groups in train", manifest.get("holdout_rows_with_train_group")),
        ("label that differs most", f"{deviation.get('label')}: {shown}" if shown else None),
    ]


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


def guards(contents: Contents) -> Table | None:
    """The guard sets: what was to be kept."""
    found = objects(contents.verdict.get("guards"))
    if not found:
        return None
    rows = []
    for item in found:
        metric = str(item.get("metric"))
        rows.append(
            (
                cell(item.get("name")),
                cell(words.metric_title(metric)),
                words.metric_value(metric, item.get("base")),
                words.metric_value(metric, item.get("tuned")),
                words.metric_difference(metric, item.get("difference")),
                words.metric_difference(metric, item.get("ci_low")),
                words.metric_difference(metric, item.get("margin"), sign=False),
                cell(item.get("outcome")),
            )
        )
    return Table(
        "Guards: what was to be kept",
        ("guard", "metric", "base", "tuned", "difference", "lower end", "margin", "outcome"),
        rows,
        numeric=frozenset({2, 3, 4, 5, 6}),
    )


def loss_distribution(contents: Contents) -> Figure | None:
    """Loss per holdout row, base against tuned."""
    base, tuned = (contents.answers.get(arm, {}) for arm in ("base", "tuned"))
    pairs = [(base[row_id].loss, tuned[row_id].loss) for row_id in base if row_id in tuned]
    both = [(a, b) for a, b in pairs if a is not None and b is not None]
    if len(both) < 2:
        return None
    better = sum(b < a for a, b in both)
    svg = plots.loss_distribution_plot([a for a, _ in both], [b for _, b in both])
    return Figure(
        svg,
        f"Loss per holdout row; lower is better. The tuned model has the lower loss on {better:,} "
        f"of {len(both):,} rows. The highest 1 % is counted in the last bar.",
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
    )


def environment(contents: Contents) -> Table | None:
    """The machine and the package versions, flattened."""
    rows = [(key, value) for key, value in flat(contents.environment) if key != "schema"]
    if not rows:
        return None
    return Table("Environment", ("what", "value"), rows, code=frozenset({1}))


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
        ("verdict made", verdict.get("created") or None),
    ]
    kept = [(name, cell(value)) for name, value in rows if value is not None]
    return Table("What was judged", ("what", "value"), kept, code=frozenset({1})) if kept else None


def _times(looks: Any) -> str:
    return "once" if looks == 1 else f"{words.count(looks)} times"
