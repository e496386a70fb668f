"""The runs behind a base: what they trained on, and which side each of their rows was on.

In: a base as the user named it, or an earlier run. Out: row ids. Must not know: models, how a new
row is placed.
"""

from collections.abc import Iterator
from pathlib import Path

from fettle.recipe.resolve import load_facts
from fettle.records.rows import Split
from fettle.records.run_directory import RunDirectory, read_jsonl

SEEN = ("train", "validation")
"""Sides whose rows decided about the weights."""


def run_of(base: str | None) -> Path | None:
    """The earlier run that a base's name stands for; None when it is no run.

    Args:
        base: ``base.id`` of a recipe: a run directory, or the ``model/`` in one.
    """
    if base is None or not Path(base).expanduser().is_dir():
        return None
    path = Path(base).expanduser().resolve()
    place = RunDirectory(path.parent if path.name == "model" else path)
    return place.root if place.recipe.is_file() or place.verdict.is_file() else None


def runs_behind(run: Path | None) -> Iterator[RunDirectory]:
    """An earlier run, the run that it started from, and so on; the newest first."""
    seen: set[Path] = set()
    while run is not None and run not in seen:
        seen.add(run)
        place = RunDirectory(run)
        yield place
        before = None
        if place.resolved.is_file():
            base = load_facts(place.resolved.read_text(encoding="utf-8"))["base"]
            before = base.get("incumbent_run")
        run = None if before is None else Path(before)


def trained_before(run: Path | None) -> set[str]:
    """Rows that an earlier run, and the runs before it, chose weights on."""
    return {
        row_id
        for place in runs_behind(run)
        for row_id, side in _sides(place).items()
        if side in SEEN
    }


def earlier_sides(run: Path | None) -> dict[str, Split]:
    """The side that each row of the earlier runs must keep.

    A row that any of them trained on stays out of the holdout for ever, whatever a later one made
    of it; else the newest run that knows a row decides.
    """
    sides: dict[str, Split] = {}
    for place in runs_behind(run):
        for row_id, side in _sides(place).items():
            kept = sides.setdefault(row_id, side)
            if kept == "holdout" and side in SEEN:
                sides[row_id] = side
    return sides


def _sides(place: RunDirectory) -> dict[str, Split]:
    splits = place.data / "splits.jsonl"
    if not splits.is_file():
        return {}
    return {
        row["row_id"]: row["split"] for row in read_jsonl(splits) if row["split"] != "quarantine"
    }
