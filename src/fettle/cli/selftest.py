"""``fettle selftest verdict``."""

from typing import Annotated

import typer

from fettle.cli import options
from fettle.cli.output import print_json

selftest = typer.Typer(help="Test fettle's own judgement on your data.", no_args_is_help=True)


@selftest.command()
def verdict(
    run: options.RunDir,
    swaps: Annotated[int, typer.Option(help="How often the arms are swapped.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of the swaps.")] = 0,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """How often would the verdict be wrong on this run's own rows, if nothing had changed?

    Base and tuned answers are swapped at random, row by row or group by group, and each time the
    whole policy speaks. Exit 1 when it says improved or worse more often than alpha allows.

    Example: fettle selftest verdict runs/tickets
    """
    from fettle import api

    found = api.selftest("verdict", run, swaps=swaps, seed=seed, quiet=quiet)
    if as_json:
        print_json(found.to_json())
    else:
        print(found)
    if not found.passed:
        raise typer.Exit(1)
