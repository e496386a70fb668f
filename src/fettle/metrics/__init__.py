"""Graders: a table of metrics, each with per-row values or sufficient statistics.

In: predictions. Out: ``METRICS`` (default settings) and ``find_metric`` ("bleu:tokenize=none").
Must not know: which arm is which, tests, plans.
"""

import inspect
from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches

from fettle.errors import UsageError
from fettle.metrics.labels import accuracy, macro_f1, macro_recall, micro_f1, subset_accuracy
from fettle.metrics.loss import loss, perplexity
from fettle.metrics.match import exact_match
from fettle.metrics.metric import Metric
from fettle.metrics.ngrams import bleu, chrf
from fettle.metrics.numbers import mae, pearson, rmse, spearman
from fettle.metrics.rouge import rouge_l
from fettle.metrics.score import score

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
}
"""Name to builder; the builder's arguments are the metric's parameters."""

METRICS: dict[str, Metric] = {name: build() for name, build in FAMILIES.items()}
"""Every metric with its default settings."""

SWITCH = {"yes": True, "true": True, "no": False, "false": False}


def find_metric(name: str) -> Metric:
    """The metric of a name, with parameters after a colon.

    Args:
        name: "accuracy", "bleu:tokenize=none,lowercase=yes".

    Returns:
        The metric; its name is the one given.

    Raises:
        UsageError: E1001 for an unknown metric (with the nearest name), E1002 for a parameter that
            it does not have or a value that it does not take.
    """
    family, _, settings = name.partition(":")
    if family not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        nearest = get_close_matches(family.lower().replace("-", "_"), FAMILIES, n=1, cutoff=0.5)
        raise UsageError(
            "E1001",
            f"there is no metric {family!r}",
            why=f"known are {known}",
            hint=f"did you mean --metric {nearest[0]}?" if nearest else f"choose one of {known}",
        )
    if not settings:
        return METRICS[family]
    parameters = inspect.signature(FAMILIES[family]).parameters
    arguments: dict[str, str | int | bool] = {}
    for setting in settings.split(","):
        key, equals, text = (part.strip() for part in setting.partition("="))
        if not equals or key not in parameters:
            takes = ", ".join(parameters) or "no parameters"
            raise UsageError(
                "E1002",
                f"{family} has no parameter {key!r}",
                why=f"it takes {takes}",
                hint=f"write {family}" + (f":{next(iter(parameters))}=..." if parameters else ""),
            )
        arguments[key] = _parse(family, key, text, parameters[key].default)
    return replace(FAMILIES[family](**arguments), name=name)


def _parse(family: str, key: str, text: str, default: object) -> str | int | bool:
    if isinstance(default, bool):
        if text.lower() not in SWITCH:
            raise UsageError(
                "E1002",
                f"{family}:{key} is yes or no, not {text!r}",
                hint=f"write {family}:{key}=yes",
            )
        return SWITCH[text.lower()]
    if isinstance(default, int):
        if not text.isdecimal() or int(text) > 9:
            raise UsageError(
                "E1002",
                f"{family}:{key} is a whole number from 0 to 9, not {text!r}",
                hint=f"write {family}:{key}={default}",
            )
        return int(text)
    return text


__all__ = ["FAMILIES", "METRICS", "Metric", "find_metric"]
