"""``fettle evaluate``."""

from pathlib import Path
from typing import Annotated

import typer

from fettle.cli import options
from fettle.cli.output import finish, print_json


def evaluate(
    path: Annotated[
        Path, typer.Argument(help="A run, or a JSONL file of predictions.", metavar="RUN|FILE")
    ],
    metric: options.Metric = None,
    alpha: Annotated[
        float | None,
        typer.Option(help="Of a measurement; its interval has confidence 1 - alpha. Default 0.05."),
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure a finished run's model on its holdout again, by its sealed plan; or measure a file.

    Examples:

      fettle evaluate runs/tickets --json

      fettle evaluate answers.jsonl --metric exact_match
    """
    from fettle import api
    from fettle.evaluate.measure import Measurement

    found = api.evaluate(path, metric=metric, alpha=alpha, quiet=quiet)
    if not isinstance(found, Measurement):
        finish(found, as_json, quiet)
    elif as_json:
        print_json(found.to_json())
    else:
        print(found)
