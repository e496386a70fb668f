"""``fettle restore``."""

from pathlib import Path
from typing import Annotated

import typer

from fettle.cli import options
from fettle.cli.output import print_json, talk


def restore(
    directory: Annotated[
        Path,
        typer.Argument(
            help="A run, what `check` wrote, or the folder of a cleaned copy.", metavar="DIR"
        ),
    ],
    row: Annotated[
        list[str] | None, typer.Option("--row", help="A row id. Repeatable.", metavar="ID")
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", help="A kind of finding. Repeatable.", metavar="KIND"),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every row: the files as they were.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="A file, or a folder for several. Default: in the cleaned copy itself, else"
            " DIR-restored.",
        ),
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Bring rows back from quarantine, and undo repairs, byte for byte.

    Examples:

      fettle restore clean --all

      fettle restore checks/tickets --kind exact_duplicate --out tickets-again.csv
    """
    from fettle import api

    found = api.restore(directory, rows=row or (), kinds=kind or (), everything=everything, out=out)
    if as_json:
        print_json(found.to_json())
    else:
        for path in found.files:
            print(path)
    if not quiet:
        listed = ", ".join(f"{number:,} {name}" for name, number in sorted(found.kinds.items()))
        talk(f"{len(found.rows):,} rows came back" + (f" ({listed})" if listed else ""))
        if found.whole:
            talk("the files are the originals")
        else:
            talk(
                "a next check sets them aside again, unless data.waivers accepts them or"
                " data.policies says otherwise"
            )
