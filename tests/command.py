"""The command line inside this process: exit code, stdout, stderr; and small files to feed it."""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.tiny import CHATML, tiny_rows, tiny_tokenizer
from tests.tiny_models import tiny_model

from fettle.cli.main import main


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str


class Command:
    """Calls ``fettle ...`` as the shell would, without a new process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *words: str | Path) -> Outcome:
        """Run one command."""
        self._monkeypatch.setattr(sys, "argv", ["fettle", *map(str, words)])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = self._capsys.readouterr()
        assert isinstance(caught.value.code, int)
        return Outcome(caught.value.code, out, err)


def assert_one_error(outcome: Outcome, code: str, exit_code: int) -> None:
    """Exactly one error block with a hint on stderr, the right exit code, no traceback."""
    blocks = re.findall(r"^\[(E\d{4})\] \S.*$", outcome.err, re.MULTILINE)
    assert blocks == [code], outcome.err
    tail = outcome.err[outcome.err.index(f"[{code}]") :]
    assert re.search(r"^hint: \S", tail, re.MULTILINE), f"no hint: {outcome.err}"
    assert "Traceback" not in outcome.err + outcome.out
    assert outcome.code == exit_code, outcome.err


def write_tickets(path: Path, copies: int = 3, label: bool = True) -> Path:
    """A CSV file with ``copies`` times 40 rows of 5 classes; all texts differ."""
    lines = ["text,label" if label else "text"]
    for number in range(copies):
        for row in tiny_rows()[1]:
            text = f"{row.text} Ticket {number}."
            lines.append(f"{text},{row.target}" if label else text)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_questions(path: Path, copies: int = 2, answers: bool = True) -> Path:
    """A JSONL file with ``copies`` times 40 conversations of one question and one answer."""
    with path.open("w", encoding="utf-8") as handle:
        for number in range(copies):
            for row in tiny_rows()[0]:
                record = {"prompt": f"{row.messages[0].content} ({number})"}
                if answers:
                    record["completion"] = row.messages[1].content
                handle.write(json.dumps(record) + "\n")
    return path


def write_documents(path: Path, number: int = 60) -> Path:
    """A JSONL file of plain texts of some sentences."""
    rows = tiny_rows()[0]
    with path.open("w", encoding="utf-8") as handle:
        for index in range(number):
            row = rows[index % len(rows)]
            text = f"{index}. {row.messages[0].content} {row.messages[1].content}"
            handle.write(json.dumps({"text": text}) + "\n")
    return path


def tiny_base(directory: Path, kind: str = "decoder", template: str | None = CHATML) -> Path:
    """A random base of two layers with its tokenizer."""
    tiny_tokenizer(directory, template)
    return tiny_model(directory, kind)
