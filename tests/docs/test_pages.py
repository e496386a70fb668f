"""Pages against files: dependencies have reasons, links lead somewhere, examples are explained."""

import re
import tomllib
from pathlib import Path


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9_.-]", item)[0].lower() for item in requirements}


def test_every_core_dependency_has_a_reason_and_none_is_made_up(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    page = (repository / "docs/concepts/dependencies.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| ([a-z0-9-]+) \| \S", page, re.MULTILINE)) - {"package"}
    assert rows == _names(project["dependencies"])


def test_every_dependency_but_torch_is_locked_with_hashes(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lock = (repository / "requirements.lock").read_text(encoding="utf-8")
    entries = re.findall(r"^([a-z0-9_.-]+)==\S+ \\\n((?:    --hash=sha256:.*\n?)+)", lock, re.M)
    locked = {name for name, _ in entries}
    wanted = _names([*project["dependencies"], *project["optional-dependencies"]["dev"]])
    assert wanted - locked == {"torch"}
    assert not [name for name in locked if name.startswith(("nvidia", "triton", "cuda"))]
    assert "://" not in lock


def test_links_between_pages_lead_somewhere(repository: Path) -> None:
    pages = [*repository.glob("*.md"), *(repository / "docs").rglob("*.md")]
    pages += (repository / "examples").rglob("*.md")
    broken = []
    for page in pages:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(repository)}: {target}")
    assert not broken


def test_every_example_has_a_recipe_and_a_page(repository: Path) -> None:
    folders = [path.parent for path in (repository / "examples").rglob("recipe.yaml")]
    assert folders
    for folder in folders:
        text = (folder / "README.md").read_text(encoding="utf-8")
        assert str((folder / "recipe.yaml").relative_to(repository)) in text
        assert "Apache-2.0" in text
