"""``fettle resume``."""

from fettle.cli import options
from fettle.cli.output import print_json


def resume(
    run: options.RunDir,
    require: options.Require = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Go on with a run that was stopped, from its newest whole checkpoint.

    Example: fettle resume runs/tickets
    """
    from fettle import api

    result = api.resume(run, require=require, quiet=quiet)
    if as_json:
        print_json(result.verdict.to_json())
    else:
        print(result.verdict.headline)
