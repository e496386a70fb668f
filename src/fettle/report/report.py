"""report.html, report.md and report.json: everything about one run, for people and for programs.

In: a run directory (its files alone). Out: the three files in it, from the same values. The page
has no script and loads nothing: one style, inline SVG, a content security policy that allows no
more than that. Must not know: models, how any figure was computed.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from fettle.records.outcomes import SCHEMA
from fettle.records.run_directory import RunDirectory, write_atomic
from fettle.report.changed_rows import ShownText
from fettle.report.contents import read_contents
from fettle.report.markdown import TEMPLATES, markdown_environment
from fettle.report.page_values import page_values
from fettle.report.tables import Figure

TEXT, DATA = "report.md", "report.json"
"""Beside report.html: the same for readers of text, and for programs."""


def write_report(directory: Path) -> Path:
    """Write report.html, report.md and report.json of a run from the files in its directory.

    Args:
        directory: the run directory; verdict.json must be there, every other file may be missing
            (the report then says what is not shown because of that).

    Returns:
        The path of the page; the other two lie beside it.

    Raises:
        UsageError: E0120, the run has no verdict.json yet.
        IntegrityError: E0901, verdict.json can't be read back.
        MachineError: E0401, the report can't be written.

    Example:
        >>> write_report(Path("runs/tickets"))  # doctest: +SKIP
        PosixPath('runs/tickets/report.html')
    """
    contents = read_contents(directory)
    values = page_values(contents)
    run = RunDirectory(directory)
    write_atomic(run.report, _encodable(as_page(values)))
    write_atomic(run.root / TEXT, _encodable(as_text(values)))
    word = str(contents.verdict.get("verdict"))
    write_atomic(run.root / DATA, _encodable(as_json(values, word)))
    return run.report


def as_page(values: Mapping[str, Any]) -> str:
    """The values as report.html."""
    return page_environment().get_template("report.html.jinja").render(values)


def as_text(values: Mapping[str, Any]) -> str:
    """The values as report.md."""
    return markdown_environment().get_template("report.md.jinja").render(values)


def as_json(values: Mapping[str, Any], word: str) -> str:
    """The values as report.json; a figure is its caption, its spoken text and its numbers."""
    document = {"schema": SCHEMA, "verdict": word, **{k: _plain(v) for k, v in values.items()}}
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def _plain(value: Any) -> Any:
    """Dataclasses as objects, sets as sorted lists."""
    if isinstance(value, ShownText):
        return value.text
    if isinstance(value, Figure):
        return {
            "caption": value.caption,
            "spoken": value.spoken,
            "source": value.source,
            "table": _plain(value.table),
        }
    if is_dataclass(value):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def page_environment() -> Environment:
    """What pages are made with: every value is escaped."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Only our own figures are let through unescaped; everything else is text.
    environment.filters["svg"] = lambda figure: Markup(figure.svg)
    environment.filters["breakable"] = _breakable
    environment.filters["tied"] = lambda text: text.replace(" %", "\u00a0%")
    return environment


def _breakable(text: str) -> Markup:
    """Long names break after an underscore or a slash; <wbr> is not copied with the text."""
    return Markup(re.sub(r"([_/])", r"\1<wbr>", str(escape(text))))
