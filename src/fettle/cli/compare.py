"""``fettle compare``."""

from pathlib import Path
from typing import Annotated

import typer

from fettle.cli import options
from fettle.cli.output import print_json


def compare(
    a: Annotated[Path, typer.Argument(help="A run, or a JSONL file of predictions.")],
    b: Annotated[Path, typer.Argument(help="Another on the same rows; the difference is B - A.")],
    metric: options.Metric = None,
    alpha: Annotated[float, typer.Option(help="Two-sided level.")] = 0.05,
    as_json: options.Json = False,
) -> None:
    """Judge two prediction files or runs against each other, paired by row_id.

    Example: fettle compare old.jsonl new.jsonl --metric exact_match
    """
    from fettle import api

    verdict = api.compare(a, b, metric=metric, alpha=alpha)
    if as_json:
        print_json(verdict.to_json())
    else:
        print(verdict.headline or verdict.verdict)
        print(verdict.reason)
