"""Recipes parse, error codes are documented, public names exist."""

import ast
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
from tests.architecture.source import REPOSITORY, place, source_files, tree

import fettle
from fettle.recipe.load import load_recipe

CODE = re.compile(r"E\d{4}")
HEADING = re.compile(r"^### (E\d{4}) \S", re.MULTILINE)
FOLDERS = ("examples", "docs", "bench", "src", "tests")


def _recipes() -> list[Path]:
    return sorted(
        path
        for folder in FOLDERS
        for pattern in ("recipe*.yaml", "recipe*.yml")
        for path in (REPOSITORY / folder).rglob(pattern)
    )


def test_there_are_recipes() -> None:
    assert len(_recipes()) >= 2


@pytest.mark.parametrize("path", _recipes(), ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_recipe_parses_and_finds_its_data(path: Path) -> None:
    recipe = load_recipe(path)
    for name in (*recipe.data.path, *recipe.data.eval):
        assert Path(name).exists(), f"{path}: {name} is missing"


def _recipes_in_pages() -> list[tuple[str, str]]:
    found = []
    pages = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
    for page in pages:
        blocks = re.findall(r"^```ya?ml\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
        for number, block in enumerate(blocks, start=1):
            if re.search(r"^data:", block, re.MULTILINE):
                found.append((f"{page.relative_to(REPOSITORY)}#{number}", block))
    return found


def test_every_recipe_shown_in_a_page_parses(tmp_path: Path) -> None:
    for number, (_, block) in enumerate(_recipes_in_pages()):
        shown = tmp_path / f"{number}.yaml"
        shown.write_text(block, encoding="utf-8")
        load_recipe(shown)


def _codes_in_source() -> dict[str, list[str]]:
    """Error code -> places where it is the first argument of a call."""
    found: dict[str, list[str]] = {}
    for path in source_files():
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            first = node.args[0]
            if (
                isinstance(first, ast.Constant)
                and isinstance(first.value, str)
                and CODE.fullmatch(first.value)
            ):
                found.setdefault(first.value, []).append(place(path, node))
    return found


def test_error_codes_are_written_out_where_they_are_raised() -> None:
    """A code that is put together elsewhere would be missed by the next test."""
    raised = _codes_in_source()
    loose = [
        place(path, node)
        for path in source_files()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and CODE.fullmatch(node.value)
        and node.value not in raised
    ]
    assert not loose, f"codes that no call has as its first argument: {loose}"


def test_every_error_code_is_documented_once_and_none_is_made_up() -> None:
    raised = _codes_in_source()
    page = (REPOSITORY / "docs/reference/errors.md").read_text(encoding="utf-8")
    documented = HEADING.findall(page)
    twice = sorted({code for code in documented if documented.count(code) > 1})
    undocumented = {code: raised[code] for code in sorted(set(raised) - set(documented))}
    unused = sorted(set(documented) - set(raised))
    assert raised
    assert not twice, f"documented twice: {twice}"
    assert not undocumented, f"not in docs/reference/errors.md: {undocumented}"
    assert not unused, f"in docs/reference/errors.md but never raised: {unused}"


def test_error_codes_in_docstrings_exist() -> None:
    """``Raises: DataError: E0302 …`` has to name a code that is raised somewhere."""
    raised = set(_codes_in_source())
    wrong = {}
    for path in source_files():
        named = set(re.findall(r"\bE0\d{3}\b", path.read_text(encoding="utf-8")))
        # errors.py shows a code that stands for any
        unknown = named - raised - ({"E0312"} if path.name == "errors.py" else set())
        if unknown:
            wrong[place(path)] = sorted(unknown)
    assert not wrong, f"named but never raised: {wrong}"


def test_error_codes_are_ordered_in_the_page() -> None:
    page = (REPOSITORY / "docs/reference/errors.md").read_text(encoding="utf-8")
    documented = HEADING.findall(page)
    assert documented == sorted(documented)


def _public_modules() -> list[str]:
    skip = {"fettle.__main__"}
    names = [item.name for item in pkgutil.walk_packages(fettle.__path__, "fettle.")]
    return ["fettle", *(name for name in names if name not in skip)]


@pytest.mark.parametrize("name", _public_modules())
def test_every_public_name_exists(name: str) -> None:
    module = importlib.import_module(name)
    public = getattr(module, "__all__", [])
    assert len(set(public)) == len(public), f"{name}.__all__ names something twice"
    missing = [item for item in public if getattr(module, item, None) is None]
    assert not missing, f"{name}.__all__ names what is not there: {missing}"


def test_version_is_that_of_the_change_log() -> None:
    text = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", text, re.MULTILINE)
    assert versions[0] == fettle.__version__
