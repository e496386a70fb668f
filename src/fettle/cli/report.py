"""``fettle report``."""

from fettle.cli import options
from fettle.cli.output import print_json, talk


def report(run: options.RunDir, as_json: options.Json = False) -> None:
    """Write the report (HTML, Markdown, JSON) and the model card again, and print the page's path.

    Example: fettle report runs/tickets
    """
    from fettle import api
    from fettle.report.report import DATA, TEXT

    path = api.report(run)
    if as_json:
        beside = {"text": TEXT, "data": DATA, "card": "README.md"}
        print_json({"report": str(path)} | {k: str(path.parent / v) for k, v in beside.items()})
        return
    talk(f"wrote     {path.name}, {TEXT}, {DATA} and README.md (the model card) in {path.parent}")
    print(path)
