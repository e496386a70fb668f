"""``fettle evaluate``."""

from fettle.cli import options
from fettle.cli.output import print_json


def evaluate(
    run: options.RunDir,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure a finished run's model on its holdout again, by its sealed plan.

    Example: fettle evaluate runs/tickets --json
    """
    from fettle import api

    result = api.evaluate(run, quiet=quiet)
    if as_json:
        print_json(result.verdict.to_json())
    else:
        print(result.verdict.headline)
