"""The page of metrics names every metric, its parameters with their defaults, and its settings."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fettle.metrics import FAMILIES, METRICS, Metric
from fettle.metrics.constraints import CHECKS
from fettle.metrics.python_grader import FAMILY, python_grader

SHOWN = {True: "yes", False: "no"}


@pytest.fixture
def sections(repository: Path) -> dict[str, str]:
    page = (repository / "docs/reference/metrics.md").read_text(encoding="utf-8")
    found = re.findall(r"^### (\w+)\n(.*?)(?=^#{2,3} |\Z)", page, re.MULTILINE | re.DOTALL)
    assert len(found) == len(dict(found)), "a metric has two sections"
    return {name: " ".join(text.split()) for name, text in found}


def test_every_metric_has_a_section_and_none_is_made_up(sections: dict[str, str]) -> None:
    assert set(sections) == {*FAMILIES, FAMILY}


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_section_says_what_the_code_does(sections: dict[str, str], name: str) -> None:
    text, metric = sections[name], METRICS[name]
    assert f"Kind {metric.kind}" in text
    assert ("Descriptive" in text) is metric.descriptive
    assert ("lower is better" in text) is (not metric.higher_is_better)
    if metric.settings:
        assert f"`{metric.settings}`" in text
    _has_parameters(text, FAMILIES[name])


def test_parameters_of_the_users_grader(sections: dict[str, str]) -> None:
    for key in ("higher_is_better", "unit"):
        assert f"`{key}` (" in sections[FAMILY]
    assert {"higher_is_better", "unit"} < set(inspect.signature(python_grader).parameters)


def test_every_constraint_is_named(sections: dict[str, str]) -> None:
    assert not [kind for kind in CHECKS if f"`{kind}`" not in sections["constraints"]]


def _has_parameters(text: str, build: Callable[..., Metric]) -> None:
    for key, parameter in inspect.signature(build).parameters.items():
        default = parameter.default
        assert f"`{key}`" in text, f"the parameter {key}"
        if default == "" or f"`{key}` as above" in text:
            continue
        said = (
            SHOWN[default]
            if isinstance(default, bool)
            else f"{default:g}".strip()
            if isinstance(default, int | float)
            else default
        )
        assert re.search(rf"`{key}` \({said}[;,:) ]", text), f"{key} is {said} by default"
