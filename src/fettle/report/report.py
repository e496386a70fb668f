"""report.html: everything about one run on one page that needs no network.

In: a run directory (its files alone). Out: report.html in it. The page has no script and loads
nothing: one style, inline SVG, a content security policy that allows no more than that.
Must not know: models, how any figure was computed.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from fettle.records.run_directory import RunDirectory, write_atomic
from fettle.report import sections, words
from fettle.report.changed_rows import changed_rows
from fettle.report.class_tables import classes
from fettle.report.contents import Contents, mapping, read_contents
from fettle.report.words import plain
from fettle.version import __version__

TEMPLATES = Path(__file__).parent / "templates"
OPTIONAL_CONSEQUENCES = {
    "recipe.yaml": "the recipe is shown without the user's own file",
    "recipe.resolved.yaml": "the final values and their reasons are not shown",
    "plan.json": "what was planned before training can't be shown",
    "environment.json": "machine and versions are not shown",
    "events.jsonl": "there are no training curves and times",
    "data/manifest.json": "sources and their hashes are not shown",
    "data/splits.jsonl": "the account of the input rows is not shown",
    "data/findings.jsonl": "findings about the data are not shown",
    "data/rows.jsonl": "the inputs of the holdout rows are not shown",
    "evaluation/predictions.base.jsonl": "rows can't be shown side by side",
    "evaluation/predictions.tuned.jsonl": "rows can't be shown side by side",
    "evaluation/grades.jsonl": "rows are ranked by their losses or answers instead of by grades",
}


def write_report(directory: Path) -> Path:
    """Write report.html of a run from the files in its directory.

    Args:
        directory: the run directory; verdict.json must be there, every other file may be missing
            (the report then says what is not shown because of that).

    Returns:
        The path of the report.

    Raises:
        UsageError: E0120, the run has no verdict.json yet.
        IntegrityError: E0901, verdict.json can't be read back.
        MachineError: E0401, the report can't be written.

    Example:
        >>> write_report(Path("runs/tickets"))  # doctest: +SKIP
        PosixPath('runs/tickets/report.html')
    """
    contents = read_contents(directory)
    path = RunDirectory(directory).report
    write_atomic(path, render(contents))
    return path


def render(contents: Contents) -> str:
    """The page as text."""
    page = page_environment().get_template("report.html.jinja").render(_values(contents))
    return page.encode("utf-8", "replace").decode("utf-8")


def page_environment() -> Environment:
    """What pages are made with: every value is escaped."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Only our own figures are let through unescaped; everything else is text.
    environment.filters["svg"] = lambda figure: Markup(figure.svg)
    environment.filters["breakable"] = _breakable
    return environment


def _breakable(text: str) -> Markup:
    """Long names break after an underscore or a slash; <wbr> is not copied with the text."""
    return Markup(re.sub(r"([_/])", r"\1<wbr>", str(escape(text))))


def _values(contents: Contents) -> dict[str, Any]:
    verdict = contents.verdict
    primary = mapping(verdict.get("primary"))
    baseline_table, baseline_figure, not_beaten = sections.baselines(contents)
    curve_figures, times = sections.curves(contents)
    rows = changed_rows(contents)
    return {
        "version": __version__,
        "name": plain(contents.root.resolve().name),
        "task": plain(contents.task),
        "created": plain(verdict.get("created") or ""),
        "style": words.verdict_style(verdict),
        "headline": plain(words.headline(verdict)),
        "reason": _sentence(plain(verdict.get("reason") or "")),
        "scores": _scores(primary),
        "effect": sections.effect(contents),
        "in_plain_words": [plain(line) for line in words.in_plain_words(verdict)],
        "power": plain(words.power_sentence(verdict)),
        "untested": [plain(line).split(". ", 1) for line in words.untested(contents)],
        "guards": sections.guards(contents),
        "baseline_table": baseline_table,
        "baseline_figure": baseline_figure,
        "not_beaten": not_beaten,
        "curves": curve_figures,
        "times": times,
        "notes": [plain(note) for note in contents.notes],
        "data": sections.data_account(contents),
        "metrics": sections.metrics(contents),
        "skipped": sections.skipped(contents),
        "meanings": sections.meanings(contents),
        "classes": classes(contents),
        "loss_distribution": sections.loss_distribution(contents),
        "rows": rows,
        "recipe": sections.recipe(contents),
        "recipe_text": plain(contents.recipe_text),
        "identity": sections.identity(contents),
        "environment": sections.environment(contents),
        # rows.jsonl is read last, so what is missing is known only here.
        "missing": [
            (name, OPTIONAL_CONSEQUENCES.get(name, "it is not shown")) for name in contents.missing
        ],
        "damaged": [plain(name) for name in contents.damaged],
    }


def _sentence(text: str) -> str:
    """With a capital, unless it begins with a symbol such as p."""
    return text[:1].upper() + text[1:] if text[1:2].isalpha() else text


def _scores(primary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The figures beside the verdict, as name and value."""
    if not primary:
        return []
    metric = str(primary.get("metric"))
    scores = [
        ("interval", words.interval(metric, primary.get("ci_low"), primary.get("ci_high"))),
        ("p-value", words.p_value(primary.get("p_value"))),
        ("test", plain(primary.get("test") or "–")),
        ("holdout rows", words.count(primary.get("n"))),
    ]
    if primary.get("clusters") is not None:
        scores.append(("independent groups", words.count(primary.get("clusters"))))
    return [
        ("metric", words.metric_title(metric)),
        ("base", words.metric_value(metric, primary.get("base"))),
        ("tuned", words.metric_value(metric, primary.get("tuned"))),
        ("difference", words.metric_difference(metric, primary.get("difference"))),
        *scores,
    ]
