"""``fettle predict``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fettle.cli import options
from fettle.cli.output import talk


def predict(
    run: options.RunDir,
    data: Annotated[list[str], typer.Argument(help="Data files or folders.", metavar="FILE")],
    out: Annotated[Path | None, typer.Option("--out", help="JSONL file; default: stdout.")] = None,
    text: options.Text = None,
    label: options.Label = None,
    prompt: options.Prompt = None,
    completion: options.Completion = None,
    messages: options.Messages = None,
    format: options.Format = None,
    quiet: options.Quiet = False,
) -> None:
    """Labels with probabilities, numbers, or answers: one JSON line for each row of the file.

    Examples:

      fettle predict runs/tickets new.csv

      fettle predict runs/tickets new.csv --text body --out answers.jsonl
    """
    from fettle import api
    from fettle.records.run_directory import write_atomic

    asked = {
        "text": text,
        "label": label,
        "prompt": prompt,
        "completion": completion,
        "messages": messages,
        "format": format,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    records = api.predict(run, data, **given)
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    # Half of a surrogate pair has no UTF-8 form; as an escape it is JSON all the same.
    lines = lines.encode("utf-8", errors="backslashreplace").decode("utf-8")
    if out is None:
        print(lines, end="")
    else:
        write_atomic(out, lines)
    failed = sum(record["prediction"] is None for record in records)
    if not quiet:
        rest = f'; {failed:,} could not be read: see their "error"' if failed else ""
        talk(f"{len(records) - failed:,} rows answered{rest}")
