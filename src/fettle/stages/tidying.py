"""Keeping a run directory tidy: what a killed or failed run leaves behind.

In: a run directory, an error. Out: nothing but fewer files, or a trace in the log. Must not know:
stages, recipes.
"""

import shutil
import traceback
from collections.abc import Collection, Sequence
from pathlib import Path

from fettle.errors import FettleError
from fettle.records.journal import Journal, Listener
from fettle.records.run_directory import RunDirectory


def sweep(place: RunDirectory) -> None:
    """Remove what a killed process left half-written, under its temporary names."""
    for path in place.root.glob(".*.*-*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def is_bug(error: Exception) -> bool:
    """Whether the error is fettle's own (exit 1), not the input's or the machine's."""
    if isinstance(error, FettleError):
        return error.exit_code == 1
    return not isinstance(error, OSError | MemoryError)


def keep_trace(
    place: RunDirectory, error: Exception, listeners: Sequence[Listener], begun: bool
) -> None:
    """Write down what happened; before training nothing else but recipe and log is kept.

    Args:
        place: the run directory.
        error: what went wrong.
        listeners: told of it.
        begun: whether training had begun.
    """
    if not begun:
        _empty(place.root, keep=(place.recipe.name, place.events.name, place.log.name))
    journal = Journal(place.events, listeners)
    journal.emit(
        "error",
        {
            "message": f"{type(error).__name__}: {error}",
            "trace": "".join(traceback.format_exception(error)),
        },
    )
    journal.note(f"the trace of this error is in {place.events}, under the event error")


def _empty(root: Path, keep: Collection[str] = ()) -> None:
    for path in list(root.iterdir()):
        if path.name in keep:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def holds_something(root: Path) -> bool:
    """Whether there is more than what a kill before the first file of a run leaves."""
    return any(
        path.name != ".lock" and not path.name.startswith(".recipe.yaml.tmp-")
        for path in root.iterdir()
    )


def take_away(root: Path, made: Sequence[Path]) -> None:
    """Undo the making of a run directory: its content, and the folders that were made for it.

    Args:
        root: the run directory.
        made: folders that were made for it, the innermost first.
    """
    _empty(root)
    for folder in made:
        if any(folder.iterdir()):
            return
        folder.rmdir()
