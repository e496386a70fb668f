"""Recipe files and ``--set`` values -> a ``Recipe``, and back to YAML.

In: a YAML file or a mapping, and ``section.key=value`` texts. Out: a ``Recipe``, or one RecipeError
that says where and what is allowed. Must not know: data, bases, what ``auto`` becomes.

YAML is read as version 1.2 has it: 1e-4 is a number; yes, no, on, off and dates are text. A key
that stands twice is an error.
"""

import os
import re
import reprlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from fettle.errors import RecipeError
from fettle.recipe.conflicts import find_conflict
from fettle.recipe.keys import KEYS, SECTIONS, nearest
from fettle.recipe.recipe import Recipe
from fettle.records.outcomes import SCHEMA

MAX_BYTES = 1_000_000
"""A file above this is no recipe; most likely data was given in its place."""

REFERENCE = "see docs/reference/recipe.md"

_TAG = "tag:yaml.org,2002:"
_FLOAT = re.compile(
    r"""(?: [-+]? [0-9][0-9_]* \. [0-9_]* (?:e[-+]?[0-9]+)?   # 1. 1.5 1.5e3
          | [-+]? \. [0-9][0-9_]* (?:e[-+]?[0-9]+)?           # .5
          | [-+]? [0-9][0-9_]* e[-+]?[0-9]+                   # 1e-4
          | [-+]? \. inf | \. nan ) \Z""",
    re.IGNORECASE | re.VERBOSE,
)


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2: no dates, only true and false are booleans."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in pairs if tag in (f"{_TAG}null", f"{_TAG}merge")]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(f"{_TAG}bool", re.compile(r"(?:true|false)\Z", re.I), list("tTfF"))
_Loader.add_implicit_resolver(
    f"{_TAG}int", re.compile(r"[-+]?(?:0|[1-9][0-9_]*)\Z"), list("-+0123456789")
)
_Loader.add_implicit_resolver(f"{_TAG}float", _FLOAT, list("-+.0123456789"))


def _construct_float(loader: _Loader, node: yaml.ScalarNode) -> float:
    return float(node.value.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))


_Loader.add_constructor(f"{_TAG}float", _construct_float)


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where the values of a recipe were written."""

    name: str
    """File name, "the recipe" for a mapping, "--set" for overrides."""
    lines: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Key path -> 1-based line and column."""
    overridden: frozenset[str] = frozenset()

    def where(self, path: str) -> str:
        """file:line:column of a key, or the name of what holds it."""
        if path in self.overridden:
            return f"--set {path}"
        line = self.lines.get(path)
        return f"{self.name}:{line[0]}:{line[1]}" if line else self.name


def load_recipe(
    source: str | os.PathLike[str] | Mapping[str, Any], overrides: Sequence[str] = ()
) -> Recipe:
    """Read a recipe and lay the overrides over it.

    Args:
        source: a YAML file, whose relative data paths are taken from its own folder; or a mapping
            of the same shape, whose paths are left alone.
        overrides: texts ``section.key=value`` with a YAML value; later ones win. Of a table,
            ``section.key.entry=value`` sets one entry. Their paths are relative to the current
            folder.

    Raises:
        RecipeError: E0201 unreadable, E0202 no YAML, E0203 a key twice, E0204 unknown key, E0205
            value not allowed, E0206 required key missing, E0207 override without key or value,
            E0208 schema of another version, E0220 to E0222 values that can't hold together.
    """
    if isinstance(source, Mapping):
        origin = _Origin("the recipe")
        values = _checked_keys(source, origin)
    else:
        path = Path(source)
        document, lines = _read(path)
        origin = _Origin(str(path), lines)
        values = _with_paths_from(_checked_keys(document, origin), path.parent)
    given: set[str] = set()
    for text in overrides:
        key, entry, value = _parse_override(text)
        section, _, name = key.rpartition(".")
        holder = values.setdefault(section, {}) if section else values
        if entry:
            table = holder.get(name)
            value = {**(table if isinstance(table, Mapping) else {}), entry: value}
        holder[name] = value
        given.add(key)
    _let_one_length_win(values, given)
    return _validate(values, _Origin(origin.name, origin.lines, frozenset(given)))


def _let_one_length_win(values: dict[str, Any], given: set[str]) -> None:
    """An override of epochs or max_steps replaces what the file says of the other."""
    for key, other in (("epochs", "max_steps"), ("max_steps", "epochs")):
        if f"train.{key}" in given and f"train.{other}" not in given:
            values["train"].pop(other, None)


