"""From the arguments of a verb to a recipe and a directory (no torch)."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fettle.errors import UsageError
from fettle.recipe.load import load_recipe
from fettle.recipe.recipe import Recipe

Paths = str | Path | Sequence[str | Path]

# The short names of the common options -> recipe keys.
KEYS = {
    "base": "base.id",
    "task": "task",
    "method": "method.type",
    "metric": "evaluate.metric",
    "seed": "seed",
    "guard": "evaluate.guards",
    "target_difference": "evaluate.target_difference",
    "eval": "data.eval",
    "text": "data.text",
    "label": "data.label",
    "prompt": "data.prompt",
    "completion": "data.completion",
    "messages": "data.messages",
    "group": "data.group",
    "time": "data.time",
    "split_column": "data.split_column",
    "layout": "data.layout",
    "format": "data.format",
}


def make_recipe(source: Paths, settings: Sequence[str] = (), **options: Any) -> Recipe:
    """A recipe from data files or a recipe file, with options laid over it.

    Args:
        source: data files or folders, or one recipe (.yaml, .yml).
        settings: ``section.key=value`` texts.
        options: short names of ``KEYS``; None = not given.

    Raises:
        RecipeError: E0201 to E0208.
        UsageError: E0115, an option that does not exist.
    """
    unknown = options.keys() - KEYS.keys()
    if unknown:
        raise UsageError(
            "E0115", f"there is no option {sorted(unknown)[0]!r}", hint=f"known: {', '.join(KEYS)}"
        )
    paths = as_paths(source)
    given: dict[str, Any] = {}
    for name, value in options.items():
        if value is not None and value != ():
            section, _, key = KEYS[name].rpartition(".")
            holder = given.setdefault(section, {}) if section else given
            holder[key] = _plain(value)
    if len(paths) == 1 and paths[0].endswith((".yaml", ".yml")):
        recipe = load_recipe(paths[0], settings)
        asked = recipe.model_dump(exclude_unset=True, by_alias=True)
        return load_recipe(_merged(asked, given))
    return load_recipe(_merged({"data": {"path": paths}}, given), settings)


def as_paths(source: Paths) -> list[str]:
    """One path or several -> a list of texts."""
    return [str(source)] if isinstance(source, str | Path) else [str(path) for path in source]


def data_name(recipe: Recipe) -> str:
    """A short name for the data: the first file's or folder's."""
    name = Path(recipe.data.path[0]).resolve().name
    while Path(name).suffix in {".gz", ".csv", ".tsv", ".txt", ".json", ".jsonl", ".parquet"}:
        name = Path(name).stem
    return name or "data"


def free_directory(recipe: Recipe) -> Path:
    """``runs/<name>``, or ``runs/<name>-2`` and so on where that is taken."""
    name = data_name(recipe)
    for number in range(1, 10_000):
        path = Path("runs") / (name if number == 1 else f"{name}-{number}")
        if not path.exists():
            return path
    raise UsageError("E0111", f"runs/{name} and its numbers are all taken", hint="use --out DIR")


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dicts, the second laid over the first."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        result[key] = (
            _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
        )
    return result


def _plain(value: Any) -> Any:
    """Paths as text, tuples as lists."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value
