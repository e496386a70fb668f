"""The runs behind a base: what they trained on, and which side each of their rows was on.

In: a base as the user named it, or an earlier run. Out: names of rows: their ids, and the keys of
their inputs, since a row whose record was changed (a column more, a label corrected) has another
id. Must not know: models, how a new row is placed.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from fettle.data.account.earlier import SPLITS, examples_of, sides_of
from fettle.data.deduplicate import input_key
from fettle.data.placing import SEEN, input_name
from fettle.models.load import MERGED
from fettle.recipe.resolve import load_facts
from fettle.records.rows import Example, Split
from fettle.records.run_directory import RunDirectory


def run_of(base: str | None) -> Path | None:
    """The earlier run that a base's name stands for; None when it is no run.

    Args:
        base: ``base.id`` of a recipe: a run directory, or the ``model/`` or ``merged/`` in one.
    """
    if base is None or not Path(base).expanduser().is_dir():
        return None
    path = Path(base).expanduser().resolve()
    inside = path.name in ("model", MERGED)
    place = RunDirectory(path.parent if inside else path)
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
    """Names of the rows that an earlier run, and the runs before it, chose weights on."""
    return {
        name
        for place in runs_behind(run)
        for name, side in sides_of(place.data).items()
        if side in SEEN
    }


def seen_among(examples: Iterable[Example], run: Path | None) -> set[str]:
    """Ids of those examples that an earlier run chose weights on, be it under another id."""
    names = trained_before(run)
    return {row.row_id for row in examples if names & {row.row_id, input_name(input_key(row))}}


def without_account(run: Path | None) -> list[Path]:
    """The runs behind a base whose account of rows is gone: what they saw can't be told."""
    return [place.root for place in runs_behind(run) if not (place.data / SPLITS).is_file()]


def earlier_sides(run: Path | None) -> dict[str, Split]:
    """The side that each row of the earlier runs must keep, by its names.

    A row that any of them trained on stays out of the holdout for ever, whatever a later one made
    of it; else the newest run that knows a row decides.
    """
    sides: dict[str, Split] = {}
    for place in runs_behind(run):
        for name, side in sides_of(place.data).items():
            kept = sides.setdefault(name, side)
            if kept == "holdout" and side in SEEN:
                sides[name] = side
    return sides


def earlier_rows(run: Path | None) -> list[Example]:
    """The rows of the earlier runs, each once: what is like one of them keeps to its side."""
    return list(
        {row.row_id: row for place in runs_behind(run) for row in examples_of(place.data)}.values()
    )
