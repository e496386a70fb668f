"""How results, talk and errors are printed."""

import json
import sys
from collections.abc import Mapping
from typing import Any

from fettle.errors import FettleError


def fail(error: FettleError) -> int:
    """Print an error for people on stderr, and as JSON on stdout where --json was given."""
    print(error, file=sys.stderr, flush=True)
    if "--json" in sys.argv:
        print_json(error.to_json())
    return error.exit_code


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on stdout."""
    print(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False), flush=True)


def talk(text: str) -> None:
    """A line for people."""
    print(text, file=sys.stderr, flush=True)