def dump_recipe(recipe: Recipe) -> str:
    """The whole recipe as YAML, every key written out, ``auto`` where fettle is to decide.

    Local paths are made absolute, so that the file means the same wherever it lies.
    """
    document = recipe.model_dump(mode="json", by_alias=True)
    for path, key in KEYS.items():
        section, _, name = path.rpartition(".")
        holder = document[section] if section else document
        if holder[name] is None and key.auto:
            holder[name] = "auto"
    here = Path.cwd()
    return yaml.safe_dump(_with_paths_from(document, here), sort_keys=False, allow_unicode=True)


def _read(path: Path) -> tuple[Any, dict[str, tuple[int, int]]]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RecipeError(
                "E0201",
                f"{path} has {path.stat().st_size:,} bytes and is no recipe",
                hint=f"for data: fettle run {path}",
            )
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise RecipeError(
            "E0201", f"can't read the recipe {path}: {reason}", hint="check the path"
        ) from error
    return _parse(text, str(path))


def _parse(text: str, name: str) -> tuple[Any, dict[str, tuple[int, int]]]:
    """The document, and the line and column of every key."""
    lines: dict[str, tuple[int, int]] = {}
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None, lines
            _collect_lines(node, "", name, lines)
            return loader.construct_document(node), lines
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise RecipeError(
            "E0202",
            f"not valid YAML: {error.problem or error.context}",
            where=where,
            hint="correct that line; text with `: `, ` #` or a leading `*`, `&`, `!` needs quotes",
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise RecipeError(
            "E0202",
            f"not valid YAML: {reason}",
            where=name,
            hint="a recipe has sections with keys, two levels in all: see docs/reference/recipe.md",
        ) from error


def _collect_lines(
    node: yaml.Node, prefix: str, name: str, lines: dict[str, tuple[int, int]]
) -> None:
    """Note where each key and each key of a section stands; one that stands twice is an error."""
    if not isinstance(node, yaml.MappingNode) or prefix.count(".") > 1:
        return
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            continue
        path = prefix + key_node.value
        here = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
        if path in lines:
            raise RecipeError(
                "E0203",
                f"{path} is given twice",
                where=f"{name}:{here[0]}:{here[1]}",
                why=f"The first time is in line {lines[path][0]}",
                hint="remove one of the two",
            )
        lines[path] = here
        _collect_lines(value_node, f"{path}.", name, lines)


def _checked_keys(document: Any, origin: _Origin) -> dict[str, Any]:
    """A copy with sections as dicts; every key in it exists."""
    if not isinstance(document, Mapping):
        raise RecipeError(
            "E0205",
            f"a recipe is a mapping of keys, not {_show(document)}",
            where=origin.name,
            hint=REFERENCE,
        )
    values: dict[str, Any] = {}
    for name, value in document.items():
        if name in SECTIONS:
            if value is None:
                continue
            if not isinstance(value, Mapping):
                raise _not_allowed(str(name), value, "a section with keys of its own", origin)
            for key in value:
                _known(f"{name}.{key}", origin)
            values[name] = dict(value)
        elif name in KEYS and "." in name:
            section, _, key = name.partition(".")
            raise RecipeError(
                "E0204",
                f"unknown key {name} at the top level; {key} belongs under {section}",
                where=origin.where(name),
                hint=f"write {section}: and, indented in the next line, {key}: …",
            )
        else:
            _known(name, origin)
            values[name] = value
    return values


def _known(path: Hashable, origin: _Origin) -> None:
    if path in KEYS:
        return
    text = str(path)
    meant = nearest(text)
    section = text.partition(".")[0]
    siblings = [key for key in KEYS if key.startswith(f"{section}.")] or [*SECTIONS]
    raise RecipeError(
        "E0204",
        f"unknown key {text}" + (f"; did you mean {meant}" if meant else ""),
        where=origin.where(text),
        hint=f"write {meant}" if meant else f"known here: {', '.join(siblings)}; {REFERENCE}",
    )


def _parse_override(text: str) -> tuple[str, str, Any]:
    """Key, entry of its table (or nothing), value."""
    key, equals, value_text = text.partition("=")
    key, entry = _table_entry(key.strip())
    if not equals or not key:
        raise RecipeError(
            "E0207",
            f"--set {text} has no value",
            hint="write it as --set section.key=value, for example --set train.epochs=3",
        )
    if key in SECTIONS:
        raise RecipeError(
            "E0207",
            f"--set {text}: {key} is a section",
            hint=f"name a key of it, for example --set {_first_key(key)}=…",
        )
    origin = _Origin("--set", overridden=frozenset({key}))
    _known(key, origin)
    value, _ = _parse(value_text, f"--set {key}")
    return key, entry, value


def _table_entry(path: str) -> tuple[str, str]:
    """A path such as data.policies.personal_data as the key of a table and an entry in it."""
    section, _, rest = path.partition(".")
    name, _, entry = rest.partition(".")
    key = KEYS.get(f"{section}.{name}")
    # Labels may hold dots: all that follows the key is the entry.
    is_entry = entry and key is not None and "object" in key.types
    return (f"{section}.{name}", entry) if is_entry else (path, "")


def _first_key(section: str) -> str:
    return next(key for key in KEYS if key.startswith(f"{section}."))


def _with_paths_from(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Join relative paths to a folder: data always, bases and templates when they begin with a dot.

    A base such as ``org/name`` is a hub id, ``./name`` a folder.
    """

    def join(text: str) -> str:
        return str(folder / Path(text).expanduser())

    changed = dict(values)
    for section, names in (("data", ("path", "eval")), ("base", ("id", "chat_template"))):
        if section not in changed:
            continue
        changed[section] = dict(changed[section])
        for name in names:
            value = changed[section].get(name)
            if section == "base":
                if isinstance(value, str) and value.startswith(("./", "../", "~/")):
                    changed[section][name] = join(value)
            elif isinstance(value, str):
                changed[section][name] = [join(value)]
            elif isinstance(value, list):
                changed[section][name] = [
                    join(item) if isinstance(item, str) else item for item in value
                ]
    if "evaluate" in changed and changed["evaluate"].get("guards"):
        given = changed["evaluate"]["guards"]
        guards = [
            _guard_from(item, join) for item in (given if isinstance(given, list) else [given])
        ]
        changed["evaluate"] = {**changed["evaluate"], "guards": guards}
    return changed


def _guard_from(value: Any, join: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return {"file": join(value)}
    if isinstance(value, Mapping) and isinstance(value.get("file"), str):
        return {**value, "file": join(value["file"])}
    return value


def _validate(values: Mapping[str, Any], origin: _Origin) -> Recipe:
    version = values.get("schema", SCHEMA)
    if version != SCHEMA or isinstance(version, bool):
        raise RecipeError(
            "E0208",
            f"this recipe has schema {_show(version)}; this fettle reads {SCHEMA}",
            where=origin.where("schema"),
            hint=f"write schema: {SCHEMA} and check the keys against docs/reference/recipe.md",
        )
    for path, key in KEYS.items():
        section, _, name = path.rpartition(".")
        holder = values.get(section, {}) if section else values
        # pydantic would take true for 1
        if isinstance(holder.get(name), bool) and "boolean" not in key.types:
            raise _not_allowed(path, holder[name], key.allowed, origin)
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise _translated(error, origin) from error
    conflict = find_conflict(recipe)
    if conflict is not None:
        raise RecipeError(
            conflict.code,
            conflict.message,
            where=origin.where(conflict.path),
            why=conflict.why,
            hint=conflict.hint,
        )
    return recipe


def _translated(error: ValidationError, origin: _Origin) -> RecipeError:
    """The first problem in full, the others by name."""
    problems = error.errors(include_url=False, include_context=False)
    paths = [_key_path(problem["loc"]) for problem in problems]
    first, path = problems[0], paths[0]
    others = sorted({other for other in paths if other != path})
    why = f"Also not right: {', '.join(others)}" if others else ""
    if first["type"] == "missing" and len(first["loc"]) <= 2:
        missing = "data.path" if path == "data" else path
        return RecipeError(
            "E0206",
            f"{missing} is missing",
            where=origin.name,
            hint=f"add it to the recipe, or give --set {missing}=…",
        )
    key = KEYS.get(path)
    allowed = key.allowed if key else first["msg"]
    if len(first["loc"]) > 2 and path in ("data.policies", "data.waivers", "evaluate.guards"):
        why = f"Entry {'.'.join(map(str, first['loc'][2:]))}: {first['msg'].lower()}. {why}".strip()
    if path == "data.waivers":
        allowed += ", each with kind, reason and by, and if you like pattern, rows and expires"
    if path == "evaluate.guards":
        allowed += ", each with file, and if you like name, metric and margin"
    if key and "string" in key.types and isinstance(first["input"], float):
        why = f"Without quotes it is read as a number. {why}".strip()
    return _not_allowed(path, first["input"], allowed, origin, why)


def _key_path(location: Sequence[int | str]) -> str:
    """The key of a pydantic location, which may go on with list indices and union branches."""
    if location[0] in SECTIONS:
        return ".".join(str(part) for part in location[:2])
    return "schema" if location[0] == "schema_version" else str(location[0])


def _not_allowed(
    path: str, value: Any, allowed: str, origin: _Origin, why: str = ""
) -> RecipeError:
    return RecipeError(
        "E0205",
        f"{path} is {_show(value)}; allowed is {allowed.replace('`', '')}",
        where=origin.where(path),
        why=why,
        hint=REFERENCE,
    )


def _show(value: Any) -> str:
    return reprlib.repr(value)
