"""The parts of the report as plain tables and figures, ready for a template.

In: ``Contents``. Out: value types that a template prints as they are. Must not know: HTML, except
that a figure is SVG text from ``plots``.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fettle.report import plots, words
from fettle.report.contents import SPLITS, Contents, mapping, number, objects
from fettle.report.words import plain

FEW_CLASSES = 12
"""Up to this many, the confusion is a table with names; above, a heat map with numbers."""
NUM_CONFUSIONS = 15
MAX_CELL = 600
"""Characters of one table cell; evidence and paths can be of any length."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table; the first column names the row."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: frozenset[int] = frozenset()
    """Indices of the columns that are right-aligned."""
    code: frozenset[int] = frozenset()
    """Indices of the columns in a fixed-width font."""
    is_compact: bool = False
    """Only as wide as its text: for two short columns."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One plot with a caption."""

    svg: str
    caption: str


@dataclass(frozen=True, slots=True)
class Matrix:
    """A small confusion matrix with names."""

    labels: Sequence[str]
    rows: Sequence[Sequence[tuple[str, float]]]
    """(count, share of the true class) a cell."""


@dataclass(frozen=True, slots=True)
class Classes:
    """Per-class quality."""

    table: Table
    weakest: Table | None
    confusions: Table | None
    matrix: Matrix | None
    figure: Figure | None
    discordant: str


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
        figures.append(Figure(svg, "Learning rate: warm-up, then decay."))
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
    sources = objects(contents.manifest.get("sources"))
    if sources:
        tables.append(_source_table(sources))
    if contents.splits.reasons:
        tables.append(
            Table(
                "Quarantine by reason",
                ("reason", "rows"),
                [
                    (_cell(reason), f"{rows:,}")
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
                        _cell(item.kind.replace("_", " ")),
                        item.severity,
                        f"{item.count:,}",
                        _cell(item.evidence, 200),
                        _cell(item.remedy, 200),
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
        (_cell(source), *(f"{counts[name]:,}" for name in names), f"{sum(counts.values()):,}")
        for source, counts in contents.splits.by_source.items()
    ]
    if len(rows) > 1:
        sums = [f"{contents.splits.total[name]:,}" for name in names]
        rows.append(("all sources", *sums, f"{total:,}"))
    columns = ("source", *names, "all")
    return Table("Input rows by source", columns, rows, frozenset(range(1, len(columns))))


def _source_table(sources: Sequence[Mapping[str, Any]]) -> Table:
    return Table(
        "Sources",
        ("file", "format", "encoding", "records", "size", "SHA-256"),
        [
            (
                _cell(item.get("path", "")),
                _cell(item.get("format") or "–"),
                _cell(item.get("encoding") or "–"),
                words.count(item.get("num_records")),
                words.size(item.get("bytes")),
                _cell(item.get("sha256") or "–"),
            )
            for item in sources
        ],
        numeric=frozenset({3, 4}),
        code=frozenset({5}),
    )


def _layout(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How the columns were understood, in whichever depth the manifest says it."""
    layout = mapping(manifest.get("layout")) or manifest
    name = manifest.get("layout") if isinstance(manifest.get("layout"), str) else layout.get("name")
    rows = [("layout", name or layout.get("layout")), ("columns", layout.get("columns"))]
    rows.append(("because", layout.get("reason")))
    return [(key, shown_value(value)) for key, value in rows if isinstance(value, str | Mapping)]


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
                _cell(words.metric_title(metric) + (", primary" if is_primary else "")),
                words.metric_value(metric, item.get("base")),
                words.metric_value(metric, item.get("tuned")),
                words.metric_difference(metric, item.get("difference")),
                words.interval(metric, item.get("ci_low"), item.get("ci_high")),
                words.p_value(item.get("p_value")),
                "not needed" if is_primary else words.p_value(item.get("p_adjusted")),
                words.count(item.get("n")),
                better,
                _cell(item.get("test") or "–"),
            )
        )
    for metric, values in mapping(extra.get("display")).items():
        rows.append(
            (
                _cell(words.metric_title(metric)),
                words.metric_value(metric, mapping(values).get("base")),
                words.metric_value(metric, mapping(values).get("tuned")),
                *("–",) * 5,
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
    return [_cell(f"{words.metric_title(name)}: {reason}") for name, reason in found.items()]


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
                _cell(item.get("name")),
                _cell(words.metric_title(metric)),
                words.metric_value(metric, item.get("base")),
                words.metric_value(metric, item.get("tuned")),
                words.metric_difference(metric, item.get("difference")),
                words.metric_difference(metric, item.get("ci_low")),
                words.metric_difference(metric, item.get("margin"), sign=False),
                _cell(item.get("outcome")),
            )
        )
    return Table(
        "Guards: what was to be kept",
        ("guard", "metric", "base", "tuned", "difference", "lower end", "margin", "outcome"),
        rows,
        numeric=frozenset({2, 3, 4, 5, 6}),
    )


def classes(contents: Contents) -> Classes | None:
    """Per-class table and confusion, from the verdict's extra tables."""
    extra = mapping(contents.verdict.get("extra"))
    found = objects(extra.get("per_class"))
    confusion = mapping(extra.get("confusion"))
    labels = [plain(label) for label in confusion.get("labels") or ()]
    matrix = _square(confusion.get("tuned"), len(labels))
    if not found and not matrix:
        return None
    numbers = {label: place for place, label in enumerate(labels, start=1)}
    columns = ("class", "#", "rows", "base F1", "tuned F1", "change", "precision", "recall")
    rows, scores = [], []
    for place, item in enumerate(found, start=1):
        base, tuned = mapping(item.get("base")), mapping(item.get("tuned"))
        label = plain(item.get("label"))
        base_f1, tuned_f1 = number(base.get("f1")), number(tuned.get("f1"))
        both = base_f1 is not None and tuned_f1 is not None
        change = (tuned_f1 or 0.0) - (base_f1 or 0.0) if both else None
        rows.append(
            (
                _cell(label, 80),
                str(numbers.get(label, place)),
                words.count(item.get("support")),
                words.metric_value(words.CLASS_METRIC, base_f1),
                words.metric_value(words.CLASS_METRIC, tuned_f1),
                words.metric_difference(words.CLASS_METRIC, change),
                words.metric_value(words.CLASS_METRIC, tuned.get("precision")),
                words.metric_value(words.CLASS_METRIC, tuned.get("recall")),
            )
        )
        scores.append(tuned_f1 if tuned_f1 is not None else 2.0)
    numeric = frozenset(range(1, len(columns)))
    weakest = None
    if len(rows) > FEW_CLASSES:
        order = sorted(range(len(rows)), key=scores.__getitem__)[:10]
        weakest = Table(
            "The ten weakest classes of the tuned model", columns, [rows[i] for i in order], numeric
        )
    few = 0 < len(matrix) <= FEW_CLASSES
    return Classes(
        table=Table("All classes (precision and recall: tuned model)", columns, rows, numeric),
        weakest=weakest,
        confusions=_confusions(labels, matrix),
        matrix=_named_matrix(labels, matrix) if few else None,
        figure=Figure(
            plots.confusion_plot(matrix),
            "Confusion of the tuned model. Down: the true class; across: the predicted class; the "
            "darker, the larger the share of the true class. Right answers lie on the diagonal.",
        )
        if matrix and not few
        else None,
        discordant=_discordant(mapping(extra.get("discordant"))),
    )


def _square(matrix: Any, num_classes: int) -> list[list[float]]:
    """The matrix when it has one row and column a label, else nothing."""
    if not isinstance(matrix, list) or len(matrix) != num_classes:
        return []
    rows = [
        [number(value) or 0.0 for value in row] if isinstance(row, list) else [] for row in matrix
    ]
    return rows if all(len(row) == num_classes for row in rows) else []


def _named_matrix(labels: Sequence[str], matrix: Sequence[Sequence[float]]) -> Matrix:
    return Matrix(
        [_cell(label, 40) for label in labels],
        [[(f"{value:,.0f}", value / (sum(row) or 1)) for value in row] for row in matrix],
    )


def _confusions(labels: Sequence[str], matrix: Sequence[Sequence[float]]) -> Table | None:
    mistakes = [
        (value, true, predicted)
        for true, row in enumerate(matrix)
        for predicted, value in enumerate(row)
        if value > 0 and true != predicted
    ]
    if not mistakes:
        return None
    mistakes.sort(key=lambda item: (-item[0], item[1], item[2]))
    rows = [
        (
            _cell(labels[true], 80),
            _cell(labels[predicted], 80),
            f"{value:,.0f}",
            f"{sum(matrix[true]):,.0f}",
        )
        for value, true, predicted in mistakes[:NUM_CONFUSIONS]
    ]
    return Table(
        "Most frequent confusions of the tuned model",
        ("true class", "predicted as", "times", "of rows"),
        rows,
        numeric=frozenset({2, 3}),
    )


def _discordant(counts: Mapping[str, Any]) -> str:
    """McNemar's b and c: only these rows decide the test."""
    base_only, tuned_only = number(counts.get("base_only")), number(counts.get("tuned_only"))
    if base_only is None or tuned_only is None:
        return ""
    return (
        f"Exactly one of the two models is right on {base_only + tuned_only:,.0f} rows: the base "
        f"alone on {base_only:,.0f}, the tuned model alone on {tuned_only:,.0f}. Only these rows "
        "decide between them."
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
                _cell(item.key),
                shown_value(item.value),
                _cell(item.source or "–"),
                _cell(item.reason),
            )
            for item in contents.resolved.values()
        ],
        code=frozenset({0, 1}),
    )


def environment(contents: Contents) -> Table | None:
    """The machine and the package versions, flattened."""
    rows = [(key, value) for key, value in _flat(contents.environment) if key != "schema"]
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
        ("holdout opened", f"{holdout['looks']} times" if holdout.get("looks") else None),
        ("plan SHA-256", mapping(verdict.get("plan")).get("sha256")),
        ("seeds", ", ".join(map(str, verdict.get("seeds") or ())) or None),
        ("candidates screened", verdict.get("candidates_screened")),
        ("verdict made", verdict.get("created") or None),
    ]
    kept = [(name, _cell(value)) for name, value in rows if value is not None]
    return Table("What was judged", ("what", "value"), kept, code=frozenset({1})) if kept else None


def _flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, item in value.items():
        name = f"{prefix}{plain(key)}"
        if isinstance(item, Mapping):
            rows += _flat(item, f"{name}.")
        else:
            rows.append((name, shown_value(item)))
    return rows


def shown_value(value: Any) -> str:
    """A value as a person would write it in YAML."""
    if isinstance(value, Mapping):
        return _cell(", ".join(f"{key}: {shown_value(item)}" for key, item in value.items()))
    if isinstance(value, list | tuple):
        return _cell(", ".join(shown_value(item) for item in value) or "none")
    if value is None:
        return "none"
    return _cell(value if isinstance(value, str) else json.dumps(value, default=str))


def _cell(value: object, longest: int = MAX_CELL) -> str:
    text = plain(value)
    return text if len(text) <= longest else f"{text[:longest]}…"
