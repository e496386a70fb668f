"""``fettle check``."""

from pathlib import Path
from typing import Annotated

import typer

from fettle.cli import options
from fettle.cli.output import print_json, talk


def check(
    data: options.Data,
    task: options.Task = None,
    eval: options.Eval = None,
    text: options.Text = None,
    label: options.Label = None,
    prompt: options.Prompt = None,
    completion: options.Completion = None,
    messages: options.Messages = None,
    group: options.Group = None,
    time: options.Time = None,
    split_column: options.SplitColumn = None,
    layout: options.Layout = None,
    format: options.Format = None,
    settings: options.Set = None,
    seed: options.Seed = None,
    out: Annotated[Path | None, typer.Option("--out", help="Default: checks/<data>.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as errors.")] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Read, understand, check and split the data; train nothing. Exit 3 when errors remain.

    Examples:

      fettle check tickets.csv

      fettle check train.csv --eval test.csv --strict --json
    """
    from fettle import api
    from fettle.progress import layout_lines

    found = api.check(
        data,
        out=out,
        settings=settings or (),
        task=task,
        eval=eval,
        text=text,
        label=label,
        prompt=prompt,
        completion=completion,
        messages=messages,
        group=group,
        time=time,
        split_column=split_column,
        layout=layout,
        format=format,
        seed=seed,
    )
    result = found.to_json()
    if as_json:
        print_json(result)
    else:
        for line in layout_lines(result["layout"]):
            print(line)
        print(f"\nwhat is trained stands in [[ ]]\n{found.preview}\n")
        counts = " · ".join(f"{side} {count:,}" for side, count in result["counts"].items())
        print(f"{result['rows']:,} rows: {counts}")
        for kind, count in sorted(result["findings"].items()):
            print(f"  {count:>7,} {kind}")
        print(f"{found.errors:,} errors, {found.warnings:,} warnings")
    if not quiet:
        talk(f"account   {found.directory}/findings.jsonl, splits.jsonl, quarantine.jsonl")
    if found.errors or (strict and found.warnings):
        raise typer.Exit(3)
