"""``fettle.run``, ``resume`` and ``plan``, and what ``evaluate`` does with a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fettle import pipeline
from fettle.api.recipes import Paths, free_directory, make_recipe
from fettle.errors import UsageError, VerdictBelow
from fettle.pipeline import Run
from fettle.progress import Progress, console, log_file
from fettle.recipe.resolve import Settings
from fettle.records.journal import Listener
from fettle.records.outcomes import Verdict
from fettle.records.run_directory import RunDirectory

STRENGTH = ("invalid", "worse", "too_few_rows", "no_clear_difference", "equivalent", "improved")


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
        options: base, task, method, metric, seed, eval, guard, target_difference, text, label,
            prompt, completion, messages, group, time, split_column, layout, format.

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


def judge_again(run: str | Path, *, quiet: bool = False, listener: Listener | None = None) -> Run:
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
