"""How results, talk and errors are printed."""

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fettle.errors import FettleError, VerdictBelow
from fettle.progress import hush, say

if TYPE_CHECKING:
    from fettle.pipeline import Run


def fail(error: FettleError) -> int:
    """Print an error for people on stderr, and as JSON on stdout where --json was given."""
    talk(str(error))
    # A verdict below --require has its result on stdout already.
    if "--json" in sys.argv and not isinstance(error, VerdictBelow):
        try:
            print_json(error.to_json())
        except BrokenPipeError:
            hush(sys.stdout)
    return error.exit_code


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on stdout."""
    print(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False), flush=True)


def talk(text: str) -> None:
    """A line for people."""
    say(text, sys.stderr)


def finish(run: "Run", as_json: bool, quiet: bool) -> None:
    """The result of a run on stdout, and what to do next."""
    # On one terminal the progress has shown the verdict a line above.
    shown = not quiet and sys.stdout.isatty() and sys.stderr.isatty()
    if as_json:
        print_json(run.verdict.to_json())
    elif not shown:
        print(run.verdict.headline or run.verdict.verdict, flush=True)
    if quiet:
        return
    root = run.directory.root
    uses = {
        "chat": f"fettle chat {root} · ",
        "classify": f"fettle predict {root} FILE · ",
        "regress": f"fettle predict {root} FILE · ",
        "text": f"fettle run DATA --base {root} · ",
    }
    talk(f"{'next':<9} {uses[run.task]}open {run.directory.report}")
