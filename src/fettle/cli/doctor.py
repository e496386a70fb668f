"""``fettle doctor``."""

import typer

from fettle.cli import options
from fettle.cli.output import print_json

MARKS = {"ok": "ok     ", "warning": "warning", "missing": "MISSING"}


def doctor(as_json: options.Json = False) -> None:
    """What this machine has, and what is missing. Exit 4 when a run could not start.

    Example: fettle doctor --json
    """
    from fettle import api

    found = api.doctor()
    if as_json:
        print_json(found.to_json())
    else:
        for check in found.checks:
            fix = f"  -> {check.fix}" if check.outcome != "ok" and check.fix else ""
            print(f"{MARKS[check.outcome]} {check.name:<16} {check.detail}{fix}")
    if not found.healthy:
        raise typer.Exit(4)
