"""Graders: a table of metrics, each with per-row values or sufficient statistics.

In: predictions. Out: ``METRICS`` (default settings) and ``find_metric`` ("bleu:tokenize=none").
Must not know: which arm is which, tests, plans.
"""

import inspect
from collections.abc import Callable, Collection
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from fettle.errors import UsageError
from fettle.metrics.auroc import auroc
from fettle.metrics.constraints import constraints
from fettle.metrics.faithfulness import faithfulness, kept, novelty
from fettle.metrics.grades import brand_voice, judge
from fettle.metrics.labels import accuracy, macro_f1, macro_recall, micro_f1, subset_accuracy
from fettle.metrics.loss import loss, perplexity
from fettle.metrics.match import (
    contains,
    exact_match,
    matches,
    normalized_match,
    numeric_answer,
)
from fettle.metrics.metric import Metric
from fettle.metrics.ngrams import bleu, chrf
from fettle.metrics.numbers import mae, pearson, rmse, spearman
from fettle.metrics.probability import brier, calibration_error, log_loss
from fettle.metrics.python_grader import FAMILY as PYTHON
from fettle.metrics.python_grader import python_grader
from fettle.metrics.rouge import rouge_l
from fettle.metrics.score import score
from fettle.metrics.slots import slot_coverage, slot_error_rate
from fettle.metrics.structure import json_schema, valid_json

FAMILIES: dict[str, Callable[..., Metric]] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "macro_recall": macro_recall,
    "micro_f1": micro_f1,
    "subset_accuracy": subset_accuracy,
    "mae": mae,
    "rmse": rmse,
    "pearson": pearson,
    "spearman": spearman,
    "loss": loss,
    "perplexity": perplexity,
    "chrf": chrf,
    "rouge_l": rouge_l,
    "exact_match": exact_match,
    "bleu": bleu,
    "score": score,
    "auroc": auroc,
    "log_loss": log_loss,
    "brier": brier,
    "calibration_error": calibration_error,
    "normalized_match": normalized_match,
    "numeric_answer": numeric_answer,
    "contains": contains,
    "regex": matches,
    "valid_json": valid_json,
    "json_schema": json_schema,
    "constraints": constraints,
    "slot_coverage": slot_coverage,
    "slot_error_rate": slot_error_rate,
    "faithfulness": faithfulness,
    "kept": kept,
    "novelty": novelty,
    "judge": judge,
    "brand_voice": brand_voice,
}
"""Name to builder; the builder's arguments are the metric's parameters."""

METRICS: dict[str, Metric] = {name: build() for name, build in FAMILIES.items()}
"""Every metric with its default settings."""

SWITCH = {"yes": True, "true": True, "no": False, "false": False}
MOST = 99
"""Largest whole number that a parameter takes."""
TAKES_THE_REST = {"pattern"}
"""Parameters whose value is all that follows: patterns have commas of their own."""


def find_metric(name: str) -> Metric:
    """The metric of a name, with parameters after a colon.

    Args:
        name: "accuracy", "bleu:tokenize=none,lowercase=yes", "regex:pattern=^a,b$" (a pattern is
            the last parameter), "python:grader.py:polite" or
            "python:grader.py:polite,higher_is_better=no" for a function of the user's.

    Returns:
        The metric; its name is the one given.

    Raises:
        UsageError: E1001 for an unknown metric (with the nearest name), E1002 for a parameter that
            it does not have or a value that it does not take.
    """
    family, _, settings = name.partition(":")
    if family == PYTHON:
        target, *more = settings.split(",")
        arguments = _arguments(family, ",".join(more), python_grader, hidden=("target", "name"))
        return python_grader(target.strip(), name=name, **arguments)
    if family not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        nearest = get_close_matches(family.lower().replace("-", "_"), FAMILIES, n=1, cutoff=0.5)
        raise UsageError(
            "E1001",
            f"there is no metric {family!r}",
            why=f"known are {known}, and {PYTHON}:FILE.py:FUNCTION",
            hint=f"did you mean --metric {nearest[0]}?" if nearest else f"choose one of {known}",
        )
    if not settings:
        return METRICS[family]
    found = FAMILIES[family](**_arguments(family, settings, FAMILIES[family]))
    return replace(found, name=name)


def _arguments(
    family: str, settings: str, build: Callable[..., Metric], hidden: Collection[str] = ()
) -> dict[str, Any]:
    parameters = {
        key: parameter.default
        for key, parameter in inspect.signature(build).parameters.items()
        if key not in hidden
    }
    arguments: dict[str, Any] = {}
    while settings.strip():
        setting, _, rest = settings.partition(",")
        key, equals, text = (part.strip() for part in setting.partition("="))
        if key in TAKES_THE_REST and equals:
            text, rest = settings.partition("=")[2], ""
        if not equals or key not in parameters:
            takes = ", ".join(parameters) or "no parameters"
            raise UsageError(
                "E1002",
                f"{family} has no parameter {key!r}",
                why=f"it takes {takes}",
                hint=f"write {family}" + (f":{next(iter(parameters))}=..." if parameters else ""),
            )
        arguments[key] = _parse(family, key, text, parameters[key])
        settings = rest
    return arguments


def _parse(family: str, key: str, text: str, default: object) -> str | float | bool:
    if isinstance(default, bool):
        if text.lower() not in SWITCH:
            raise UsageError(
                "E1002",
                f"{family}:{key} is yes or no, not {text!r}",
                hint=f"write {family}:{key}=yes",
            )
        return SWITCH[text.lower()]
    if isinstance(default, int):
        if not text.isdecimal() or int(text) > MOST:
            raise UsageError(
                "E1002",
                f"{family}:{key} is a whole number from 0 to {MOST}, not {text!r}",
                hint=f"write {family}:{key}={default}",
            )
        return int(text)
    if isinstance(default, float):
        try:
            return float(text)
        except ValueError:
            raise UsageError(
                "E1002",
                f"{family}:{key} is a number, not {text!r}",
                hint=f"write {family}:{key}={default:g}",
            ) from None
    return text


__all__ = ["FAMILIES", "METRICS", "Metric", "find_metric"]
