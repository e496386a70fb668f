"""``fettle report``."""

from fettle.cli import options
from fettle.cli.output import print_json


def report(run: options.RunDir, as_json: options.Json = False) -> None:
    """Write report.html and the model card again, and print the report's path.

    Example: fettle report runs/tickets
    """
    from fettle import api

    path = api.report(run)
    if as_json:
        print_json({"report": str(path), "card": str(path.parent / "README.md")})
    else:
        print(path)
