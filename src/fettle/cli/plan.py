"""``fettle plan``."""

from dataclasses import asdict

from fettle.cli import options
from fettle.cli.output import print_json


def plan(
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
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """What run would do, without training: data, settings with their reasons, power.

    Examples:

      fettle plan tickets.csv

      fettle plan tickets.csv --base models/my-base --json
    """
    from fettle import api

    settings_found = api.plan(
        data,
        settings=settings or (),
        quiet=quiet or as_json,
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
    values = {key: asdict(value) for key, value in settings_found.settings.items()}
    if as_json:
        print_json(values)
        return
    for key, value in values.items():
        print(f"{key:<32} {value['value']!s:<14} {value['source']:<9} {value['reason']}".rstrip())
