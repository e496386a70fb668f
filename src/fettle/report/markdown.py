"""Markdown from values: text that shows literally, tables, and the environment of the templates.

In: any text, ``Table``. Out: Markdown. Must not know: what is written about.
"""

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fettle.report.tables import Table
from fettle.report.words import plain

TEMPLATES = Path(__file__).parent / "templates"


class Markdown(str):
    """Text that is Markdown already."""

    __slots__ = ()


def markdown_environment() -> Environment:
    """What Markdown files are made with: every value is shown literally."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=False,  # Markdown; every value goes through markdown() below
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_escaped,
    )
    environment.filters["table"] = lambda table: Markdown(markdown_table(table))
    environment.filters["verbatim"] = Markdown
    return environment


def _escaped(value: Any) -> Any:
    return value if isinstance(value, Markdown) or not isinstance(value, str) else markdown(value)


def markdown(text: object) -> str:
    """Text as one line of Markdown that shows it literally, in a table cell too."""
    line = " ".join(plain(text).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]|~#!$])", r"\\\1", line)


def markdown_table(table: Table) -> str:
    """A table with its columns aligned as on the page; without its caption."""

    def line(cells: tuple[str, ...]) -> str:
        return f"| {' | '.join(cells)} |"

    header = line(tuple(markdown(name) for name in table.columns))
    rule = line(tuple("---:" if i in table.numeric else "---" for i in range(len(table.columns))))
    rows = (line(tuple(markdown(cell) for cell in row)) for row in table.rows)
    return "\n".join([header, rule, *rows])
