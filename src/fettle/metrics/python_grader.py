"""The user's own grader: a function in a Python file.

    def polite(row):                  # row: the line of the prediction file, as a dict
        return "please" in row["prediction"], "no please"      # or only the value

The file runs with all rights of whoever starts fettle, in this process, when the first row is
graded: its path comes from the command line or the recipe and never from data.

In: a path, a function's name, predictions. Out: a metric. Must not know: what the function does.
"""

import hashlib
import importlib.util
import math
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from fettle.errors import UsageError
from fettle.metrics.metric import Graded, Metric, graded_metric, shown
from fettle.records.outcomes import Prediction

FAMILY = "python"
UNITS = ("share", "number")

Grader = Callable[[dict[str, Any]], Any]


def python_grader(
    target: str, higher_is_better: bool = True, unit: str = "number", *, name: str = FAMILY
) -> Metric:
    """Mean of what the user's function says of each row.

    The function takes a dict and returns a number, True or False, or a pair of one of these and a
    text that says why. What it raises, and what is no finite number, leaves the row without a
    value: it never counts as 0.

    Args:
        target: "FILE.py:FUNCTION".
        higher_is_better: direction.
        unit: share, for values from 0 to 1 shown as per cent, or number.
        name: of the metric, as the user wrote it.

    Raises:
        UsageError: E1002, no such file or not of this form, or an unknown unit.
    """
    file, _, function = target.rpartition(":")
    path = Path(file)
    if not file or not function.isidentifier() or unit not in UNITS:
        raise UsageError(
            "E1002",
            f"{name!r} names no grader",
            why="it takes a file, a function in it, higher_is_better=yes|no, unit=share|number",
            hint="write --metric python:grader.py:polite",
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(
            "E1002",
            f"the grader's file {file} can't be read: {error.strerror or error}",
            hint="give its path from where fettle is started: --metric python:grader.py:polite",
        ) from error
    loaded: list[Grader | str] = []

    def grade(row: Prediction) -> Graded:
        if not loaded:
            loaded.append(_load(path, function))
        grader = loaded[0]
        if isinstance(grader, str):
            return Graded(None, grader)
        try:
            # What it prints must not get among the results.
            with redirect_stdout(sys.stderr):
                said = grader(row.to_json())
        # Whatever a user's function raises, it's this row that has no value, and the reason says.
        except (Exception, SystemExit) as error:
            return Graded(None, f"no value ({function} raised {_named(error)})")
        return _graded(said, unit)

    digest = hashlib.sha256(content).hexdigest()[:16]
    return graded_metric(
        name,
        grade,
        higher_is_better=higher_is_better,
        unit="share" if unit == "share" else "number",
        span=1.0 if unit == "share" else None,
        source="user",
        settings=f"sha256:{digest}|higher_is_better:{'yes' if higher_is_better else 'no'}",
    )


def _load(path: Path, function: str) -> Grader | str:
    """The function, or why there is none."""
    name = f"fettle_grader_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        return f"no grader ({path} is no Python file)"
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickles look their module up by name.
    sys.modules[name] = module
    try:
        with redirect_stdout(sys.stderr):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        return f"no grader ({path} raised {_named(error)})"
    found = vars(module).get(function)
    if not callable(found):
        return f"no grader ({path} has no function {function})"
    grader: Grader = found
    return grader


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _graded(said: Any, unit: str) -> Graded:
    value, reason = said, ""
    if isinstance(said, tuple) and len(said) == 2:
        value, reason = said[0], str(said[1] or "")
    # numpy's numbers and booleans are what many graders compute with.
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, bool | int | float) or not math.isfinite(value):
        return Graded(None, f"no value (the grader returned {shown(repr(value))})")
    if unit == "share" and not 0.0 <= value <= 1.0:
        return Graded(None, f"no value (the grader returned {value}, which is no share)")
    return Graded(float(value), reason)
