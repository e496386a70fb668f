"""The keys of a recipe: their names, what each allows, and the reference page made from them.

In: the classes of ``recipe.recipe``. Out: key paths, texts. Must not know: files, YAML.
"""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from fettle.recipe.recipe import Auto, Recipe, Section, listed

_TYPE_NAMES = {
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
}

_PREAMBLE = """\
# Recipe reference

*Made from the docstrings in `src/fettle/recipe/recipe.py`; a test compares the two.*

A recipe is a YAML file; `fettle run recipe.yaml` carries it out. Only `data.path` is required. Each
key can also be given as `--set section.key=value`, which wins over the file. Paths in a file are
relative to the file's folder, paths on the command line to the current folder. `auto` means that
fettle derives the value from the data, the base and the machine, and writes it with its reason to
`recipe.resolved.yaml`. A key that does not exist, or is given twice, is an error.
"""


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a recipe."""

    path: str
    """``section.key``, or the name alone at the top level."""
    allowed: str
    """What may stand there, in words."""
    types: frozenset[str]
    """JSON types of the values that may stand there."""
    auto: bool
    """Whether ``auto`` may stand there; it is None in the ``Recipe``."""
    default: Any
    """``PydanticUndefined`` when the key is required."""
    meaning: str


def _sections() -> dict[str, type[Section]]:
    return {
        name: field.annotation
        for name, field in Recipe.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
    }


def _keys() -> dict[str, Key]:
    sections = _sections()
    found: dict[str, Key] = {}
    models: list[tuple[str, type[Section]]] = [("", Recipe)]
    models += [(f"{name}.", model) for name, model in sections.items()]
    for prefix, model in models:
        properties = model.model_json_schema(by_alias=True)["properties"]
        for name, field in model.model_fields.items():
            alias = field.alias or name
            if not prefix and name in sections:
                continue
            key = _key(prefix + alias, field, properties[alias])
            found[key.path] = key
    return found


def _key(path: str, field: FieldInfo, schema: Mapping[str, Any]) -> Key:
    auto = Auto in field.metadata
    options = schema.get("anyOf", [schema])
    words = [_describe(option) for option in options if option.get("type") != "null"]
    if listed in field.metadata:
        words.insert(0, "text")
    if auto:
        words.append("`auto`")
    elif len(words) < len(options):
        words.append("`null`")
    return Key(
        path=path,
        allowed=" or ".join(words),
        types=frozenset(option.get("type", "string") for option in options),
        auto=auto,
        default=field.get_default(call_default_factory=True),
        meaning=" ".join((field.description or "").split()),
    )


def _describe(schema: Mapping[str, Any]) -> str:
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return "one of " + ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array" and "$ref" in schema["items"]:
        return "a list of tables"
    if schema.get("type") == "array":
        return "a list of " + _TYPE_NAMES.get(schema["items"]["type"], "values") + "s"
    if schema.get("type") == "object":
        inner = schema.get("additionalProperties")
        return "a table of " + (_describe(inner) if isinstance(inner, Mapping) else "any values")
    text = _TYPE_NAMES[schema["type"]]
    bounds = [
        f"{word} {schema[name]:g}"
        for name, word in (
            ("minimum", "at least"),
            ("exclusiveMinimum", "above"),
            ("maximum", "at most"),
            ("exclusiveMaximum", "below"),
        )
        if name in schema
    ]
    return text + (", " + " and ".join(bounds) if bounds else "")


SECTIONS: dict[str, type[Section]] = _sections()
"""Section name -> its class."""

KEYS: dict[str, Key] = _keys()
"""Key path -> the key, in the order of the classes."""


def nearest(path: str) -> str | None:
    """The known key or section that was most likely meant, or None.

    A right name in the wrong section is found first: ``train.rank`` -> ``method.rank``.
    """
    name = path.rpartition(".")[2]
    elsewhere = [known for known in KEYS if known.rpartition(".")[2] == name]
    if elsewhere:
        return elsewhere[0]
    known = [*KEYS, *SECTIONS]
    close = difflib.get_close_matches(path, known, n=1, cutoff=0.6)
    if close:
        return close[0]
    names = {key.rpartition(".")[2]: key for key in known}
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return names[close[0]] if close else None


def recipe_reference() -> str:
    """docs/reference/recipe.md: every key with what it allows, its default and its meaning."""
    top = [key for key in KEYS.values() if "." not in key.path]
    parts = [_PREAMBLE, "## Top level\n", _table(top)]
    for section, model in SECTIONS.items():
        meaning = (model.__doc__ or "").strip()
        keys = [key for key in KEYS.values() if key.path.startswith(f"{section}.")]
        parts += [f"## {section}\n", f"{meaning}\n", _table(keys)]
    return "\n".join(parts)


def _table(keys: list[Key]) -> str:
    lines = ["| key | allowed | default | meaning |", "|---|---|---|---|"]
    for key in keys:
        meaning = key.meaning.replace("``", "`").replace("|", "\\|")
        lines.append(f"| `{key.path}` | {key.allowed} | {_default(key)} | {meaning} |")
    return "\n".join(lines) + "\n"


def _default(key: Key) -> str:
    if key.default is PydanticUndefined:
        return "required"
    if key.default is None:
        return "`auto`" if key.auto else "`null`"
    return f"`{json.dumps(key.default)}`".replace('"', "")
