"""What a run directory holds, read once for the report and for the model card.

In: a run directory. Out: ``Contents``: plain values, with a list of what is missing or damaged.
Only verdict.json is required; everything else may be absent, cut short or from an older version.
Must not know: HTML, plots, models.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fettle.errors import IntegrityError, UsageError
from fettle.records.run_directory import RunDirectory, read_json

SPLITS = ("train", "validation", "holdout", "quarantine")
ARMS = ("base", "tuned")


@dataclass(frozen=True, slots=True)
class ResolvedValue:
    """One line of recipe.resolved.yaml."""

    key: str
    value: Any
    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What one arm said about one holdout row."""

    prediction: str | None
    references: tuple[str, ...]
    probability: float | None
    """Of the (first) reference."""
    confidence: float | None
    """Of the prediction."""
    loss: float | None
    """Nats per target."""


@dataclass(slots=True)
class FindingKind:
    """All findings of one kind."""

    kind: str
    severity: str
    count: int = 0
    evidence: str = ""
    remedy: str = ""


@dataclass(slots=True)
class SplitCounts:
    """Where the input records ended."""

    by_source: dict[str, Counter[str]] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    """Quarantine reason to number of records."""
    total: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Contents:
    """Everything that the report and the card are made of."""

    root: Path
    verdict: Mapping[str, Any]
    recipe_text: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    resolved: Mapping[str, ResolvedValue] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    plan: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)
    model_meta: Mapping[str, Any] = field(default_factory=dict)
    """model/fettle.json."""
    is_adapter: bool = False
    steps: Sequence[Mapping[str, Any]] = ()
    validations: Sequence[Mapping[str, Any]] = ()
    stages: Mapping[str, float] = field(default_factory=dict)
    """Stage name to seconds."""
    notes: Sequence[str] = ()
    splits: SplitCounts = field(default_factory=SplitCounts)
    findings: Sequence[FindingKind] = ()
    answers: Mapping[str, Mapping[str, Answer]] = field(default_factory=dict)
    """Arm to row id to answer."""
    grades: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    """Metric to arm to row id to value."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Arm or baseline to wall-clock seconds a row."""
    missing: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    @property
    def task(self) -> str:
        """classify, chat or text, from the first file that says it."""
        resolved = self.resolved.get("task")
        said = (resolved.value if resolved else None) or self.recipe.get("task")
        if isinstance(said, str) and said != "auto":
            return said
        probable = any(
            answer.probability is not None
            for arm in self.answers.values()
            for answer in arm.values()
        )
        return "classify" if probable or mapping(self.verdict.get("extra")) else "chat"

    @property
    def sources(self) -> list[tuple[str, Mapping[str, Any]]]:
        """("data" or "eval", facts) of every file that was read."""
        return [
            *(("data", item) for item in objects(self.manifest.get("sources"))),
            *(("eval", item) for item in objects(self.manifest.get("eval_sources"))),
        ]

    def value(self, key: str) -> Any:
        """A resolved value by its dotted key; None when it is not there."""
        found = self.resolved.get(key)
        return found.value if found else None


def mapping(value: Any) -> Mapping[str, Any]:
    """The value when it is a JSON object, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def objects(value: Any) -> list[Mapping[str, Any]]:
    """The JSON objects of a JSON array; an empty list for anything else."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return []
    return [item for item in value if isinstance(item, Mapping)]


