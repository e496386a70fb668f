"""``fettle resume``."""

from fettle.cli import options
from fettle.cli.output import finish


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

    api.check_requirement(require)
    result = api.resume(run, quiet=quiet)
    finish(result, as_json, quiet)
    api.check_required(result.verdict, require)
