"""``fettle run``."""

from pathlib import Path
from typing import Annotated

import typer

from fettle.cli import options
from fettle.cli.output import finish


def run(
    data: options.Data,
    base: options.Base = None,
    task: options.Task = None,
    method: options.Method = None,
    metric: options.Metric = None,
    eval: options.Eval = None,
    guard: options.Guard = None,
    target_difference: options.TargetDifference = None,
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
    out: Annotated[
        Path | None, typer.Option("--out", help="Run directory. Default: runs/<data>.")
    ] = None,
    require: options.Require = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Raw data to a judged model: check, split, train, evaluate, report.

    Examples:

      fettle run tickets.csv

      fettle run train.csv --eval test.csv --base models/all-MiniLM-L6-v2

      fettle run faq.jsonl --task chat --method lora --set train.epochs=3

      fettle run recipe.yaml --out runs/monday --require improved
    """
    from fettle import api

    api.check_requirement(require)
    result = api.run(
        data,
        out=out,
        settings=settings or (),
        quiet=quiet,
        base=base,
        task=task,
        method=method,
        metric=metric,
        eval=eval,
        guard=guard,
        target_difference=target_difference,
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
    finish(result, as_json, quiet)
    api.check_required(result.verdict, require)
