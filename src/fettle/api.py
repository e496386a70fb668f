"""The verbs as Python functions: ``fettle.run(...)`` does what ``fettle run ...`` does.

In: plain arguments, named as on the command line. Out: objects with a useful repr. Must not know:
the command line.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fettle import pipeline
from fettle.data.account import ACCOUNT_FILES, Prepared, write_account
from fettle.data.prepare import prepare
from fettle.errors import UsageError, VerdictBelow
from fettle.evaluate.compare import compare_files
from fettle.pipeline import Run
from fettle.progress import Progress, console, log_file
from fettle.recipe.load import load_recipe
from fettle.recipe.recipe import Recipe
from fettle.recipe.resolve import Settings
from fettle.records.journal import Listener
from fettle.records.outcomes import Verdict
from fettle.records.rows import Message
from fettle.records.run_directory import RunDirectory
from fettle.report import write_card, write_report
from fettle.stages.diagnose import Diagnosis, diagnose
from fettle.stages.use import (
    Speaker,
    load_base_speaker,
    load_speaker,
    opening,
    predict_file,
)

Paths = str | Path | Sequence[str | Path]

# The short names of the common options -> recipe keys.
KEYS = {
    "base": "base.id",
    "task": "task",
    "method": "method.type",
    "metric": "evaluate.metric",
    "seed": "seed",
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
PREDICT_KEYS = {"text", "label", "prompt", "completion", "messages", "format"}
STRENGTH = ("invalid", "worse", "too_few_rows", "no_clear_difference", "equivalent", "improved")


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
    paths = [str(source)] if isinstance(source, str | Path) else [str(path) for path in source]
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


def run(
    source: Paths,
    *,
    out: str | Path | None = None,
    settings: Sequence[str] = (),
    require: str | None = None,
    quiet: bool = False,
    listener: Listener | None = None,
    **options: Any,
) -> Run:
    """Raw data to a judged model.

    Args:
        source: data files or folders, or a recipe.
        out: run directory; None = ``runs/<name of the data>``, numbered when that is taken.
        settings: ``section.key=value`` texts, as with --set.
        require: a verdict; a weaker one raises after everything is written.
        quiet: say nothing on stderr.
        listener: called with every event.
        options: base, task, method, metric, seed, eval, text, label, prompt, completion, messages,
            group, time, split_column, layout, format.

    Returns:
        Verdict and paths.

    Raises:
        FettleError: see docs/reference/errors.md.

    Example:
        >>> result = fettle.run("tickets.csv", base="starter")  # doctest: +SKIP
        >>> result.verdict.verdict  # doctest: +SKIP
        'improved'
    """
    check_requirement(require)
    recipe = make_recipe(source, settings, **options)
    directory = Path(out) if out is not None else free_directory(recipe)
    result = pipeline.run(recipe, directory, _listeners(directory, quiet, listener))
    check_required(result.verdict, require)
    return result


def resume(
    run: str | Path,
    *,
    require: str | None = None,
    quiet: bool = False,
    listener: Listener | None = None,
) -> Run:
    """Go on with a run that was stopped."""
    check_requirement(require)
    directory = Path(run)
    result = pipeline.resume(directory, _listeners(directory, quiet, listener))
    check_required(result.verdict, require)
    return result


def evaluate(run: str | Path, *, quiet: bool = False, listener: Listener | None = None) -> Run:
    """Measure a finished run's model on its holdout again; the sealed plan still rules."""
    directory = Path(run)
    return pipeline.judge_again(directory, _listeners(directory, quiet, listener))


def plan(
    source: Paths,
    *,
    settings: Sequence[str] = (),
    quiet: bool = False,
    listener: Listener | None = None,
    **options: Any,
) -> Settings:
    """What ``run`` would do, without training: data, settings with reasons, power."""
    listeners = [item for item in (console(quiet), listener) if item is not None]
    return pipeline.plan(make_recipe(source, settings, **options), listeners)


@dataclass(frozen=True, slots=True)
class Checked:
    """The account of a data set."""

    directory: Path
    prepared: Prepared

    @property
    def errors(self) -> int:
        """Findings of severity error: rows that can't be used as they are."""
        return sum(f.severity == "error" for f in self.prepared.findings)

    @property
    def warnings(self) -> int:
        """Findings of severity warning."""
        return sum(f.severity == "warning" for f in self.prepared.findings)

    def to_json(self) -> dict[str, Any]:
        """For --json."""
        kinds: dict[str, int] = {}
        for finding in self.prepared.findings:
            kinds[finding.kind] = kinds.get(finding.kind, 0) + 1
        return {
            "task": self.prepared.task,
            "layout": self.prepared.layout.to_json(),
            "rows": len(self.prepared.splits),
            "counts": self.prepared.counts(),
            "findings": kinds,
            "errors": self.errors,
            "warnings": self.warnings,
            "directory": str(self.directory),
        }


