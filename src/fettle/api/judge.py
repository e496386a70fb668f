"""``fettle.compare``, ``evaluate`` and ``report``: from files to a judgement (no torch)."""

from pathlib import Path
from typing import Any

from fettle import api
from fettle.errors import UsageError
from fettle.evaluate.compare import compare_files
from fettle.evaluate.measure import measure_file
from fettle.records.journal import Listener
from fettle.records.outcomes import Verdict
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
    """Write report.html and the model card again from the run's files."""
    write_card(Path(run))
    return write_report(Path(run))
