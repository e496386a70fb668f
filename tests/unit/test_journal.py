"""events.jsonl: lines that stay, a torn last line that hurts nothing."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fettle.errors import MachineError
from fettle.records.journal import Journal, read_events


def test_events_are_written_before_they_are_heard(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    heard: list[Mapping[str, Any]] = []

    def listener(event: Mapping[str, Any]) -> None:
        heard.append(event)
        assert read_events(path)[-1] == event

    journal = Journal(path, [listener, heard.append])
    journal.emit("step", {"step": 1, "loss": 0.5})
    journal.note("äöü")
    events = read_events(path)
    assert [event["event"] for event in events] == ["step", "note"]
    assert events == [heard[0], heard[2]]
    assert all(event["schema"] == 1 and event["time"] > 0 for event in events)
    assert "äöü" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("torn", [b'{"event": "ste', b'{"event": "note", "message": "\xc3'])
def test_a_torn_last_line_is_left_out_and_kept_apart(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "events.jsonl"
    Journal(path).note("one")
    with path.open("ab") as handle:
        handle.write(torn)
    assert [event["message"] for event in read_events(path)] == ["one"]
    journal = Journal(path)
    journal.note("two")
    journal.note("three")
    assert [event["message"] for event in read_events(path)] == ["one", "two", "three"]


def test_text_that_has_no_utf8_form_stays_json(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    Journal(path).note("half a pair \ud83d, a line separator \u2028")
    (line,) = path.read_bytes().decode("utf-8").split("\n")[:-1]
    assert json.loads(line)["message"] == "half a pair \ud83d, a line separator \u2028"
    assert len(read_events(path)) == 1


def test_no_file_is_no_events(tmp_path: Path) -> None:
    assert read_events(tmp_path / "none.jsonl") == []


def test_lines_of_another_kind_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('[1]\n"x"\n{"event": "note"}\n', encoding="utf-8")
    assert read_events(path) == [{"event": "note"}]


def test_a_refused_write_says_so(tmp_path: Path) -> None:
    with pytest.raises(MachineError) as caught:
        Journal(tmp_path / "gone" / "events.jsonl").note("x")
    assert caught.value.code == "E0401"