def check(
    source: Paths,
    *,
    out: str | Path | None = None,
    settings: Sequence[str] = (),
    **options: Any,
) -> Checked:
    """Read, understand, check and split; write the account, train nothing.

    Args:
        source: data files or folders, or a recipe.
        out: directory of the account; None = ``checks/<name of the data>``, replaced.
    """
    recipe = make_recipe(source, settings, **options)
    directory = Path(out) if out is not None else Path("checks") / data_name(recipe)
    if directory.exists() and not _is_account(directory):
        raise UsageError(
            "E0111",
            f"{directory} is there already and holds no account of an earlier check",
            hint="choose another directory with --out",
        )
    prepared = prepare(recipe.data, recipe.task, recipe.seed)
    write_account(directory, prepared)
    return Checked(directory, prepared)


def compare(
    a: str | Path, b: str | Path, *, metric: str | None = None, alpha: float = 0.05
) -> Verdict:
    """Judge two prediction files or runs against each other; the difference is b - a."""
    return compare_files(a, b, metric, alpha)


def predict(run: str | Path, source: Paths, **options: Any) -> list[dict[str, Any]]:
    """One record for each row of the files, in their order.

    Args:
        run: a finished run of classify or chat.
        source: files or folders.
        options: text, label, prompt, completion, messages, format; where the columns have other
            names than in training.

    Returns:
        ``{"row_id", "prediction", "reference"?, "probabilities"?}``; for a row that can't be used
        ``{"row_id", "prediction": None, "error"}``.
    """
    unknown = options.keys() - PREDICT_KEYS
    if unknown:
        raise UsageError(
            "E0115",
            f"there is no option {sorted(unknown)[0]!r}",
            hint=f"known: {', '.join(sorted(PREDICT_KEYS))}",
        )
    paths = [str(source)] if isinstance(source, str | Path) else [str(path) for path in source]
    return list(predict_file(Path(run), paths, options))


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation with a run's model, and with its base where they are compared."""

    tuned: Speaker
    base: Speaker | None
    system: tuple[Message, ...]

    def say(self, text: str) -> str:
        """The tuned model's answer to one message."""
        return "".join(self.tuned.answer([*self.system, Message("user", text)]))


def chat(run: str | Path, *, compare: bool = False, max_new_tokens: int | None = None) -> Chat:
    """Load a chat run to converse with.

    Args:
        run: a finished chat run.
        compare: load the base as well.
        max_new_tokens: most tokens of an answer; None = as in the evaluation.
    """
    tuned = load_speaker(Path(run), max_new_tokens)
    base = load_base_speaker(Path(run), tuned) if compare else None
    return Chat(tuned, base, tuple(opening(Path(run))))


def report(run: str | Path) -> Path:
    """Write report.html and the model card again from the run's files."""
    write_card(Path(run))
    return write_report(Path(run))


def doctor() -> Diagnosis:
    """What this machine has, and what is missing."""
    return diagnose()


def _is_account(directory: Path) -> bool:
    if not directory.is_dir():
        return False
    names = {path.name for path in directory.iterdir()}
    return not names or names == set(ACCOUNT_FILES)


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


def _listeners(directory: Path, quiet: bool, listener: Listener | None) -> list[Listener]:
    shown: Progress | None = console(quiet)
    log = log_file(RunDirectory(directory).log)
    return [item for item in (shown, log, listener) if item is not None]


def check_requirement(require: str | None) -> None:
    """Refuse a verdict that does not exist, before any work is done.

    Raises:
        UsageError: E0116.
    """
    if require is not None and require not in STRENGTH:
        raise UsageError(
            "E0116",
            f"{require!r} is no verdict that can be required",
            hint=f"one of {', '.join(STRENGTH[1:])}",
        )


def check_required(verdict: Verdict, require: str | None) -> None:
    """Compare a verdict with the one that was required.

    Raises:
        VerdictBelow: E1010, it is weaker.
    """
    if require is None or verdict.verdict == require:
        return
    found = STRENGTH.index(verdict.verdict) if verdict.verdict in STRENGTH else -1
    if found < STRENGTH.index(require):
        raise VerdictBelow(
            "E1010",
            f"the verdict is {verdict.verdict}, below {require}",
            why=verdict.reason,
            hint="the report shows where it falls short; more rows or another base may help",
        )


def _plain(value: Any) -> Any:
    """Paths as text, tuples as lists."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dicts, the second laid over the first."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        result[key] = (
            _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
        )
    return result
