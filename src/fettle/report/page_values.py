"""The values of the report: what page, Markdown and JSON all show.

In: ``Contents``. Out: one dict of texts, tables and figures. Must not know: HTML, Markdown, JSON.
"""

from collections.abc import Mapping
from typing import Any

from fettle.report import confidences, design_sections, evidence, sections, sentences, words
from fettle.report.changed_rows import changed_rows
from fettle.report.class_tables import classes
from fettle.report.contents import Contents, mapping, objects
from fettle.report.data_sections import data_account
from fettle.report.words import plain
from fettle.version import __version__

CONSEQUENCES = {
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
"""What the page lacks without a file."""


def page_values(contents: Contents) -> dict[str, Any]:
    """Everything that is shown.

    Args:
        contents: of the run.

    Returns:
        Name to text, list, ``Table``, ``Figure`` or a dataclass of such; None for a part that the
        run does not have.
    """
    rows = changed_rows(contents)
    return {
        "version": __version__,
        "name": plain(contents.root.resolve().name),
        "task": plain(contents.task),
        "created": plain(contents.verdict.get("created") or ""),
        **_verdict(contents),
        **_evidence(contents),
        **_about_run(contents),
        "rows": rows,
        # rows.jsonl is read last, so what is missing is known only here.
        "missing": [(name, CONSEQUENCES.get(name, "it is not shown")) for name in contents.missing],
        "damaged": [plain(name) for name in contents.damaged],
    }


def _verdict(contents: Contents) -> dict[str, Any]:
    verdict = contents.verdict
    primary = mapping(verdict.get("primary"))
    return {
        "style": words.verdict_style(verdict),
        "sentence": plain(sentences.main_sentence(contents)),
        "measured": plain(sentences.measured(contents)),
        "headline": plain(words.headline(verdict)),
        "reason": _sentence(plain(verdict.get("reason") or "")),
        "kept": plain(sentences.guard_sentence(verdict)) if primary else "",
        "is_kept": all(item.get("outcome") == "held" for item in objects(verdict.get("guards"))),
        "scores": _scores(primary),
        "effect": evidence.effect(contents),
        "in_plain_words": [plain(line) for line in sentences.explained(contents)],
        "untested": [plain(line).split(". ", 1) for line in sentences.untested(contents)],
    }


def _evidence(contents: Contents) -> dict[str, Any]:
    guard_table, guard_figure = design_sections.guards(contents)
    baseline_table, baseline_figure, not_beaten = sections.baselines(contents)
    return {
        "paired": evidence.paired_rows(contents),
        "twins": evidence.twins(contents),
        "slices": evidence.slices(contents),
        "guard_table": guard_table,
        "guard_figure": guard_figure,
        "guard_reasons": design_sections.guard_reasons(contents),
        "design": design_sections.design(contents),
        "power": [plain(line) for line in sentences.power_sentences(contents.verdict)],
        "looks": plain(sentences.look_sentence(contents.verdict)),
        "baseline_table": baseline_table,
        "baseline_figure": baseline_figure,
        "not_beaten": not_beaten,
        "speeds": sections.speeds(contents),
        "metrics": sections.metrics(contents),
        "skipped": sections.skipped(contents),
        "meanings": sections.meanings(contents),
        "classes": classes(contents),
        "calibration": confidences.calibration(contents),
        "abstaining": confidences.abstaining(contents),
        "loss_distribution": sections.loss_distribution(contents),
    }


def _about_run(contents: Contents) -> dict[str, Any]:
    curves, times = sections.curves(contents)
    return {
        "curves": curves,
        "times": times,
        "notes": [plain(note) for note in contents.notes],
        "data": data_account(contents),
        "recipe": sections.recipe(contents),
        "recipe_text": plain(contents.recipe_text),
        "identity": sections.identity(contents),
        "files": sections.files(contents),
        "environment": sections.environment(contents),
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
