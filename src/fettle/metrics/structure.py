"""Whether an answer is JSON, and follows a schema.

In: predictions with text, and the schema's file. Out: metrics of 0 and 1. Must not know: models.
"""

import hashlib
import importlib
import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fettle.errors import UsageError
from fettle.metrics.metric import Graded, Metric, graded_metric, shown, text_of
from fettle.records.outcomes import Prediction

NESTED = 200
"""Deepest brackets that are parsed."""


def valid_json(fences: bool = False) -> Metric:
    """Share of answers that are one JSON value and nothing else.

    NaN and Infinity, which JSON has not, and a key that occurs twice in an object are faults.

    Args:
        fences: a Markdown code fence around the JSON is allowed.
    """

    def grade(row: Prediction) -> Graded:
        _, fault = parsed(text_of(row), fences)
        return Graded(float(fault is None), fault or "")

    settings = f"fences:{'allowed' if fences else 'refused'}"
    return graded_metric("valid_json", grade, settings=settings, binary=True)


def json_schema(file: str = "", fences: bool = False) -> Metric:
    """Share of answers that are JSON and follow a schema.

    Args:
        file: the schema, JSON; each row's reference is the schema where it is left out.
        fences: a Markdown code fence around the JSON is allowed.

    Raises:
        UsageError: E1002, the file is no JSON schema.

    Source: the JSON Schema specification in the draft that ``$schema`` names, else 2020-12, by
    the jsonschema package. References to other files or addresses are never followed.
    """
    fixed: Callable[[Any], str | None] | None = None
    digest = "of the reference"
    if file:
        fixed, digest = _from_file(file)
    own: dict[str, Callable[[Any], str | None]] = {}

    def grade(row: Prediction) -> Graded:
        check = fixed
        if check is None:
            text = row.reference if isinstance(row.reference, str) else row.reference[0]
            if text not in own:
                schema, fault = parsed(text)
                try:
                    own[text] = checker(schema if fault is None else None)
                except ValueError as error:
                    return Graded(None, f"no JSON schema in its reference ({fault or error})")
            check = own[text]
        value, fault = parsed(text_of(row), fences)
        if fault is None:
            try:
                fault = check(value)
            except ValueError as error:
                return Graded(None, f"no usable schema ({error})")
        return Graded(float(fault is None), fault or "")

    return graded_metric(
        "json_schema",
        grade,
        source=f"jsonschema {version('jsonschema')}",
        settings=f"schema:{digest}|fences:{'allowed' if fences else 'refused'}",
        binary=True,
    )


def parsed(text: str, fences: bool = False) -> tuple[Any, str | None]:
    """The JSON value of a text, and why there is none.

    Args:
        text: an answer.
        fences: take off a Markdown code fence first.
    """
    text = text.strip()
    if fences and text.startswith("```") and text.endswith("```") and "\n" in text:
        text = text.partition("\n")[2][:-3]
    if not text:
        return None, "the answer is empty"
    try:
        found = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_object)
        return found, _too_deep(found)
    except RecursionError:
        return None, "nested too deeply"
    except ValueError as error:
        return None, f"not JSON: {error}"


def checker(schema: Any) -> Callable[[Any], str | None]:
    """A function that names a value's first fault by a schema, or None.

    Raises:
        ValueError: not a JSON schema; and the function, where the schema refers to what it has not.
    """
    # It brings 50 ms of imports, that only this metric shall cost.
    jsonschema = importlib.import_module("jsonschema")
    if not isinstance(schema, dict | bool):
        raise ValueError("a JSON schema is an object, true or false")
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ValueError(error.message) from error
    # An empty registry: a reference that leads out of the schema is an error, never a download.
    registry = importlib.import_module("referencing").Registry()
    validator = kind(schema, registry=registry, format_checker=kind.FORMAT_CHECKER)
    unresolvable = importlib.import_module("referencing.exceptions").Unresolvable

    def check(value: Any) -> str | None:
        try:
            fault = jsonschema.exceptions.best_match(validator.iter_errors(value))
        except unresolvable as error:
            raise ValueError(f"it refers to {error.ref}, which it does not hold") from error
        return None if fault is None else f"{fault.json_path}: {fault.message}"

    return check


def _from_file(file: str) -> tuple[Callable[[Any], str | None], str]:
    try:
        content = Path(file).read_bytes()
        return checker(json.loads(content)), hashlib.sha256(content).hexdigest()[:16]
    except (OSError, ValueError) as error:
        raise UsageError(
            "E1002",
            f"{shown(file)} is no JSON schema: {error}",
            hint="write json_schema:file=answer.schema.json, a path from where fettle is started",
        ) from error


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {shown(twice)} occurs twice")
    return found


def _too_deep(value: Any) -> str | None:
    level = [value]
    for _ in range(NESTED):
        level = [
            item
            for part in level
            if isinstance(part, dict | list)
            for item in (part.values() if isinstance(part, dict) else part)
        ]
        if not level:
            return None
    return "nested too deeply"
