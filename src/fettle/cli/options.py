"""Options that several verbs share, and how they become keyword arguments of ``fettle.api``."""

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    list[str],
    typer.Argument(help="Data files or folders, or one recipe (.yaml).", metavar="DATA|RECIPE"),
]
RunDir = Annotated[
    Path, typer.Argument(help="A run directory, such as runs/tickets.", metavar="RUN")
]
_COLUMNS = "Columns"
_COMMON = "Common"

Base = Annotated[
    str | None,
    typer.Option(
        "--base",
        help="Hub id, directory, an earlier run, starter (built in), or random:DIR (from nothing).",
        rich_help_panel=_COMMON,
    ),
]
Task = Annotated[
    str | None,
    typer.Option("--task", help="auto, classify, regress, chat or text.", rich_help_panel=_COMMON),
]
Method = Annotated[
    str | None,
    typer.Option(
        "--method", help="auto, full, lora, last_n or one of peft.", rich_help_panel=_COMMON
    ),
]
Metric = Annotated[
    str | None,
    typer.Option("--metric", help="The metric that decides.", rich_help_panel=_COMMON),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Any recipe key, such as train.learning_rate=1e-4. Repeatable.",
        metavar="SECTION.KEY=VALUE",
        rich_help_panel=_COMMON,
    ),
]
Seed = Annotated[int | None, typer.Option("--seed", help="Default 0.", rich_help_panel=_COMMON)]
Json = Annotated[
    bool,
    typer.Option("--json", help="The result as JSON on stdout.", rich_help_panel=_COMMON),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Nothing on stderr.", rich_help_panel=_COMMON)
]
Require = Annotated[
    str | None,
    typer.Option("--require", help="Exit 10 when the verdict is weaker, such as improved."),
]
Eval = Annotated[
    list[str] | None,
    typer.Option("--eval", help="Your own holdout file. Repeatable.", rich_help_panel=_COLUMNS),
]

_VERDICT = "Verdict"
Guard = Annotated[
    list[str] | None,
    typer.Option(
        "--guard",
        help="A file on which the model must not get worse. Repeatable.",
        rich_help_panel=_VERDICT,
    ),
]
TargetDifference = Annotated[
    float | None,
    typer.Option(
        "--target-difference",
        help="Make the holdout large enough to show this difference, such as 0.05.",
        rich_help_panel=_VERDICT,
    ),
]


def column(name: str, text: str) -> object:
    """A column option: its name in the file, or its number where there is no header."""
    return Annotated[str | None, typer.Option(f"--{name}", help=text, rich_help_panel=_COLUMNS)]


Text = column("text", "Column with the text to classify, or the plain text.")
Label = column("label", "Column with the label.")
Prompt = column("prompt", "Column with what the user says.")
Completion = column("completion", "Column with the answer.")
Messages = column("messages", "Column with the conversation.")
Group = column("group", "Column whose values stay on one side (user, document).")
Time = column("time", "Column with the time; the holdout is then the latest rows.")
SplitColumn = column("split-column", "Column that says train, validation or holdout.")
Layout = column("layout", "text_label, prompt_completion, alpaca, messages, sharegpt or text.")
Format = column("format", "csv, json, jsonl, parquet or text.")
