"""``fettle check``."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fettle.cli import options
from fettle.cli.output import print_json, talk

if TYPE_CHECKING:
    from fettle.api.data import Checked

_SLOW_ROWS = 50_000
"""From so many rows on the steps are told while they go on."""
_MAX_EVIDENCE = 100


def check(
    data: options.Data,
    base: options.Base = None,
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
    fix: Annotated[
        Path | None,
        typer.Option("--fix", help="Write a cleaned copy of the files there.", metavar="DIR"),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            "--against",
            help="An earlier run or check: which rows are new, gone or moved.",
            metavar="RUN|DIR",
        ),
    ] = None,
    target: Annotated[
        Path | None,
        typer.Option(
            "--target",
            help="Inputs the model will meet: are the rows like them?",
            metavar="FILE",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Default: checks/<data>.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as errors.")] = False,
    workers: Annotated[
        int, typer.Option("--workers", min=1, help="Processes for the checks of single rows.")
    ] = 1,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Read, understand, check and split the data; train nothing. Exit 3 when errors remain.

    Examples:

      fettle check tickets.csv

      fettle check tickets.csv --fix clean

      fettle check train.csv --eval test.csv --strict --json
    """
    from fettle import api

    found = api.check(
        data,
        out=out,
        fix=fix,
        against=against,
        target=target,
        strict=strict,
        workers=workers,
        settings=settings or (),
        progress=None if quiet else _progress(),
        base=base,
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
    if as_json:
        print_json(found.to_json())
    else:
        _show(found)
    if not quiet:
        talk(f"account   {found.directory}/findings.jsonl, splits.jsonl, quarantine.jsonl")
        talk(f"report    {found.directory}/report.html")
        if found.fixed is not None:
            talk(f"{'next':<9} fettle run {_files(found)} · fettle restore {found.fixed} --all")
    if found.exit_code:
        raise typer.Exit(found.exit_code)


def _progress() -> Callable[[str, int], None]:
    """Tells the steps of long work; a second is too short to be told of."""
    started = time.monotonic()

    def tell(step: str, rows: int) -> None:
        seconds = time.monotonic() - started
        if rows >= _SLOW_ROWS or seconds > 2:
            talk(f"{step:<11} {rows:>12,} rows  {seconds:6.1f} s")

    return tell


def _files(found: "Checked") -> str:
    """The cleaned files as `run` takes them."""
    given = {source.path for source in found.prepared.eval_sources}
    own = [f"{found.fixed}/{c.file}" for c in found.copies if c.file and c.source not in given]
    held = [f"--eval {found.fixed}/{c.file}" for c in found.copies if c.file and c.source in given]
    return " ".join([*own, *held])


def _show(found: "Checked") -> None:
    from fettle.progress import layout_lines

    result = found.to_json()
    for line in layout_lines(result["layout"]):
        print(line)
    print(f"\nwhat is trained stands in [[ ]]\n{found.preview}\n")
    counts = " · ".join(f"{side} {count:,}" for side, count in result["counts"].items())
    print(f"{result['rows']:,} rows: {counts}")
    for line in _account_lines(result):
        print(line)
    _show_findings(found)
    print(f"\n{found.errors:,} errors, {found.warnings:,} warnings: {found.level}")


def _account_lines(result: Mapping[str, Any]) -> list[str]:
    """What was set aside, mended, waived, changed since, and counted in tokens."""
    lines = []
    for word, counts in (("quarantine", result["quarantine"]), ("waived", result["waived"])):
        if counts:
            listed = ", ".join(f"{number:,} {kind}" for kind, number in sorted(counts.items()))
            lines.append(f"{word:<11} {listed}")
    if result["repaired"]:
        lines.append(f"{'repaired':<11} {result['repaired']:,} rows; the text before is kept")
    against = result["against"]
    if against is not None:
        listed = ", ".join(f"{against[kind]:,} {kind}" for kind in ("new", "gone", "moved"))
        lines.append(f"{'against':<11} {against['directory']}: {listed}, {against['same']:,} same")
    tokens = result["tokens"]
    if tokens is not None:
        listed = "".join(f", {number:,} {kind}" for kind, number in tokens["found"].items())
        lines.append(
            f"{'tokens':<11} {tokens['base']}: median {tokens['median']:g}, longest"
            f" {tokens['longest']:,} of at most {tokens['max_length']:,}{listed}"
        )
    compared = result["representation"]
    if compared is not None:
        coverage, apart = compared["coverage"], compared["distinguishability"]
        lines.append(
            f"{'target':<11} {coverage['share']:.1%} of {coverage['n']:,} rows are unlike all"
            f" training rows ({coverage['expected']:.1%} would be by chance); told apart with AUC"
            f" {apart['auc']:.2f} (0.5 = not at all)"
        )
    fixed = result["fixed"]
    for copy in fixed["files"] if fixed is not None else ():
        left = len(copy["not_repaired"])
        lines.append(
            f"{'cleaned':<11} {fixed['directory']}/{copy['file']}: {copy['rows']:,} rows"
            + (f", {left:,} repairs can't be written in its format" if left else "")
            if copy["file"]
            else f"{'cleaned':<11} no row of {copy['source']} is left"
        )
    return lines


def _show_findings(found: "Checked") -> None:
    """Each kind with its number, one example and what to do."""
    for kind, findings in found.kinds().items():
        first = max(findings, key=lambda finding: finding.severity == "error")
        where = f"{first.source}:{first.line}" if first.line else f"record {first.record}"
        evidence = first.evidence
        if len(evidence) > _MAX_EVIDENCE:
            evidence = evidence[: _MAX_EVIDENCE - 1] + "…"
        print(f"\n{len(findings):>7,} {kind} ({first.severity})")
        print(f"{'':>8}{where if first.row_id else 'all rows'}: {evidence}")
        print(f"{'':>8}{first.remedy}")
