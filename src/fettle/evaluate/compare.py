"""Compare two prediction files with the statistics of a run's verdict.

In: JSONL files with one line per row (DESIGN section 5, prediction files), or run directories.
Out: a ``Verdict`` without plan, guards or holdout. Must not know: models.
"""

import gc
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from fettle.errors import DataError, UsageError
from fettle.evaluate.plan import make_plan
from fettle.evaluate.verdict import decide
from fettle.metrics import find_metric
from fettle.records.outcomes import Prediction, Verdict
from fettle.records.run_directory import RunDirectory, read_json

_DECODE = json.JSONDecoder().raw_decode
_PLAIN = ("row_id", "prediction", "reference", "group", "score")
_RARE = tuple(field.name for field in fields(Prediction) if field.name not in _PLAIN)
# A frozen dataclass takes twice as long to make as its fields take to be set.
_SET_ID, _SET_PREDICTION, _SET_REFERENCE, _SET_GROUP, _SET_SCORE = (
    Prediction.__dict__[name].__set__ for name in _PLAIN
)
_SET_RARE = tuple(Prediction.__dict__[name].__set__ for name in _RARE)
_HAS_NO_RARE = frozenset(_RARE).isdisjoint
_LONGEST_SHARED = 64
_MOST_SHARED = 100_000
"""Texts that are kept once for all rows: labels, groups, short references."""


