"""``fettle.compare`` and ``fettle.report``: from files to a judgement for people (no torch)."""

from pathlib import Path

from fettle.evaluate.compare import compare_files
from fettle.records.outcomes import Verdict
from fettle.report import write_card, write_report


def compare(
    a: str | Path, b: str | Path, *, metric: str | None = None, alpha: float = 0.05
) -> Verdict:
    """Judge two prediction files or runs against each other; the difference is b - a."""
    return compare_files(a, b, metric, alpha)


def report(run: str | Path) -> Path:
    """Write report.html and the model card again from the run's files."""
    write_card(Path(run))
    return write_report(Path(run))
