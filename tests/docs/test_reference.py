"""The reference pages say what the code does: recipe keys, verbs, options."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from fettle.cli.main import app
from fettle.recipe.keys import recipe_reference

UPDATE = (
    "python -c 'from fettle.recipe.keys import recipe_reference as r; print(r(), end=str())'"
    " > docs/reference/recipe.md"
)


def test_recipe_reference_is_current(repository: Path) -> None:
    page = (repository / "docs/reference/recipe.md").read_text(encoding="utf-8")
    assert page == recipe_reference(), f"write it anew: {UPDATE}"


def _verbs(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command of the app with its full name; hidden ones too, since they can be called."""
    children = getattr(command, "commands", None)
    if children is None:
        yield name, command
        return
    for child_name, child in children.items():
        yield from _verbs(child, f"{name} {child_name}".strip())


VERBS = dict(_verbs(typer.main.get_command(app)))


def _section(page: str, verb: str) -> str:
    """The text below ``## fettle VERB …`` or ``### fettle VERB …`` up to the next such heading."""
    pattern = rf"^(#+) `?fettle {re.escape(verb)}\b[^\n]*\n(.*?)(?=^#{{1,3}} |\Z)"
    found = re.findall(pattern, page, re.MULTILINE | re.DOTALL)
    assert len(found) == 1, f"docs/reference/cli.md needs one heading `fettle {verb}`"
    return str(found[0][1])


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_and_each_of_its_options_is_documented(repository: Path, verb: str) -> None:
    page = (repository / "docs/reference/cli.md").read_text(encoding="utf-8")
    section = _section(page, verb)
    common = page.partition("## Common options")[2].partition("\n## ")[0]
    for parameter in VERBS[verb].params:
        if parameter.name == "help" or parameter.param_type_name == "argument":
            continue
        long = max(parameter.opts, key=len)
        assert re.search(rf"{re.escape(long)}(?![\w-])", section + common), f"{verb}: {long}"


def test_no_verb_is_made_up(repository: Path) -> None:
    page = (repository / "docs/reference/cli.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^#{2,3} `?fettle ([a-z][a-z ]*?)\b(?=[`\s])", page, re.MULTILINE))
    assert {verb.partition(" ")[0] for verb in documented} <= {
        verb.partition(" ")[0] for verb in VERBS
    }


def test_every_verb_has_one_line_of_help() -> None:
    for verb, command in VERBS.items():
        assert (command.help or "").strip(), f"fettle {verb} has no help text"
