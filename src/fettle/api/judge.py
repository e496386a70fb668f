"""``fettle.compare``, ``evaluate`` and ``report``: from files to a judgement (no torch)."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fettle import api
from fettle.errors import UsageError
from fettle.evaluate.compare import compare_files, load_prediction_file
from fettle.evaluate.measure import measure_file
from fettle.evaluate.selftest import SwapTest, swap_test
from fettle.progress import LINE_EVERY, say
from fettle.records.journal import Listener
from fettle.records.outcomes import Verdict
from fettle.records.run_directory import RunDirectory, read_json
from fettle.report import write_card, write_report


def compare(
    a: str | Path, b: str | Path, *, metric: str | None = None, alpha: float = 0.05
) -> Verdict:
    """Judge two prediction files or runs against each other; the difference is b - a."""
    return compare_files(a, b, metric, alpha)


def evaluate(
    path: str | Path,
    *,
    metric: str | None = None,
    alpha: float | None = None,
    quiet: bool = False,
    listener: Listener | None = None,
) -> Any:
    """Judge a finished run again, or measure a prediction file.

    Args:
        path: a run, whose model answers its holdout again, by the sealed plan; or a JSONL file of
            predictions, as ``compare`` takes.
        metric: for a file what is measured, default as in ``compare``. With a run, its answers as
            they lie there are measured by it; the verdict stays as it is.
        alpha: for a measurement: the interval has confidence 1 - alpha; 0.05.
        quiet: say nothing on stderr.
        listener: called with every event of the evaluation.

    Returns:
        ``Run`` with its new verdict; or ``Measurement``, the value with its interval.

    Raises:
        UsageError: E0112 no trained model here, E0117 alpha for a verdict that has its own.
        FettleError: as ``measure_file`` says.
    """
    place = Path(path)
    if metric is not None or place.is_file() or place.suffix == ".jsonl":
        return measure_file(place, metric, 0.05 if alpha is None else alpha)
    if alpha is not None:
        raise UsageError(
            "E0117",
            "alpha of a run is in its sealed plan",
            hint="leave --alpha out, or name a --metric to measure the run's answers by",
        )
    return api.judge_again(place, quiet=quiet, listener=listener)


def report(run: str | Path) -> Path:
    """Write report.html, report.md, report.json and the model card again from the run's files."""
    write_card(Path(run))
    return write_report(Path(run))


def selftest(
    what: str, run: str | Path, *, swaps: int = 2000, seed: int = 0, quiet: bool = False
) -> SwapTest:
    """Test fettle's own judgement: how often it would be wrong on a run's rows by chance.

    Args:
        what: "verdict": swap base and tuned answers at random and let the run's plan judge them.
        run: a finished run, or its directory of another project.
        swaps: how often.
        seed: of the swaps.
        quiet: no progress on stderr.

    Returns:
        ``SwapTest`` with the rate of false words and its bound.

    Raises:
        UsageError: E0118 an unknown test, E0112 no finished run, E1005 too few swaps.
        DataError: E1009 rows that can't be judged.
    """
    if what != "verdict":
        raise UsageError(
            "E0118", f"there is no selftest {what!r}", hint="use `fettle selftest verdict RUN`"
        )
    directory = RunDirectory(Path(run))
    arms = [directory.evaluation / f"predictions.{arm}.jsonl" for arm in ("base", "tuned")]
    if not directory.plan.is_file() or not all(path.is_file() for path in arms):
        raise UsageError(
            "E0112",
            f"{run} holds no evaluation",
            why="plan.json and evaluation/predictions.base.jsonl and .tuned.jsonl are needed",
            hint="name a finished run, such as runs/tickets",
        )
    base, tuned = (load_prediction_file(path) for path in arms)
    shown = None if quiet else _show_swaps()
    return swap_test(
        read_json(directory.plan), base, tuned, num_swaps=swaps, seed=seed, progress=shown
    )


def _show_swaps() -> Callable[[int, int], None]:
    """A line every ten seconds."""
    last = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_EVERY and done < total:
            last = time.monotonic()
            say(f"{'selftest':<9} {done:,} of {total:,} swaps", sys.stderr)

    return show
