"""``fettle report``."""

from fettle.cli import options


def report(run: options.RunDir) -> None:
    """Write report.html and the model card again, and print the report's path.

    Example: fettle report runs/tickets
    """
    from fettle import api

    print(api.report(run))