def number(value: Any) -> float | None:
    """The value when it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def read_contents(directory: Path) -> Contents:
    """Read the files of a run.

    Args:
        directory: the run directory.

    Returns:
        Its contents; ``missing`` and ``damaged`` say what could not be used.

    Raises:
        UsageError: E0120, there is no verdict.json.
        IntegrityError: E0901, verdict.json can't be read back.
    """
    run = RunDirectory(directory)
    if not run.verdict.is_file():
        raise UsageError(
            "E0120",
            f"{directory} has no verdict.json, so there is nothing to report on yet",
            why="The verdict is written when the evaluation of a run is done",
            hint=f"fettle resume {directory}",
        )
    verdict = read_json(run.verdict)
    if not isinstance(verdict, Mapping):
        raise IntegrityError(
            "E0901",
            f"{run.verdict} can't be read back: not a JSON object",
            hint=f"fettle evaluate {directory}",
        )
    contents = Contents(directory, verdict)
    contents.recipe_text, contents.recipe = _yaml(run.recipe, contents)
    _read_resolved(run.resolved, contents)
    contents.plan = _object(run.plan, contents)
    contents.environment = _object(run.environment, contents)
    contents.manifest = _object(run.data / "manifest.json", contents)
    contents.is_adapter = (run.model / "adapter_config.json").is_file()
    meta = run.model / "fettle.json"
    contents.model_meta = _object(meta, contents) if meta.is_file() else {}
    _read_events(run.events, contents)
    _read_splits(run.data / "splits.jsonl", contents)
    _read_findings(run.data / "findings.jsonl", contents)
    contents.answers = {
        arm: _read_answers(run.evaluation / f"predictions.{arm}.jsonl", contents) for arm in ARMS
    }
    _read_grades(run.evaluation / "grades.jsonl", contents)
    seconds = run.evaluation / "seconds.json"
    if seconds.is_file():
        found = mapping(_object(seconds, contents).get("seconds_per_row"))
        contents.seconds = {str(k): v for k, x in found.items() if (v := number(x)) is not None}
    return contents


def read_inputs(contents: Contents, row_ids: set[str]) -> dict[str, str]:
    """The inputs of some rows as text, from data/rows.jsonl.

    A conversation becomes its turns before the last assistant turn, each under its role.
    """
    path = RunDirectory(contents.root).data / "rows.jsonl"
    inputs: dict[str, str] = {}
    for record in _lines(path, contents):
        row_id = record.get("row_id")
        if row_id in row_ids and isinstance(row_id, str):
            inputs[row_id] = _input_text(record)
    return inputs


def _input_text(record: Mapping[str, Any]) -> str:
    turns = objects(record.get("messages"))
    if not turns:
        text = record.get("text")
        return text if isinstance(text, str) else ""
    if turns[-1].get("role") == "assistant":
        turns = turns[:-1]
    if len(turns) == 1:
        return _content(turns[0])
    return "\n\n".join(f"[{turn.get('role', '?')}] {_content(turn)}" for turn in turns)


def _content(turn: Mapping[str, Any]) -> str:
    content = turn.get("content")
    if isinstance(content, str):
        return content
    return "" if content is None else json.dumps(content)


def _name(path: Path, contents: Contents) -> str:
    return path.relative_to(contents.root).as_posix()


def _yaml(path: Path, contents: Contents) -> tuple[str, Mapping[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
        return text, mapping(yaml.safe_load(text))
    except FileNotFoundError:
        contents.missing.append(_name(path, contents))
    except (OSError, ValueError, yaml.YAMLError):
        contents.damaged.append(_name(path, contents))
    return "", {}


def _object(path: Path, contents: Contents) -> Mapping[str, Any]:
    if not path.is_file():
        contents.missing.append(_name(path, contents))
        return {}
    try:
        value = read_json(path)
    except IntegrityError:
        value = None
    if not isinstance(value, Mapping):
        contents.damaged.append(_name(path, contents))
        return {}
    return value


def _lines(path: Path, contents: Contents) -> Iterator[Mapping[str, Any]]:
    """The JSON objects of a JSONL file; lines that are none are counted, as a kill tears lines."""
    if not path.is_file():
        if _name(path, contents) not in contents.missing:
            contents.missing.append(_name(path, contents))
        return
    unreadable = 0
    with path.open(encoding="utf-8", errors="replace") as handle:
        for line in handle:
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
            if isinstance(record, Mapping):
                yield record
            else:
                unreadable += 1
    if unreadable:
        plural = "line" if unreadable == 1 else "lines"
        contents.damaged.append(f"{_name(path, contents)} ({unreadable} {plural})")


def _read_resolved(path: Path, contents: Contents) -> None:
    _, document = _yaml(path, contents)
    contents.facts = mapping(document.get("facts"))
    contents.resolved = {
        str(key): ResolvedValue(
            str(key),
            mapping(entry).get("value", entry),
            str(mapping(entry).get("source", "")),
            str(mapping(entry).get("reason") or ""),
        )
        for key, entry in mapping(document.get("values")).items()
    }


def _read_events(path: Path, contents: Contents) -> None:
    # A resumed run says some steps twice; the later one is what the model was trained with.
    steps: dict[float, Mapping[str, Any]] = {}
    validations: dict[float, Mapping[str, Any]] = {}
    stages: dict[str, float] = {}
    notes: list[str] = []
    for record in _lines(path, contents):
        event, step = record.get("event"), number(record.get("step"))
        if event == "step" and step is not None:
            steps[step] = record
        elif event == "validation" and step is not None:
            validations[step] = record
        elif event == "stage" and record.get("status") == "done":
            seconds = number(record.get("seconds"))
            if seconds is not None:
                stages[str(record.get("stage"))] = seconds
        elif event == "note":
            notes.append(str(record.get("message", "")))
    contents.steps = [steps[key] for key in sorted(steps)]
    contents.validations = [validations[key] for key in sorted(validations)]
    contents.stages, contents.notes = stages, list(dict.fromkeys(notes))


def _read_splits(path: Path, contents: Contents) -> None:
    counts = SplitCounts()
    for record in _lines(path, contents):
        split = str(record.get("split"))
        source = counts.by_source.setdefault(str(record.get("source", "")), Counter())
        source[split] += 1
        counts.total[split] += 1
        if split == "quarantine":
            counts.reasons[str(record.get("reason") or "no reason given")] += 1
    contents.splits = counts


def _read_findings(path: Path, contents: Contents) -> None:
    kinds: dict[tuple[str, str], FindingKind] = {}
    for record in _lines(path, contents):
        key = (str(record.get("kind")), str(record.get("severity")))
        found = kinds.setdefault(key, FindingKind(*key))
        found.count += 1
        found.evidence = found.evidence or str(record.get("evidence") or "")
        found.remedy = found.remedy or str(record.get("remedy") or "")
    order = {"error": 0, "warning": 1, "note": 2}
    contents.findings = sorted(
        kinds.values(), key=lambda item: (order.get(item.severity, 3), -item.count, item.kind)
    )


def _read_answers(path: Path, contents: Contents) -> dict[str, Answer]:
    answers: dict[str, Answer] = {}
    for record in _lines(path, contents):
        row_id = record.get("row_id")
        if not isinstance(row_id, str):
            continue
        reference = record.get("reference")
        several = reference if isinstance(reference, list) else [reference]
        references = tuple(str(item) for item in several if item is not None)
        prediction = record.get("prediction")
        prediction = None if prediction is None else str(prediction)
        chances = mapping(record.get("probabilities"))
        loss_sum, num_targets = number(record.get("loss_sum")), number(record.get("num_targets"))
        answers[row_id] = Answer(
            prediction,
            references,
            number(chances.get(references[0])) if references else None,
            _confidence(record, chances, prediction),
            loss_sum / num_targets if loss_sum is not None and num_targets else None,
        )
    return answers


def _confidence(
    record: Mapping[str, Any], chances: Mapping[str, Any], prediction: str | None
) -> float | None:
    said = number(record.get("confidence"))
    if said is None and prediction is not None:
        said = number(chances.get(prediction))
    return said


def _read_grades(path: Path, contents: Contents) -> None:
    grades: dict[str, dict[str, dict[str, float]]] = {}
    for record in _lines(path, contents):
        row_id, value = record.get("row_id"), number(record.get("value"))
        if isinstance(row_id, str) and value is not None and record.get("arm") in ARMS:
            arms = grades.setdefault(str(record.get("metric")), {})
            arms.setdefault(str(record.get("arm")), {})[row_id] = value
    contents.grades = grades
