"""``fettle evaluate``."""

from fettle.cli import options
from fettle.cli.output import finish


def evaluate(
    run: options.RunDir,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure a finished run's model on its holdout again, by its sealed plan.

    Example: fettle evaluate runs/tickets --json
    """
    from fettle import api

    finish(api.evaluate(run, quiet=quiet), as_json, quiet)