def compare_files(
    a: str | Path,
    b: str | Path,
    metric: str | None = None,
    alpha: float = 0.05,
    *,
    minimum_difference: float = 0.0,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Verdict:
    """Compare two prediction files, B against A.

    Args:
        a: JSONL file, or a run directory (then its tuned model's predictions).
        b: the same.
        metric: a metric's name with parameters; None takes ``metric_of_runs``, else
            ``default_metric``.
        alpha: two-sided level.
        minimum_difference: smallest difference that matters, in the metric's unit.
        num_resamples: resamples and randomization draws.
        seed: of the random generators.

    Returns:
        The verdict; ``invalid`` when the files hold other rows, with counts and examples.

    Raises:
        DataError: E0302 a line, E1003 a file that can't be read, E1004 a row id that occurs twice.
        UsageError: E1001, E1002 the metric; E1005 alpha or another setting.
    """
    return compare(
        load_prediction_file(a),
        load_prediction_file(b),
        metric or metric_of_runs(a, b),
        alpha,
        minimum_difference=minimum_difference,
        num_resamples=num_resamples,
        seed=seed,
    )


def compare(
    a: Sequence[Prediction],
    b: Sequence[Prediction],
    metric: str | None = None,
    alpha: float = 0.05,
    *,
    minimum_difference: float = 0.0,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Verdict:
    """Compare two lists of predictions, B against A; see ``compare_files``."""
    check_settings(alpha, minimum_difference, num_resamples)
    chosen = metric or default_metric([*a, *b])
    if find_metric(chosen).descriptive:
        raise UsageError(
            "E1007",
            f"{chosen} describes, it does not say which model is better",
            hint=f"choose another metric; see each value by fettle evaluate FILE --metric {chosen}",
        )
    alone = {row.row_id for row in a if not row.group}
    num_groups = len(alone) + len({row.group for row in a if row.group})
    plan = make_plan(
        task="compare",
        metric=chosen,
        alpha=alpha,
        minimum_difference=minimum_difference,
        n_holdout=len({row.row_id for row in a}),
        clusters=num_groups if num_groups < len(a) else None,
        seeds=(seed,),
        num_resamples=num_resamples,
    )
    found = decide(plan, a, b)
    return replace(found, plan=None, guards=None, holdout=None, power=None, seeds=())


def metric_of_runs(a: str | Path, b: str | Path) -> str | None:
    """The metric of two runs that predict numbers or sets of labels, where both have the same:
    to match those as texts would count a near miss as a miss.

    Args:
        a: a run directory, or a file.
        b: the same.
    """
    found = set()
    for path in (a, b):
        plan = RunDirectory(Path(path)).plan
        content = read_json(plan) if Path(path).is_dir() and plan.is_file() else {}
        judged = content.get("task") in ("regress", "multi_label")
        found.add(str(content["metric"]) if judged else None)
    return found.pop() if len(found) == 1 else None


def default_metric(rows: Sequence[Prediction]) -> str:
    """What all rows bring: a score, else answers to match, else a loss.

    Args:
        rows: of both files.

    Returns:
        score, loss or exact_match.
    """
    if rows and all(row.score is not None for row in rows):
        return "score"
    answered = all(row.prediction is not None for row in rows)
    if not answered and all(row.loss_sum is not None for row in rows):
        return "loss"
    return "exact_match"


def load_prediction_file(path: str | Path) -> list[Prediction]:
    """Read one JSON object a line: row_id, prediction, reference, and group, score, losses if any.

    Args:
        path: the file, or a run directory.

    Returns:
        Predictions in file order.

    Raises:
        DataError: E1003 the file can't be read or is empty; E0302 a line that is not such an
            object (file:line); E1004 a row id that occurs twice (file:line).
    """
    file = Path(path)
    if file.is_dir():
        file = RunDirectory(file).evaluation / "predictions.tuned.jsonl"
    try:
        content = file.read_bytes()
        try:
            with _no_garbage_collection():
                rows = _rows(_lines(content), file)
        except (DataError, UnicodeDecodeError):
            # A file that is no UTF-8 is no prediction file, whichever line is odd before that.
            _lines(content).read()
            raise
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            "E1003",
            f"{file} can't be read as a prediction file: {error}",
            hint="give a JSONL file in UTF-8 with row_id, prediction and reference, or a run"
            " directory that has evaluation/predictions.tuned.jsonl",
        ) from error
    if not rows:
        raise DataError(
            "E1003",
            f"{file} holds no predictions",
            hint='write one line a row: {"row_id": …, "prediction": …, "reference": …}',
        )
    return rows


def _lines(content: bytes) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig")


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """A million new rows hold no cycles; to look for some takes a third of the reading."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _rows(lines: Iterable[str], file: Path) -> list[Prediction]:
    """The rows of a file's lines; lines of the usual shape take a short way."""
    rows: list[Prediction] = []
    first_line: dict[str, int] = {}
    shared: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        try:
            record, end = _DECODE(line)
            usual = type(record) is dict and line[end:] in ("\n", "")
        except (ValueError, RecursionError):
            usual = False
        if not usual:
            line = line.removesuffix("\n")
            if not line.strip():
                continue
            record = _object(line, f"{file}:{number}")
        row = _plain_prediction(record, shared)
        if row is None:
            row = _prediction(record, f"{file}:{number}")
        if row.row_id in first_line:
            raise DataError(
                "E1004",
                f"row_id {row.row_id!r} occurs twice",
                where=f"{file}:{number}",
                why=f"it was on line {first_line[row.row_id]} already",
                hint="give every row its own row_id",
            )
        first_line[row.row_id] = number
        rows.append(row)
    return rows


def _plain_prediction(record: dict[str, Any], shared: dict[str, str]) -> Prediction | None:
    """What ``_prediction`` gives for a row of texts, with or without a score that is a float.

    Args:
        record: an object as JSON gives it.
        shared: short texts that were met before; equal ones are kept once.

    Returns:
        The row; None for whatever else, which ``_prediction`` takes or refuses.
    """
    get = record.get
    row_id, score, group = get("row_id"), get("score"), get("group")
    prediction, reference = get("prediction"), get("reference")
    # A list or a bool has no place here: exact types, as JSON makes no others.
    if not (
        type(row_id) is str
        and (prediction is None or type(prediction) is str)
        and (reference is None or type(reference) is str)
        and (group is None or type(group) is str)
        and (type(score) is float or (score is None and prediction and reference))
        and _HAS_NO_RARE(record)
    ):
        return None
    row: Prediction = object.__new__(Prediction)
    _SET_ID(row, row_id)
    _SET_PREDICTION(row, _once(prediction, shared) if prediction else prediction)
    _SET_REFERENCE(row, _once(reference, shared) if reference else "")
    _SET_GROUP(row, _once(group, shared) if group else group)
    _SET_SCORE(row, score)
    for set_rare in _SET_RARE:
        set_rare(row, None)
    return row


def _once(text: str, shared: dict[str, str]) -> str:
    if len(text) > _LONGEST_SHARED:
        return text
    found = shared.get(text)
    if found is None:
        if len(shared) < _MOST_SHARED:
            shared[text] = text
        return text
    return found


def _object(line: str, where: str) -> Mapping[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise _bad_line(f"not a JSON object: {reason}", where) from error
    if not isinstance(record, dict):
        raise _bad_line("not a JSON object", where)
    return record


def _prediction(record: Mapping[str, Any], where: str) -> Prediction:
    row_id = _text(record.get("row_id"), "row_id", where)
    if row_id is None:
        raise _bad_line("row_id is missing", where)
    score = _number(record.get("score"), "score", where)
    loss_sum = _number(record.get("loss_sum"), "loss_sum", where)
    prediction = _text(record.get("prediction"), "prediction", where)
    if "prediction" not in record and score is None and loss_sum is None:
        raise _bad_line("prediction is missing", where)
    reference = _reference(record.get("reference"), where)
    if reference is None and prediction is not None and score is None:
        raise _bad_line("reference is missing", where)
    num_targets = record.get("num_targets")
    if num_targets is not None and (not isinstance(num_targets, int) or num_targets < 0):
        raise _bad_line(f"num_targets is {num_targets!r}, not a count", where)
    return Prediction(
        row_id=row_id,
        prediction=prediction,
        reference="" if reference is None else reference,
        group=_text(record.get("group"), "group", where),
        score=score,
        probabilities=_numbers(record.get("probabilities"), "probabilities", where),
        loss_sum=loss_sum,
        num_targets=num_targets,
        confidence=_number(record.get("confidence"), "confidence", where),
        input=_text(record.get("input"), "input", where),
        constraints=_constraints(record.get("constraints"), where),
        tags=_tags(record.get("tags"), where),
        scores=_numbers(record.get("scores"), "scores", where),
    )


def _text(value: Any, name: str, where: str) -> str | None:
    """A string, a whole number as one, or None."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise _bad_line(f"{name} is {_shown(value)}, not a string", where)


def _reference(value: Any, where: str) -> str | tuple[str, ...] | None:
    if not isinstance(value, list):
        return _text(value, "reference", where)
    found = [_text(item, "reference", where) for item in value]
    accepted = tuple(item for item in found if item is not None)
    if not accepted or len(accepted) != len(found):
        raise _bad_line("reference is a list without strings, or with null", where)
    return accepted


def _number(value: Any, name: str, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _bad_line(f"{name} is {_shown(value)}, not a number", where)
    # NaN and infinities are kept: the verdict says which rows have them.
    return float(value) if isinstance(value, float) or abs(value) < 2**1000 else math.inf


def _numbers(value: Any, name: str, where: str) -> dict[str, float] | None:
    """An object of numbers, or None; a null in it is a number that is missing."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise _bad_line(f"{name} is {_shown(value)}, not an object", where)
    found = {key: _number(item, f"{name}.{key}", where) for key, item in value.items()}
    return {key: number for key, number in found.items() if number is not None}


def _constraints(value: Any, where: str) -> tuple[str | Mapping[str, Any], ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str | dict) for item in value):
        raise _bad_line("constraints is not a list of strings and objects", where)
    return tuple(value)


def _tags(value: Any, where: str) -> dict[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise _bad_line(f"tags is {_shown(value)}, not an object", where)
    found = {key: _text(item, f"tags.{key}", where) for key, item in value.items()}
    return {key: text for key, text in found.items() if text is not None}


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:39] + "…"


def _bad_line(message: str, where: str) -> DataError:
    return DataError(
        "E0302",
        message,
        where=where,
        hint='a line is {"row_id": …, "prediction": …, "reference": …}; group, score may follow',
    )


def check_settings(alpha: float, minimum_difference: float, num_resamples: int) -> None:
    """Refuse what no comparison can be made with.

    Raises:
        UsageError: E1005.
    """
    if not 0.0 < alpha < 0.5:
        raise UsageError("E1005", f"alpha is {alpha:g}", hint="choose one between 0 and 0.5")
    if not 0.0 <= minimum_difference < math.inf:
        raise UsageError(
            "E1005",
            f"minimum_difference is {minimum_difference:g}",
            hint="choose 0 or more, in the metric's own unit",
        )
    if num_resamples < 200:
        raise UsageError("E1005", f"resamples are {num_resamples}", hint="choose 200 or more")
